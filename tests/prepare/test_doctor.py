"""The doctor: what would go wrong in a crawl is found before it, with two requests a target, and comes with its fix."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawler.doctor import CHECKS, FAILED, checks_of
from crawler.emulator import Account, Estate, Options, Repository, Series, running
from crawler.model import COMPLETE, Chain, Outcome, Result, Unit
from crawler.model import Account as Wanted
from tests.lake.servers import BUCKET, moto
from tests.program.conftest import Program

REGIONS = ["us-east-1", "eu-west-1"]
ONE, TWO, THREE = "000000000001", "000000000002", "000000000003"


def account(id_: str, **more: Any) -> Account:
    repositories = {name: Repository(name, Series(name, 3)) for name in ("app", "base", "cache")}
    return Account(id_, f"name-{id_[-1]}", repositories={"us-east-1": repositories}, **more)


def estate(**more: Any) -> Estate:
    return Estate([account(ONE), account(TWO, **more), account(THREE)], regions=REGIONS)


def examined(
    program: Program, estate: Estate, *options: str, accounts: str = "", **faults: Any
) -> tuple[int, list[dict[str, Any]], dict[str, Any]]:
    with running(estate, Options(**faults)) as emulator:
        program.environment |= emulator.environment()
        (program.folder / "accounts.yaml").write_text(accounts or estate.accounts_yaml())
        done = program.run("doctor", "--accounts", "accounts.yaml", "--format", "json", *options)
        return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], emulator.stats()


def counted(checks: list[dict[str, Any]]) -> Counter[tuple[str, str]]:
    return Counter((check["check"], check["verdict"]) for check in checks)


def failed(checks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [check for check in checks if check["verdict"] == "failed"]


def test_a_company_that_is_well_costs_two_requests_a_target(program: Program) -> None:
    code, checks, stats = examined(program, estate(), "--account", "name-*")
    assert code == 0, checks
    assert counted(checks) == {
        ("output", "ok"): 1,
        ("clock", "ok"): 1,
        ("network", "ok"): 6,
        ("credentials", "ok"): 6,
        ("DescribeRepositories", "ok"): 6,
        ("ListImages", "ok"): 3,  # one repository in each registry that has any
    }
    assert (stats["requests"]["ecr:DescribeRepositories"], stats["requests"]["ecr:ListImages"]) == (6, 3)


@pytest.mark.parametrize(
    ("fault", "check", "fix"),
    [
        (f"access-denied:operation=DescribeRepositories,account={TWO},times=always", "DescribeRepositories", "policy"),
        (f"access-denied:operation=ListImages,account={TWO},times=always", "ListImages", "repository's own"),
        (f"unrecognized-client:account={TWO},times=always", "DescribeRepositories", "AWS does not know these keys"),
        ("time-too-skewed:times=always", "clock", "Set this machine's clock"),
        (f"stall:account={TWO},times=always", "network", "firewall"),
    ],
)
def test_each_failure_is_found_where_it_is_and_has_its_fix(program: Program, fault: str, check: str, fix: str) -> None:
    options = ["--timeout", "0.5"] if check == "network" else []
    code, checks, _ = examined(program, estate(), *options, "--account", "name-*", faults=[fault])
    assert code == 3
    assert {found["check"] for found in failed(checks)} == {check}
    assert all(fix in found["fix"] for found in failed(checks))
    if check != "clock":
        assert {found["accountId"] for found in failed(checks)} == {TWO}
        assert counted(checks)["DescribeRepositories", "ok"] >= 4, "the neighbours were checked all the same"


def test_a_region_that_is_not_enabled_is_left_out_and_is_no_failure(program: Program) -> None:
    fault = f"unrecognized-client:account={ONE},region=eu-west-1,times=always"
    accounts = f"accounts: [{{account_id: {ONE}, role: inventory, regions: [us-east-1, eu-west-1]}}]\n"
    code, checks, _ = examined(program, estate(), accounts=accounts, faults=[fault])
    assert code == 0
    (region,) = [check for check in checks if check["check"] == "region"]
    assert (region["verdict"], region["region"]) == ("left out", "eu-west-1")


def test_an_organization_that_may_not_be_listed(program: Program) -> None:
    fault = "access-denied:operation=ListAccounts,times=always"
    code, checks, _ = examined(program, estate(), accounts="organization: {member_role: inventory}\n", faults=[fault])
    assert code == 3
    (check,) = failed(checks)
    assert check["check"] == "organization"
    assert "delegated administrator" in check["fix"]


def test_an_output_that_cannot_be_written_is_found_and_nothing_is_left_behind(program: Program) -> None:
    code, checks, _ = examined(program, estate(), "--account", "name-*", "--output", "nowhere/rows")
    assert (code, [check["check"] for check in failed(checks)]) == (3, ["output"])
    code, checks, _ = examined(program, estate(), "--account", "name-*", "--output", "rows")
    assert (code, failed(checks)) == (0, [])
    assert [path.name for path in program.folder.iterdir()] == ["accounts.yaml"]


def test_the_table_names_each_failure_with_its_fix(program: Program) -> None:
    with running(estate(deny_role=True)) as emulator:
        program.environment |= emulator.environment()
        (program.folder / "accounts.yaml").write_text(estate().accounts_yaml())
        done = program.run("doctor", "--accounts", "accounts.yaml", "--account", "name-*")
    said = done.stdout.decode()
    assert done.returncode == 3
    assert f"DENIED {TWO} (name-2)" in said
    assert f"`crawler policy --accounts FILE --account {TWO}`" in said
    assert "checks failed." in said


def test_nothing_to_check_is_wrong_usage(program: Program) -> None:
    code, _, _ = examined(program, estate(), "--region", "mars-*")
    assert code == 2
    done = program.run("doctor")
    assert (done.returncode, b"--accounts is missing" in done.stderr) == (2, True)


RESULTS = st.builds(
    Result,
    st.builds(Unit, st.none() | st.just(Wanted(ONE)), st.just(ONE), st.none() | st.just("r"), st.none() | st.just("a")),
    st.sampled_from(Outcome),
    st.none() | st.sampled_from(["AccessDenied", "UnknownHost", "ClockSkew", "NotReached", "Odd"]),
    st.none() | st.just("said"),
    st.builds(Chain, attempts=st.integers(0, 2)),
)


@given(RESULTS)
def test_a_unit_fails_one_check_exactly_if_it_counts_as_missing(result: Result) -> None:
    checks = list(checks_of(result))
    assert {check.name for check in checks} <= set(CHECKS)
    failures = [check for check in checks if check.verdict == FAILED]
    missing = result.outcome not in COMPLETE and result.code != "NotReached"
    assert len(failures) == missing
    assert all(check.fix for check in failures)


def test_details_are_checked_by_their_own_operation(program: Program) -> None:
    made = estate(deny=("ecr:DescribeImages",))
    code, checks, stats = examined(program, made, "--account", "name-*", "--rows", "details")
    assert code == 3
    assert counted(checks)["DescribeImages", "ok"] == 2
    (check,) = failed(checks)
    assert (check["check"], check["accountId"]) == ("DescribeImages", TWO)
    assert "Give the role ecr:DescribeImages" in check["fix"]
    assert "ecr:ListImages" not in stats["requests"]


def test_a_public_registry_has_rights_of_its_own() -> None:
    public = Unit(Wanted(ONE), f"public.ecr.aws/{ONE}", "us-east-1", "site")
    (check,) = checks_of(Result(public, Outcome.DENIED, "AccessDeniedException", "said", Chain(attempts=1)))
    assert (check.name, check.verdict) == ("DescribeImages", FAILED)
    assert "ecr-public:DescribeImages" in (check.fix or "")
    (check,) = checks_of(Result(replace(public, repository=None), Outcome.DENIED, "NoPublicRegistry", "said"))
    assert "Remove `public: true`" in (check.fix or "")


def test_the_table_names_regions_that_are_left_out_and_the_warnings_of_the_file(program: Program) -> None:
    entry = "account_id: {}, role: inventory, regions: [us-east-1, eu-wst-1]"
    accounts = "".join(f"- {{{entry.format(id_)}}}\n" for id_ in (ONE, TWO))
    with running(estate()) as emulator:
        program.environment |= emulator.environment()
        (program.folder / "accounts.yaml").write_text(f"accounts:\n{accounts}")
        done = program.run("doctor", "--accounts", "accounts.yaml")
    assert done.returncode == 0
    assert "Left out, not enabled for the account: eu-wst-1 of 2 accounts.\n\nAll is well.\n" in done.stdout.decode()
    assert "accounts.yaml:2:68: accounts[0].regions[1]: 'eu-wst-1' is no region" in done.stderr.decode()


def test_an_output_in_a_bucket_is_tried_and_nothing_is_left_behind(program: Program) -> None:
    with moto() as s3:
        program.environment["AWS_ENDPOINT_URL_S3"] = s3.url
        code, checks, _ = examined(program, estate(), "--account", "name-*", "--output", f"s3://{BUCKET}/inventory/")
        assert (code, failed(checks)) == (0, [])
        assert s3.keys("") == []
        code, checks, _ = examined(
            program, estate(), "--account", "name-*", "--output", "s3://no-such-bucket/inventory/"
        )
    (check,) = failed(checks)
    assert (code, check["check"]) == (3, "output")
    assert "s3://no-such-bucket: there is no such bucket" in check["message"]
    assert "s3:PutObject" in check["fix"]
