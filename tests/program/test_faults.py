"""Every fault of the emulator, on the whole program and real sockets: one repository for each, in two crawls.

In the first, each strikes its repository once, and nothing may be lost. In the second each never ends, and nothing
else may suffer. Bystanders are crawled along; the rows are held against the estate.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from crawler.emulator import FAULTS, Account, Estate, Options, Repository, Rule, running
from crawler.emulator.images import MIXED, Series
from tests.program.conftest import Crawled, Program, Row

ACCOUNT, OTHER = "000000000001", "000000000002"
REGION = "eu-west-1"
BYSTANDER = "bystander"

#: These end the run, or need a place of their own, and have their own tests below.
ALONE = {"time-too-skewed", "session-ended", "unrecognized-client"}
#: Nothing to survive when they strike once, because one is for ever.
PERMANENT = {
    "repository-deleted": "GONE",
    "access-denied": "DENIED",
    "access-denied-resource-policy": "DENIED",
    "invalid-signature": "DENIED",
    "redirect": "FAILED",
    "same-token": "FAILED",
    "cycling-tokens": "FAILED",
    "endless-tokens": "FAILED",
    "endless-empty-pages": "FAILED",
}
HARMLESS = {"chunked-body", "gzip-body", "empty-page", "empty-token", "answered-twice"}
THROTTLES = {"throttling", "throttling-429", "limit-exceeded"}
ONCE = sorted(FAULTS.keys() - ALONE - PERMANENT.keys())
# An empty page before every page never ends; for ever is what it is called elsewhere.
ALWAYS = sorted(FAULTS.keys() - ALONE - {"endless-tokens", "empty-page"})


def estate(names: list[str]) -> Estate:
    repositories = {name: Repository(name, Series(name, 2500, MIXED)) for name in [*names, BYSTANDER]}
    return Estate(
        [
            Account(ACCOUNT, "struck", repositories={REGION: repositories}),
            Account(OTHER, "other", repositories={REGION: {BYSTANDER: Repository(BYSTANDER, Series("o", 10, MIXED))}}),
        ],
        regions=[REGION],
    )


class Case(NamedTuple):
    crawled: Crawled
    truth: Counter[Row]
    redirected: list[dict[str, object]]

    def rows(self, repository: str) -> tuple[Counter[Row], Counter[Row]]:
        """What was delivered of a repository of the struck account, and what there is."""
        return tuple(
            Counter({row: n for row, n in rows.items() if row[0] == ACCOUNT and row[2] == repository})
            for rows in (self.crawled.rows, self.truth)
        )


def crawl(folder: Path, world: Estate, rules: list[Rule], *arguments: str) -> Case:
    program = Program(folder)
    with running(world, Options(faults=rules, seed=1)) as emulator:
        program.environment |= emulator.environment()
        only = "".join(f"- {{account_id: {id_}, role: inventory, regions: [{REGION}]}}\n" for id_ in (ACCOUNT, OTHER))
        crawled = program.crawl(f"accounts:\n{only}", "--timeout", "1", *arguments)
        truth = Counter(tuple(row) for row in world.rows())
        return Case(crawled, truth, emulator.stats()["redirected"])


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Case:
    rules = [Rule(fault=name, operation="ListImages", repository=name) for name in ONCE]
    return crawl(tmp_path_factory.mktemp("once"), estate(ONCE), rules)


@pytest.fixture(scope="module")
def always(tmp_path_factory: pytest.TempPathFactory) -> Case:
    rules = [Rule(fault=name, operation="ListImages", repository=name, times=0) for name in ALWAYS]
    return crawl(tmp_path_factory.mktemp("always"), estate(ALWAYS), rules, "--attempts", "2")


@pytest.mark.parametrize("fault", ONCE)
def test_a_fault_that_passes_loses_nothing(once: Case, fault: str) -> None:
    found, there = once.rows(fault)
    line = once.crawled.line(fault)
    assert line["outcome"] == "OK", line
    assert found == there
    assert line["restarts"] == (fault == "token-rejected")
    assert (line["attempts"] > line["pages"]) == (fault not in HARMLESS | {"expired-token"}), line


def test_faults_that_pass_leave_a_complete_run(once: Case) -> None:
    assert once.crawled.code == 0, once.crawled.stderr
    assert once.crawled.report["status"] == "complete"
    assert once.crawled.rows == once.truth


@pytest.mark.parametrize("fault", ALWAYS)
def test_a_fault_that_stays_is_told_and_never_called_complete(always: Case, fault: str) -> None:
    found, there = always.rows(fault)
    line = always.crawled.line(fault)
    expected = "OK" if fault in HARMLESS else "THROTTLED" if fault in THROTTLES else PERMANENT.get(fault, "FAILED")
    if fault == "expired-token":
        expected = "DENIED"
    assert line["outcome"] == expected, line
    assert set(found) <= set(there)
    assert (found == there) == (expected == "OK")
    if expected != "OK":
        assert line["code"]
        assert line["message"]
    assert line["attempts"] <= 2 * (line["pages"] + 1), "the calls it costs are bounded"


def test_faults_that_stay_harm_no_one_else(always: Case) -> None:
    assert always.crawled.code == 3
    assert always.crawled.report["status"] == "incomplete"
    found, there = always.rows(BYSTANDER)
    assert found == there
    assert [row for row in always.crawled.rows if row[0] == OTHER] == [row for row in always.truth if row[0] == OTHER]
    outcomes = always.crawled.outcomes()
    assert outcomes[OTHER, REGION, BYSTANDER] == outcomes[ACCOUNT, REGION, BYSTANDER] == "OK"


def test_a_redirect_is_never_followed(always: Case) -> None:
    assert always.redirected == []
    assert "edirect" in always.crawled.line("redirect")["code"]


def test_a_server_that_answers_for_ever_is_cut_off(tmp_path: Path) -> None:
    rule = Rule(fault="endless-tokens", operation="ListImages", repository="endless", times=0)
    case = crawl(tmp_path, estate(["endless"]), [rule], "--target-timeout", "1.5")
    outcomes = case.crawled.outcomes()
    assert outcomes[ACCOUNT, REGION, "endless"] == outcomes[ACCOUNT, REGION, None] == "FAILED"
    assert outcomes[OTHER, REGION, None] == "OK"
    assert case.crawled.code == 3


@pytest.mark.parametrize("fault", ["same-token", "cycling-tokens", "endless-tokens", "endless-empty-pages"])
def test_a_list_of_repositories_that_never_ends_is_stopped_and_repeats_nothing(tmp_path: Path, fault: str) -> None:
    rule = Rule(fault=fault, operation="DescribeRepositories", account=ACCOUNT, times=0)
    names = [f"app-{n}" for n in range(1200)]  # two pages
    world = Estate(
        [
            Account(ACCOUNT, repositories={REGION: {name: Repository(name, Series(name, 1)) for name in names}}),
            Account(OTHER),
        ],
        regions=[REGION],
    )
    case = crawl(tmp_path, world, [rule])
    assert case.crawled.outcomes()[ACCOUNT, REGION, None] == "FAILED"
    assert case.crawled.code == 3
    assert case.crawled.rows <= case.truth, "no row twice"


def test_a_session_that_ends_in_mid_crawl_is_renewed_once_for_all(tmp_path: Path) -> None:
    names = [f"app-{n}" for n in range(6)]
    rule = Rule(fault="session-ended", operation="ListImages", pages=(2,), limit=1)
    case = crawl(tmp_path, estate(names), [rule])
    assert case.crawled.code == 0, case.crawled.stderr
    assert case.crawled.rows == case.truth


def test_a_wrong_clock_stops_the_run_early(tmp_path: Path) -> None:
    case = crawl(tmp_path, estate(["any"]), [Rule(fault="time-too-skewed", operation="*", times=0)])
    assert case.crawled.code == 1
    assert "ClockSkew" in case.crawled.stderr
    assert "1200" in case.crawled.stderr or "1,200" in case.crawled.stderr or "1199" in case.crawled.stderr


@pytest.mark.parametrize(
    ("regions", "outcome"), [(["eu-west-1", "me-south-1"], "REGION_DISABLED"), (["me-south-1"], "DENIED")]
)
def test_a_region_is_disabled_only_where_another_one_answered(
    program: Program, regions: list[str], outcome: str
) -> None:
    world = Estate([Account(ACCOUNT, regions=("eu-west-1",))], regions=["eu-west-1", "me-south-1"])
    with running(world) as emulator:
        program.environment |= emulator.environment()
        crawled = program.crawl(
            f"accounts: [{{account_id: {ACCOUNT}, role: inventory, regions: [{', '.join(regions)}]}}]\n"
        )
    assert crawled.outcomes()[ACCOUNT, "me-south-1", None] == outcome
    assert crawled.code == (0 if outcome == "REGION_DISABLED" else 3)


@pytest.fixture
def refusing_port() -> Iterator[int]:
    import socket  # noqa: PLC0415

    with socket.socket() as bound:  # bound, and nobody listens
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


def test_an_endpoint_that_refuses_connections(program: Program, refusing_port: int) -> None:
    program.environment |= {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{refusing_port}",
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
    }
    crawled = program.crawl("accounts: [{account_id: '000000000001', regions: [eu-west-1]}]\n", "--attempts", "2")
    assert crawled.code == 3
    assert crawled.line(None)["outcome"] == "FAILED"
