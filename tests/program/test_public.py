"""ECR Public: the public registry of an account beside its private ones, and never mixed up with them."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from crawler.emulator import Account, Estate, Options, Repository, Series, running
from crawler.emulator.images import MIXED, Mix
from tests.program.conftest import Crawled, Program, Row

ONE, TWO = "000000000001", "000000000002"
REGIONS = ["eu-west-1", "us-east-1"]
#: All active: ECR Public archives nothing.
OPEN = Mix(untagged_every=4, two_tags_every=3)


def account(id_: str, **more: Any) -> Account:
    """Public and private repositories of the same name, one of them of two pages."""
    private = {"site": Repository("site", Series(f"{id_}/private", 5, MIXED))}
    public = {name: Repository(name, Series(f"{id_}/{name}", size, OPEN))
              for name, size in (("site", 1200), ("empty", 0))}  # fmt: skip
    return Account(id_, f"name-{id_[-1]}", repositories=dict.fromkeys(REGIONS, private), public=public, **more)


@pytest.fixture(scope="module")
def estate() -> Estate:
    return Estate([account(ONE), account(TWO, deny=("ecr-public:DescribeImages",))], regions=REGIONS)


def public_rows(made: Estate, id_: str) -> Counter[Row]:
    return Counter(
        (f"public.ecr.aws/{id_}", "us-east-1", name, digest, tag)
        for name, repository in made.accounts[id_].public.items()
        for digest, tag in repository.images.rows()
    )


def crawl(program: Program, made: Estate, *arguments: str, account: str = "name-*") -> tuple[Crawled, dict[str, Any]]:
    faults = ["throttling:repository=site,operation=DescribeImages", "malformed-json:operation=DescribeImages,page=2"]
    with running(made, Options(faults=faults)) as emulator:
        program.environment |= emulator.environment()
        return program.crawl(made.accounts_yaml(), "--account", account, *arguments), emulator.stats()


def test_public_registries_are_targets_of_their_own(program: Program, estate: Estate) -> None:
    crawled, stats = crawl(program, estate)
    assert crawled.code == 3
    private = Counter(tuple(row) for row in estate.rows())
    assert crawled.rows == private + public_rows(estate, ONE)
    outcomes = crawled.outcomes()
    assert {unit: outcome for unit, outcome in outcomes.items() if outcome != "OK" and unit[0] != estate.hub} == {
        (f"public.ecr.aws/{ONE}", "us-east-1", "empty"): "EMPTY",
        (f"public.ecr.aws/{TWO}", "us-east-1", "empty"): "DENIED",
        (f"public.ecr.aws/{TWO}", "us-east-1", "site"): "DENIED",
    }
    assert outcomes[f"public.ecr.aws/{ONE}", "us-east-1", None] == "OK"
    assert stats["requests"]["ecr-public:DescribeRepositories"] == 2
    assert "ecr-public:ListImages" not in stats["requests"]


@pytest.mark.slow
def test_details_and_filters_of_public_images(program: Program, estate: Estate) -> None:
    chosen = ("--rows", "details", "--region", "us-*", "--tag-status", "untagged")
    crawled, _ = crawl(program, estate, *chosen, account=ONE)
    assert crawled.code == 0, crawled.stderr
    rows = [json.loads(line) for line in crawled.stdout.splitlines()]
    found = [row for row in rows if row["registryId"].startswith("public.ecr.aws/")]
    expected = {row[3] for row in public_rows(estate, ONE) if row[4] is None}
    assert {row["imageDigest"] for row in found} == expected
    assert len(found) == len(expected) == 300
    assert all(row["imageSizeInBytes"] and row["imagePushedAt"] and row["imageTags"] == [] for row in found)
    assert {row["imageStatus"] for row in found} == {None}, "ECR Public tells none"
