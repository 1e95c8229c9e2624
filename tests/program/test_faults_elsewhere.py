"""Faults of what is asked besides ListImages: roles, regions, names, details, members. Each passes, and then stays,
over plain HTTP and over TLS.

An account for each operation and fault, all in one crawl: whatever befalls one is told of it, and of no other.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from crawler.emulator import Account, Estate, Options, Repository, Rule, Series, running
from crawler.pages import EMPTY_PAGES_CAP
from tests.certificates import Certificate
from tests.program.conftest import Crawled, Program
from tests.program.fault_matrix import ATTEMPTS, BOUND, TIMEOUT
from tests.program.test_details import found, truth

REGION, HUB, BYSTANDER = "eu-west-1", "999999999999", "888888888888"
#: Regions are asked for in two ways, the second where the first fails; where both do, all that there are are tried.
OPERATIONS = ("AssumeRole", "*Regions", "DescribeRepositories", "DescribeImages")
#: By fault: how what it never leaves ends.
FAULTS = {
    **dict.fromkeys(("server-error", "reset-mid-body", "malformed-json", "stall", "slow-loris", "redirect"), "FAILED"),
    **dict.fromkeys(("html", "null-body", "empty-body", "array-body"), "FAILED"),
    "throttling": "THROTTLED",
    "access-denied": "DENIED",
}
#: Of what comes in pages. A token can come again from the second page on, and of names and regions there is one page.
PAGED = {
    "*Regions": ("cycling-tokens", "endless-tokens", "endless-empty-pages"),
    "DescribeRepositories": ("cycling-tokens", "endless-tokens", "endless-empty-pages"),
    "DescribeImages": ("same-token", "cycling-tokens", "endless-tokens", "endless-empty-pages"),
}
#: Nothing to survive, though they strike once.
FOR_GOOD = {"access-denied", "redirect", *PAGED["DescribeImages"]}
STRUCK = {
    (operation, fault): f"{100 * kind + number:012}"
    for kind, operation in enumerate(OPERATIONS)
    for number, fault in enumerate((*FAULTS, *PAGED.get(operation, ())))
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
    world: Estate | None = None,
    accounts: str = "",
    attempts: int = ATTEMPTS,
) -> tuple[Crawled, Estate]:
    program, world = Program(folder), world or estate()
    each = "".join(f"- {{account_id: '{id_}', role: inventory}}\n" for id_ in (BYSTANDER, *STRUCK.values()))
    options = ("--rows", "details", "--page-size", "3", "--attempts", str(attempts), "--timeout", str(TIMEOUT))
    tls = certificate.server if certificate else None
    with running(world, Options(faults=rules, seed=1, tls=tls)) as emulator:
        program.environment |= emulator.environment()
        if certificate:
            program.environment["AWS_CA_BUNDLE"] = str(certificate.bundle)
        crawled = program.crawl(accounts or f"accounts:\n{each}", *options)
        assert emulator.stats()["redirected"] == []
    assert crawled.report["seconds"] < BOUND
    return crawled, world


@pytest.fixture(scope="module")
def once(certificate: Certificate | None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Crawled, Estate]:
    rules = [rule(*where, 1) for where in STRUCK if where[1] not in FOR_GOOD]
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
        assert asked == times * (fault not in FOR_GOOD), (operation, fault)


def units(operation: str, fault: str) -> dict[tuple[str | None, str | None], str]:
    """The units of the account that this strikes for ever, as they have to end."""
    outcome = FAULTS.get(fault, "FAILED")
    target, names = (REGION, None), [(REGION, "api"), (REGION, "web")]
    if operation == "AssumeRole":  # nothing of its own was throttled: it could not begin
        return {(None, None): "FAILED" if outcome == "THROTTLED" else outcome}
    if operation == "*Regions":
        return dict.fromkeys((target, *names), "OK")
    if operation == "DescribeRepositories":  # what it named before it was found out is there
        return {target: outcome} | dict.fromkeys(names if has_named(fault) else (), "OK")
    return {target: "OK"} | dict.fromkeys(names, outcome)


def has_named(fault: str) -> bool:
    """Tell whether all that there is has come before a chain that never ends is found out."""
    return fault in ("same-token", "cycling-tokens", "endless-tokens")


@pytest.mark.parametrize(("operation", "fault"), STRUCK)
def test_one_that_stays_is_told_of_what_it_strikes(always: tuple[Crawled, Estate], operation: str, fault: str) -> None:
    crawled, _ = always
    lines = [line for line in crawled.ledger if line["registryId"] == STRUCK[operation, fault]]
    ended = {(line["region"], line["repositoryName"]): line["outcome"] for line in lines}
    others = {unit for unit in ended if unit[0] not in (REGION, None)}
    no_regions = operation == "*Regions" and fault in FAULTS
    assert {ended.pop(unit) for unit in others} == ({"REGION_DISABLED"} if no_regions else set())
    assert ended == units(operation, fault)
    for line in lines:
        assert (line["code"] is None) == (line["outcome"] == "OK")
        assert line["attempts"] <= ATTEMPTS * (line["pages"] + 1)
        assert line["pages"] <= EMPTY_PAGES_CAP
        assert line["seconds"] < BOUND


def test_one_that_stays_harms_no_one_else(always: tuple[Crawled, Estate]) -> None:
    crawled, world = always
    assert crawled.code == 3
    whole = {BYSTANDER} | {
        id_ for (operation, fault), id_ in STRUCK.items() if operation == "*Regions" or has_named(fault)
    }
    assert found(crawled) == truth(world, lambda row: row["registryId"] in whole)


ORGANIZATION = "organization: {member_role: inventory}\n"


def test_a_list_of_members_that_fails_for_a_while_is_whole(tmp_path: Path, certificate: Certificate | None) -> None:
    """Each of its first three pages meets with a few faults, one after the other."""
    passing = [fault for fault in FAULTS if fault not in FOR_GOOD]
    rules = [
        Rule(fault=fault, operation="ListAccounts", pages=(number % 3 + 1,), times=1)
        for number, fault in enumerate(passing)
    ]
    crawled, world = crawl(tmp_path, rules, certificate, attempts=len(rules) // 3 + 2, accounts=ORGANIZATION)
    assert crawled.code == 0, crawled.stderr
    assert found(crawled) == truth(world)


def company() -> Estate:
    """Members enough for two pages, all but the hub in a unit."""
    members = [Account(f"{number:012}", ou="unit") for number in range(1, 26)]
    return Estate([account(HUB), *members], hub=HUB, regions=[REGION])


@pytest.mark.parametrize(
    "fault", ["server-error", "malformed-json", "throttling", "access-denied", "stall", "redirect"]
)
def test_a_list_of_members_that_stays_away_is_told_and_no_empty_company(tmp_path: Path, fault: str) -> None:
    """Over plain HTTP alone: a crawl for each fault, and what TLS changes the tests above have seen."""
    rules = [Rule(fault=fault, operation="ListAccounts", times=0)]
    crawled, _ = crawl(tmp_path, rules, None, world=company(), accounts=ORGANIZATION)
    assert crawled.code == 3
    assert crawled.outcomes() == {(None, None, None): FAULTS[fault]}
    assert crawled.stdout == b""


@pytest.mark.parametrize(
    ("operation", "fault", "code"),
    [
        ("ListAccounts", "same-token", "RepeatedToken"),
        ("ListAccounts", "cycling-tokens", "RepeatedPage"),
        ("ListAccounts", "endless-tokens", "RepeatedPage"),
        ("ListAccountsForParent", "endless-tokens", "RepeatedPage"),
        ("ListAccountsForParent", "endless-empty-pages", "EmptyPages"),
        ("ListOrganizationalUnitsForParent", "endless-tokens", "RepeatedPage"),
        ("ListOrganizationalUnitsForParent", "endless-empty-pages", "EmptyPages"),
    ],
)
def test_a_list_of_members_that_never_ends_is_told_and_those_it_named_are_there(
    tmp_path: Path, operation: str, fault: str, code: str
) -> None:
    world = company()
    within = f"include_ous: [{world.ous['']}], " if operation != "ListAccounts" else ""
    accounts = f"organization: {{{within}member_role: inventory}}\n"
    rules = [Rule(fault=fault, operation=operation, times=0)]
    crawled, _ = crawl(tmp_path, rules, None, world=world, accounts=accounts)
    assert crawled.code == 3
    outcomes = crawled.outcomes()
    assert outcomes.pop((None, None, None)) == "FAILED"
    (line,) = [line for line in crawled.ledger if line["registryId"] is None]
    assert (line["code"], operation in line["message"]) == (code, True)
    assert set(outcomes.values()) <= {"OK", "EMPTY"}
    assert found(crawled) == (truth(world) if outcomes else [])
