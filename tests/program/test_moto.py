"""Against moto's server, an AWS that we did not write: our rows are what boto3's own paginators list there."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from typing import Any
from urllib.request import urlopen

import boto3
import pytest

from tests.program.conftest import Program, Row

REGIONS = ("us-east-1", "eu-west-1", "ap-southeast-2")
ACCOUNTS = ("111111111111", "222222222222", "333333333333")
HUB = "123456789012"  # moto's own account


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    """A real process on a port of its own choosing."""
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "MOTO_IAM_LOAD_MANAGED_POLICIES": "false"},
    )
    assert server.stderr
    url = next(word for line in server.stderr for word in line.split() if word.startswith("http://127"))
    yield url.rstrip("/")
    server.terminate()
    server.stderr.close()
    server.wait()


def client(url: str, service: str, region: str, account: str | None = None) -> Any:
    keys = {"aws_access_key_id": "hub", "aws_secret_access_key": "hub", "region_name": region, "endpoint_url": url}
    if account:
        assumed = boto3.client("sts", **keys).assume_role(
            RoleArn=f"arn:aws:iam::{account}:role/inventory", RoleSessionName="truth"
        )["Credentials"]
        keys |= {
            "aws_access_key_id": assumed["AccessKeyId"],
            "aws_secret_access_key": assumed["SecretAccessKey"],
            "aws_session_token": assumed["SessionToken"],
        }
    return boto3.client(service, **keys)


def fill(url: str) -> None:
    """Images in some repositories of each account and region: multi-tagged, untagged, none."""
    for a, account in enumerate(ACCOUNTS):
        for r, region in enumerate(REGIONS):
            ecr = client(url, "ecr", region, account)
            for n in range((a + r) % 3):
                name = f"team-{a}/app-{n}"
                ecr.create_repository(repositoryName=name)
                for image in range(n * 3 + a):
                    put(ecr, name, f"{account}{region}{name}{image}", ["latest", f"v{image}"] if image % 2 else [])


def put(ecr: Any, name: str, content: str, tags: list[str]) -> None:
    digest = "sha256:" + hashlib.sha256(content.encode()).hexdigest()
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "config": {"mediaType": "application/vnd.docker.container.image.v1+json", "size": 1, "digest": digest},
            "layers": [{"mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip", "size": 1, "digest": digest}],
        }
    )
    for tag in tags or [None]:
        ecr.put_image(repositoryName=name, imageManifest=manifest, **({"imageTag": tag} if tag else {}))


def truth(url: str, tag_status: str = "ANY") -> Counter[Row]:
    rows: Counter[Row] = Counter()
    for account in ACCOUNTS:
        for region in REGIONS:
            ecr = client(url, "ecr", region, account)
            for page in ecr.get_paginator("describe_repositories").paginate():
                for name in (repository["repositoryName"] for repository in page["repositories"]):
                    listing = ecr.get_paginator("list_images").paginate(
                        repositoryName=name, filter={"tagStatus": tag_status}
                    )
                    for image_id in (image_id for images in listing for image_id in images["imageIds"]):
                        row = (account, region, name, image_id["imageDigest"], image_id.get("imageTag"))
                        rows[row] += 1
    return rows


@pytest.fixture
def filled(moto: str, program: Program) -> str:
    with urlopen(f"{moto}/moto-api/reset", data=b"") as answer:  # noqa: S310  (loopback)
        assert answer.status == 200
    fill(moto)
    program.environment |= {
        "AWS_ENDPOINT_URL": moto,
        "AWS_ACCESS_KEY_ID": "hub",
        "AWS_SECRET_ACCESS_KEY": "hub",
        "AWS_REGION": "us-east-1",
    }
    return moto


def accounts_yaml(regions: str) -> str:
    return "accounts:\n" + "".join(
        f"- {{account_id: {account}, role: inventory, regions: {regions}}}\n" for account in ACCOUNTS
    )


@pytest.mark.parametrize("regions", [f"[{', '.join(REGIONS)}]", "[all]"])
def test_rows_are_what_boto3_lists(filled: str, program: Program, regions: str) -> None:
    crawled = program.crawl(accounts_yaml(regions))
    expected = truth(filled)
    assert crawled.code == 0, crawled.stderr
    assert crawled.rows == expected
    assert len(expected) > 20
    assert {line["outcome"] for line in crawled.ledger} == {"OK", "EMPTY"}


@pytest.mark.parametrize("tag_status", ["TAGGED", "UNTAGGED"])
def test_the_tag_status_is_heeded(filled: str, program: Program, tag_status: str) -> None:
    crawled = program.crawl(
        accounts_yaml(f"[{REGIONS[0]}, {REGIONS[1]}, {REGIONS[2]}]"), "--tag-status", tag_status.lower()
    )
    assert crawled.rows == truth(filled, tag_status)
    assert all((row[4] is None) == (tag_status == "UNTAGGED") for row in crawled.rows)


def described(url: str) -> set[tuple[Any, ...]]:
    """What boto3's paginator tells of every image."""
    found: set[tuple[Any, ...]] = set()
    for account in ACCOUNTS:
        for region in REGIONS:
            ecr = client(url, "ecr", region, account)
            for page in ecr.get_paginator("describe_repositories").paginate():
                for name in (repository["repositoryName"] for repository in page["repositories"]):
                    for images in ecr.get_paginator("describe_images").paginate(repositoryName=name):
                        found |= {
                            (account, region, name, image["imageDigest"], tuple(sorted(image.get("imageTags", []))),
                             image["imageSizeInBytes"], image["imagePushedAt"].timestamp())
                            for image in images["imageDetails"]
                        }  # fmt: skip
    return found


def test_details_are_what_boto3_describes(filled: str, program: Program) -> None:
    crawled = program.crawl(accounts_yaml(f"[{', '.join(REGIONS)}]"), "--rows", "details")
    assert crawled.code == 0, crawled.stderr
    rows = [json.loads(line) for line in crawled.stdout.splitlines()]
    found = {
        (*list(row.values())[:4], tuple(row["imageTags"]), row["imageSizeInBytes"],
         datetime.fromisoformat(row["imagePushedAt"]).timestamp())
        for row in rows
    }  # fmt: skip
    assert found == described(filled)
    assert len(found) == len(rows) > 10


def test_a_whole_organization(filled: str, program: Program) -> None:
    organizations = client(filled, "organizations", "us-east-1")
    organizations.create_organization(FeatureSet="ALL")
    ids = [
        organizations.create_account(AccountName=f"member-{n}", Email=f"{n}@example.com")["CreateAccountStatus"][
            "AccountId"
        ]
        for n in range(25)  # two pages of ListAccounts
    ]
    for account in ids[::5]:
        ecr = client(filled, "ecr", "eu-west-1", account)
        ecr.create_repository(repositoryName="service")
        put(ecr, "service", account, ["v1"])
    crawled = program.crawl(f"organization: {{member_role: inventory, regions: [eu-west-1], exclude: ['{HUB}']}}\n")
    assert crawled.code == 0, crawled.stderr
    assert {row[0] for row in crawled.rows} == set(ids[::5])
    assert {line["registryId"] for line in crawled.ledger} == set(ids)
