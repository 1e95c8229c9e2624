"""Hints kept where the runs are published."""

from __future__ import annotations

import json

import pytest

from crawler.emulator import Emulator, Estate
from tests.lake.conftest import Zygote
from tests.lake.servers import BUCKET, S3
from tests.lake.test_crash import requests

NAME = "night/hints.json"
CRAWL = ("--accounts", "accounts.yaml", "--output", "rows.ndjson", "--hints")


@pytest.fixture
def bucket(program: Zygote, weed: S3) -> S3:
    program.environment |= weed.environment()
    return weed


def test_a_run_finds_what_the_last_one_left(program: Zygote, bucket: S3, estate: Estate) -> None:
    assert program.run(*CRAWL, f"s3://{BUCKET}/{NAME}") == 0, program.said()
    kept = json.loads(bucket.read(NAME))
    assert set(kept["estate"]) <= set(estate.accounts)
    assert kept["pages"] > 0
    assert program.run(*CRAWL, f"s3://{BUCKET}/{NAME}") == 0
    assert "hints" not in program.said()
    assert json.loads(bucket.read(NAME)) == kept


def test_a_damaged_one_is_told_and_replaced(program: Zygote, bucket: S3) -> None:
    bucket.client.put_object(Bucket=BUCKET, Key=NAME, Body=b"{]")
    assert program.run(*CRAWL, f"s3://{BUCKET}/{NAME}") == 0
    assert f"--hints s3://{BUCKET}/{NAME} is not what a crawl has written: the crawl begins without" in program.said()
    assert json.loads(bucket.read(NAME))["version"] == 1


@pytest.mark.parametrize("name", ["s3://", f"s3://{BUCKET}", f"s3://{BUCKET}/"])
def test_a_bucket_is_no_object(program: Zygote, emulator: Emulator, name: str) -> None:
    before = requests(emulator)
    assert program.run(*CRAWL, name) == 2
    assert "name an object, as in s3://bucket/prefix/hints.json" in program.said()
    assert requests(emulator) == before


def test_a_bucket_that_cannot_be_read_is_told_before_the_crawl(program: Zygote, bucket: S3, emulator: Emulator) -> None:
    before = requests(emulator)
    assert program.run(*CRAWL, "s3://nowhere/hints.json") == 1
    assert "NoSuchBucket" in program.said()
    assert requests(emulator) == before
    assert bucket
