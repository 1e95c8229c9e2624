"""The whole program with `--rows details`: one row for each image, whatever goes wrong on the way."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from crawler.emulator import Account, Estate, Options, Repository, Series, running
from crawler.emulator.images import MIXED
from tests.program.conftest import Crawled, Program

REGIONS = ["us-east-1", "eu-west-1"]
ONE, TWO = "000000000001", "000000000002"
DETAILS = ("--rows", "details")
KEYS = (
    "registryId", "region", "repositoryName", "imageDigest", "imageTags", "imageSizeInBytes", "imagePushedAt",
    "lastRecordedPullTime", "imageManifestMediaType", "artifactMediaType", "subjectManifestDigest", "imageStatus",
    "lastArchivedAt", "lastActivatedAt",
)  # fmt: skip
TIMES = ("imagePushedAt", "lastRecordedPullTime", "lastArchivedAt", "lastActivatedAt")


def account(id_: str, **more: Any) -> Account:
    sizes = {"team-a/api": 1100, "team-a/web": 30, "cache": 0}
    repositories = {name: Repository(name, Series(f"{id_}/{name}", size, MIXED)) for name, size in sizes.items()}
    return Account(id_, f"name-{id_[-1]}", repositories=dict.fromkeys(REGIONS, repositories), **more)


def row(region: str, told: dict[str, Any]) -> dict[str, Any]:
    """An image of the truth as the row that it has to be."""
    image = {"region": region, **told, "imageTags": sorted(told.get("imageTags", []))}
    for key in TIMES:
        if key in image:
            image[key] = datetime.fromtimestamp(image[key], UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
    return {key: image.get(key) for key in KEYS}


def truth(estate: Estate, wanted: Callable[[dict[str, Any]], bool] = lambda _: True, **filters: str) -> list[str]:
    rows = (row(region, told) for region, told in estate.details(**filters))
    return sorted(json.dumps(each) for each in rows if wanted(each))


def found(crawled: Crawled) -> list[str]:
    return sorted(json.dumps(json.loads(line)) for line in crawled.stdout.splitlines())


def crawl(program: Program, estate: Estate, *arguments: str, **options: Any) -> tuple[Crawled, dict[str, Any]]:
    with running(estate, Options(**options)) as emulator:
        program.environment |= emulator.environment()
        return program.crawl(estate.accounts_yaml(), "--account", "name-*", *arguments), emulator.stats()


@pytest.fixture(scope="module")
def estate() -> Estate:
    return Estate([account(ONE), account(TWO)], regions=REGIONS)


def test_every_image_is_one_row(program: Program, estate: Estate) -> None:
    crawled, stats = crawl(program, estate, *DETAILS)
    assert crawled.code == 0, crawled.stderr
    assert found(crawled) == truth(estate)
    assert tuple(json.loads(crawled.stdout.splitlines()[0])) == KEYS
    assert crawled.report["rows"] == sum(line["rows"] for line in crawled.ledger) == len(crawled.stdout.splitlines())
    assert "ecr:ListImages" not in stats["requests"]
    assert crawled.report["requests"] == sum(stats["requests"][f"ecr:{name}"] for name in OPERATIONS)


OPERATIONS = ("DescribeRepositories", "DescribeImages")


def test_filters_hold_and_the_right_to_list_ids_is_neither_needed_nor_enough(program: Program) -> None:
    made = Estate([account(ONE, deny=("ecr:ListImages",)), account(TWO, deny=("ecr:DescribeImages",))], regions=REGIONS)
    filters = ("--tag-status", "untagged", "--image-status", "archived", "--region", "us-*")
    crawled, _ = crawl(program, made, *DETAILS, *filters)
    assert crawled.code == 3
    filtered = {"tag_status": "UNTAGGED", "image_status": "ARCHIVED"}
    expected = truth(made, lambda each: each["registryId"] == ONE and each["region"] == "us-east-1", **filtered)
    assert found(crawled) == expected
    assert expected
    denied = {unit for unit, outcome in crawled.outcomes().items() if outcome == "DENIED"}
    assert denied == {(TWO, "us-east-1", name) for name in ("team-a/api", "team-a/web", "cache")}


@pytest.mark.slow
def test_what_goes_wrong_costs_no_image(program: Program, estate: Estate) -> None:
    faults = [
        "throttling:operation=DescribeImages,times=2",
        "token-rejected:operation=DescribeImages,repository=team-a/api,account=000000000001",
        "malformed-json:operation=DescribeImages,repository=team-a/web",
        "empty-page:operation=DescribeImages,repository=team-a/api,account=000000000002",
        "reset-mid-body:operation=DescribeImages,repository=cache",
    ]
    crawled, stats = crawl(program, estate, *DETAILS, faults=faults, seed=3)
    assert crawled.code == 0, crawled.stderr
    assert found(crawled) == truth(estate)
    assert crawled.report["restarts"] > 0
    assert set(stats["faults"]) == {fault.partition(":")[0] for fault in faults}
