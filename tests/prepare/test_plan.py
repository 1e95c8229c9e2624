"""The plan: what a crawl would do, asked without a single ListImages, and held against the crawl itself."""

from __future__ import annotations

import json
from typing import Any

import pytest

from crawler.emulator import Account, Emulator, Estate, Options, Repository, Series, running
from tests.program.conftest import Program

ONE, TWO = "000000000001", "000000000002"
REGIONS = ["us-east-1", "eu-west-1"]
SIZES = {"team/api": 25, "team/web": 3, "cache": 0}


def account(id_: str, **more: Any) -> Account:
    repositories = {name: Repository(name, Series(name, count)) for name, count in SIZES.items()}
    return Account(id_, f"name-{id_[-1]}", repositories={"us-east-1": repositories}, **more)


def estate(**more: Any) -> Estate:
    return Estate([account(ONE), account(TWO, **more)], regions=REGIONS)


def planned(program: Program, *options: str) -> tuple[int, dict[str, Any]]:
    done = program.run("plan", "--accounts", "accounts.yaml", "--account", "name-*", "--format", "json", *options)
    return done.returncode, json.loads(done.stdout)


@pytest.fixture
def start(program: Program) -> Any:
    def begin(emulator: Emulator, made: Estate) -> None:
        program.environment |= emulator.environment()
        (program.folder / "accounts.yaml").write_text(made.accounts_yaml())

    return begin


def test_it_counts_what_a_crawl_would_list_without_listing_it(program: Program, start: Any) -> None:
    made = estate()
    with running(made) as emulator:
        start(emulator, made)
        code, plan = planned(program, "--exclude-repository", "cache")
        stats = emulator.stats()
    assert code == 0
    assert "ecr:ListImages" not in stats["requests"]
    assert (plan["accounts"], plan["targetsByRegion"]) == (2, {"us-east-1": 2, "eu-west-1": 2})
    assert (plan["repositories"], plan["repositoriesLeftOut"]) == (4, 2)
    assert plan["requests"]["ecr:DescribeRepositories"] == stats["requests"]["ecr:DescribeRepositories"] == 4
    assert plan["requests"]["sts:AssumeRole at least"] == stats["requests"]["sts:AssumeRole"] == 2
    assert (plan["requests"]["ecr:ListImages"], plan["rows"], plan["secondsAtLeast"]) == (None, None, None)


def test_hints_of_a_crawl_tell_its_requests_and_rows(program: Program, start: Any) -> None:
    made = estate()
    sizes = ["--page-size", "10"]
    with running(made) as emulator:
        start(emulator, made)
        crawled = program.run("--accounts", "accounts.yaml", "--account", "name-*", "--hints", "hints", *sizes)
        spent = emulator.stats()["requests"]
        code, plan = planned(program, "--hints", "hints", *sizes)
    assert (crawled.returncode, code) == (0, 0)
    assert plan["requests"]["ecr:ListImages"] == spent["ecr:ListImages"]
    assert plan["rows"] == [len(crawled.stdout.splitlines())] * 2
    assert plan["secondsAtLeast"] is not None


def test_what_could_not_be_looked_at_is_named(program: Program, start: Any) -> None:
    made = estate(deny_role=True)
    with running(made) as emulator:
        start(emulator, made)
        done = program.run("plan", "--accounts", "accounts.yaml", "--account", "name-*")
    assert done.returncode == 3
    said = done.stdout.decode()
    assert f"Not known: DENIED {TWO} (name-2)" in said
    assert "`crawler doctor`" in said
    assert "not known: crawl with --hints FILE" in said


def test_hints_that_are_not_there_are_wrong_usage(program: Program, start: Any) -> None:
    with running(estate(), Options()) as emulator:
        start(emulator, estate())
        done = program.run("plan", "--accounts", "accounts.yaml", "--hints", "nowhere")
    assert done.returncode == 2
    assert b"--hints nowhere: there is no such file" in done.stderr


def test_details_are_planned_by_their_own_requests(program: Program, start: Any) -> None:
    made = estate()
    sizes = ["--rows", "details", "--page-size", "10"]
    with running(made) as emulator:
        start(emulator, made)
        crawled = program.run("--accounts", "accounts.yaml", "--account", "name-*", "--hints", "hints", *sizes)
        spent = emulator.stats()["requests"]
        code, plan = planned(program, "--hints", "hints", *sizes)
    assert (crawled.returncode, code) == (0, 0)
    assert plan["requests"]["ecr:DescribeImages"] == spent["ecr:DescribeImages"]
    assert plan["rows"] == [len(crawled.stdout.splitlines())] * 2
    assert "ecr:ListImages" not in {**plan["requests"], **spent}


def test_requests_to_public_registries_are_counted_as_what_they_are(program: Program, start: Any) -> None:
    public = {name: Repository(name, Series(name, 3)) for name in ("site", "tool")}
    made = Estate([account(ONE, public=public), account(TWO)], regions=REGIONS)
    with running(made) as emulator:
        start(emulator, made)
        crawled = program.run("--accounts", "accounts.yaml", "--account", "name-*", "--hints", "hints")
        spent = emulator.stats()["requests"]
        code, plan = planned(program, "--hints", "hints")
        said = program.run("plan", "--accounts", "accounts.yaml", "--account", "name-*").stdout.decode()
    assert (crawled.returncode, code) == (0, 0)
    asked = plan["requests"]
    for operation in ("ecr:DescribeRepositories", "ecr-public:DescribeRepositories"):
        assert asked[operation] == spent[operation]
    assert asked["ecr:ListImages at least"] == spent["ecr:ListImages"] == 6
    assert asked["ecr-public:DescribeImages at least"] == spent["ecr-public:DescribeImages"] == 2
    assert "ecr-public:DescribeImages        2 requests, and one more for each further 1,000 images" in said
    # The last run tells the sum of both, so neither is told as if it were known.
    assert (asked["ecr:ListImages"], asked["ecr-public:DescribeImages"]) == (None, None)
    assert plan["rows"] == [len(crawled.stdout.splitlines())] * 2
