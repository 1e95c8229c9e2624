"""Against moto's server, an AWS that we did not write: our rows are what boto3's own paginators list there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from tests.program.conftest import Program
from tests.program.moto_company import (
    ACCOUNTS,
    HUB,
    REGIONS,
    accounts_yaml,
    client,
    environment,
    fill,
    guard,
    put,
    served,
    truth,
)


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    with served() as url:
        yield url


@pytest.fixture
def filled(moto: str, program: Program) -> str:
    fill(moto)
    program.environment |= environment(moto)
    return moto


@pytest.mark.parametrize("regions", [f"[{', '.join(REGIONS)}]", pytest.param("[all]", marks=pytest.mark.slow)])
def test_rows_are_what_boto3_lists(filled: str, program: Program, regions: str) -> None:
    crawled = program.crawl(accounts_yaml(regions))
    expected = truth(filled)
    assert crawled.code == 0, crawled.stderr
    assert crawled.rows == expected
    assert len(expected) > 20
    assert {line["outcome"] for line in crawled.ledger} == {"OK", "EMPTY"}


@pytest.mark.parametrize("tag_status", ["TAGGED", "UNTAGGED"])
@pytest.mark.slow
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


@pytest.mark.slow
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


def organization(url: str, size: int, *, every: int = 1) -> list[str]:
    """Accounts of a new organization; one in `every` so many has an image."""
    organizations = client(url, "organizations", "us-east-1")
    organizations.create_organization(FeatureSet="ALL")
    ids = [
        organizations.create_account(AccountName=f"member-{n}", Email=f"{n}@example.com")["CreateAccountStatus"][
            "AccountId"
        ]
        for n in range(size)
    ]
    for account in ids[::every]:
        ecr = client(url, "ecr", "eu-west-1", account)
        ecr.create_repository(repositoryName="service")
        put(ecr, "service", account, ["v1"])
    return ids


def test_a_whole_organization(filled: str, program: Program) -> None:
    ids = organization(filled, 25, every=5)  # two pages of ListAccounts
    crawled = program.crawl(f"organization: {{member_role: inventory, regions: [eu-west-1], exclude: ['{HUB}']}}\n")
    assert crawled.code == 0, crawled.stderr
    assert {row[0] for row in crawled.rows} == set(ids[::5])
    assert {line["registryId"] for line in crawled.ledger} == set(ids)


def test_the_printed_policies_suffice(filled: str, program: Program) -> None:
    """Nothing is allowed that they do not name. For the glob, the enabled regions are asked for."""
    accounts = accounts_yaml("['eu-*', us-east-1]")
    expected = truth(filled, regions=("eu-west-1", "us-east-1"))
    guard(filled, program, accounts, ACCOUNTS)
    crawled = program.crawl(accounts)
    assert crawled.code == 0, crawled.stderr
    assert crawled.rows == expected


@pytest.mark.slow
def test_each_action_of_the_printed_policies_is_needed(filled: str, program: Program) -> None:
    accounts = accounts_yaml("[eu-west-1]")
    one, two, three = ACCOUNTS
    without = {(one, "ecr:ListImages"), (two, "ecr:DescribeRepositories"), (three, "sts:AssumeRole")}
    guard(filled, program, accounts, ACCOUNTS, without)
    crawled = program.crawl(accounts)
    assert crawled.code == 3
    assert not crawled.rows
    denied = {(line["registryId"], line["repositoryName"]) for line in crawled.ledger if line["outcome"] == "DENIED"}
    assert denied == {(one, "team-0/app-0"), (two, None), (three, None)}


@pytest.mark.slow
def test_the_printed_policies_suffice_for_an_organization(filled: str, program: Program) -> None:
    members = organization(filled, 2)
    accounts = f"organization: {{member_role: inventory, regions: [eu-west-1], exclude: ['{HUB}']}}\n"
    guard(filled, program, accounts, members)
    crawled = program.crawl(accounts)
    assert crawled.code == 0, crawled.stderr
    assert {row[0] for row in crawled.rows} == set(members)
