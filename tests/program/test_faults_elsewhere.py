"""Faults of what is asked besides ListImages: roles, regions, names, details, members. Each passes, and then stays,
over plain HTTP and over TLS.

An account for each operation and fault, all in one crawl: whatever befalls one is told of it, and of no other.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from crawler.emulator import Account, Estate, Options, Repository, Rule, Series, running
from tests.certificates import Certificate
from tests.program.conftest import Crawled, Program
from tests.program.fault_matrix import ATTEMPTS, BOUND
from tests.program.test_details import found, truth

REGION, HUB, BYSTANDER = "eu-west-1", "999999999999", "888888888888"
#: Regions are asked for in two ways, the second where the first fails; where both do, all that there are are tried.
OPERATIONS = ("AssumeRole", "*Regions", "DescribeRepositories", "DescribeImages")
#: By fault: how what it never leaves ends.
FAULTS = {
    "server-error": "FAILED",
    "reset-mid-body": "FAILED",
    "malformed-json": "FAILED",
    "throttling": "THROTTLED",
    "access-denied": "DENIED",
}
STRUCK = {
    (operation, fault): f"{10 * kind + number:012}"
    for kind, operation in enumerate(OPERATIONS)
    for number, fault in enumerate(FAULTS)
}


def account(id_: str) -> Account:
    return Account(id_, repositories={REGION: {name: Repository(name, Series(name, 5)) for name in ("api", "web")}})


def estate() -> Estate:
    return Estate([account(id_) for id_ in (HUB, BYSTANDER, *STRUCK.values())], hub=HUB, regions=[REGION])


def rule(operation: str, fault: str, times: int) -> Rule:
    id_ = STRUCK[operation, fault]
    if operation == "AssumeRole":  # it is the hub that asks, and the role that tells whom it is about
        return Rule(fault=fault, operation=operation, repository=f"*:{id_}:*", times=times)
    return Rule(fault=fault, operation=operation, account=id_, times=times)


def crawl(
    folder: Path,
    rules: list[Rule],
    certificate: Certificate | None,
    *,
    attempts: int = ATTEMPTS,
    accounts: str = "",
) -> tuple[Crawled, Estate]:
    program, world = Program(folder), estate()
    each = "".join(f"- {{account_id: '{id_}', role: inventory}}\n" for id_ in (BYSTANDER, *STRUCK.values()))
    tls = certificate.server if certificate else None
    with running(world, Options(faults=rules, seed=1, tls=tls)) as emulator:
        program.environment |= emulator.environment()
        if certificate:
            program.environment["AWS_CA_BUNDLE"] = str(certificate.bundle)
        crawled = program.crawl(accounts or f"accounts:\n{each}", "--rows", "details", "--attempts", str(attempts))
    assert crawled.report["seconds"] < BOUND
    return crawled, world


@pytest.fixture(scope="module")
def once(certificate: Certificate | None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Crawled, Estate]:
    rules = [rule(*where, 1) for where in STRUCK if where[1] != "access-denied"]
    return crawl(tmp_path_factory.mktemp("once"), rules, certificate)


@pytest.fixture(scope="module")
def always(certificate: Certificate | None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Crawled, Estate]:
    return crawl(tmp_path_factory.mktemp("always"), [rule(*where, 0) for where in STRUCK], certificate)


def test_one_that_passes_loses_nothing(once: tuple[Crawled, Estate]) -> None:
    crawled, world = once
    assert crawled.code == 0, crawled.stderr
    assert {line["outcome"] for line in crawled.ledger} == {"OK"}
    assert found(crawled) == truth(world, lambda row: row["registryId"] != HUB)
    for (operation, fault), id_ in STRUCK.items():
        asked = sum(line["attempts"] - line["pages"] for line in crawled.ledger if line["registryId"] == id_)
        times = {"DescribeRepositories": 1, "DescribeImages": 2}.get(operation, 0)  # two repositories
        assert asked == times * (fault != "access-denied"), (operation, fault)


def units(operation: str, fault: str) -> dict[tuple[str | None, str | None], str]:
    """The units of the account that this strikes for ever, as they have to end."""
    outcome = FAULTS[fault]
    if operation == "AssumeRole":  # nothing of its own was throttled: it could not begin
        return {(None, None): "FAILED" if outcome == "THROTTLED" else outcome}
    if operation == "*Regions":
        return {(REGION, None): "OK", (REGION, "api"): "OK", (REGION, "web"): "OK"}
    if operation == "DescribeRepositories":
        return {(REGION, None): outcome}
    return {(REGION, None): "OK", (REGION, "api"): outcome, (REGION, "web"): outcome}


@pytest.mark.parametrize(("operation", "fault"), STRUCK)
def test_one_that_stays_is_told_of_what_it_strikes(always: tuple[Crawled, Estate], operation: str, fault: str) -> None:
    crawled, _ = always
    lines = [line for line in crawled.ledger if line["registryId"] == STRUCK[operation, fault]]
    ended = {(line["region"], line["repositoryName"]): line["outcome"] for line in lines}
    others = {unit for unit in ended if unit[0] not in (REGION, None)}
    assert {ended.pop(unit) for unit in others} == ({"REGION_DISABLED"} if operation == "*Regions" else set())
    assert ended == units(operation, fault)
    for line in lines:
        assert (line["code"] is None) == (line["outcome"] == "OK")
        assert line["attempts"] <= ATTEMPTS
        assert line["seconds"] < BOUND


def test_one_that_stays_harms_no_one_else(always: tuple[Crawled, Estate]) -> None:
    crawled, world = always
    assert crawled.code == 3
    whole = {BYSTANDER, *(STRUCK["*Regions", fault] for fault in FAULTS)}
    assert found(crawled) == truth(world, lambda row: row["registryId"] in whole)


def of_members(fault: str, times: int | None) -> Rule:
    return Rule(fault=fault, operation="ListAccounts", times=times)


def test_a_list_of_members_that_fails_for_a_while_is_whole(tmp_path: Path, certificate: Certificate | None) -> None:
    """One fault after the other, and one attempt more."""
    rules = [of_members(fault, 1) for fault in FAULTS if fault != "access-denied"]
    crawled, world = crawl(
        tmp_path, rules, certificate, attempts=len(rules) + 1, accounts="organization: {member_role: inventory}\n"
    )
    assert crawled.code == 0, crawled.stderr
    assert found(crawled) == truth(world)


@pytest.mark.parametrize(("fault", "outcome"), FAULTS.items())
def test_a_list_of_members_that_stays_away_is_told_and_no_empty_company(
    tmp_path: Path, certificate: Certificate | None, fault: str, outcome: str
) -> None:
    accounts = "organization: {member_role: inventory}\n"
    crawled, _ = crawl(tmp_path, [of_members(fault, 0)], certificate, accounts=accounts)
    assert crawled.code == 3
    assert crawled.outcomes() == {(None, None, None): outcome}
    assert crawled.stdout == b""
