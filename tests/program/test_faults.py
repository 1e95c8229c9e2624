"""Every fault of the emulator, once and for ever, over plain HTTP and TLS; then those that need a place of their own.

Where a fault strikes once nothing may be lost; where it never ends nothing else may suffer. See `fault_matrix`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from crawler.emulator import Account, Estate, Options, Repository, Rule, running
from crawler.emulator.images import Series
from tests.certificates import Certificate, certify
from tests.program.conftest import Program
from tests.program.fault_matrix import (
    ACCOUNT,
    ALWAYS,
    ATTEMPTS,
    BOUND,
    BYSTANDER,
    HARMLESS,
    ONCE,
    OTHER,
    REGION,
    Case,
    crawl,
    estate,
    lasting_outcome,
    struck_always,
    struck_once,
)


@pytest.fixture(scope="module")
def once(certificate: Certificate | None, tmp_path_factory: pytest.TempPathFactory) -> Case:
    return struck_once(tmp_path_factory.mktemp("once"), certificate)


@pytest.fixture(scope="module")
def always(certificate: Certificate | None, tmp_path_factory: pytest.TempPathFactory) -> Case:
    return struck_always(tmp_path_factory.mktemp("always"), certificate)


@pytest.mark.parametrize("fault", ONCE)
def test_a_fault_that_passes_loses_nothing(once: Case, fault: str) -> None:
    found, there = once.rows(fault)
    line = once.crawled.line(fault)
    assert line["outcome"] == "OK", line
    assert found == there
    assert line["restarts"] == (fault == "token-rejected")
    assert (line["attempts"] > line["pages"]) == (fault not in HARMLESS | {"expired-token"}), line
    assert line["seconds"] < BOUND


def test_faults_that_pass_leave_a_complete_run(once: Case) -> None:
    assert once.crawled.code == 0, once.crawled.stderr
    assert once.crawled.report["status"] == "complete"
    assert once.crawled.rows == once.truth


@pytest.mark.parametrize("fault", ALWAYS)
def test_a_fault_that_stays_is_told_and_never_called_complete(always: Case, fault: str) -> None:
    found, there = always.rows(fault)
    line = always.crawled.line(fault)
    expected = lasting_outcome(fault)
    assert line["outcome"] == expected, line
    assert found <= there, "a row twice"
    assert (found == there) == (expected == "OK")
    if expected != "OK":
        assert line["code"]
        assert line["message"]
    assert line["attempts"] <= ATTEMPTS * (line["pages"] + 1), "the calls it costs are bounded"
    assert line["seconds"] < BOUND


def test_faults_that_stay_harm_no_one_else(always: Case) -> None:
    assert always.crawled.code == 3
    assert always.crawled.report["status"] == "incomplete"
    found, there = always.rows(BYSTANDER)
    assert found == there
    assert [row for row in always.crawled.rows if row[0] == OTHER] == [row for row in always.truth if row[0] == OTHER]
    outcomes = always.crawled.outcomes()
    assert outcomes[OTHER, REGION, BYSTANDER] == outcomes[ACCOUNT, REGION, BYSTANDER] == "OK"


def test_a_redirect_is_never_followed(always: Case) -> None:
    assert always.stats["redirected"] == []
    assert "edirect" in always.crawled.line("redirect")["code"]


def test_a_server_that_answers_for_ever_is_cut_off(certificate: Certificate | None, tmp_path: Path) -> None:
    """It begins anew at its end, with a new token on every page: only its first page, come again, shows it."""
    rule = Rule(fault="endless-tokens", operation="ListImages", repository="endless", times=0)
    case = crawl(tmp_path, estate(["endless"]), [rule], certificate=certificate)
    assert case.crawled.rows == case.truth
    line = case.crawled.line("endless")
    assert (line["outcome"], line["code"], line["pages"]) == ("FAILED", "RepeatedPage", 5)
    assert line["rows"] == case.rows("endless")[1].total()
    assert {unit for unit, outcome in case.crawled.outcomes().items() if outcome != "OK"} == {
        (ACCOUNT, REGION, "endless")
    }
    assert case.crawled.code == 3


def test_a_server_that_never_answers_has_the_time_of_a_target(certificate: Certificate | None, tmp_path: Path) -> None:
    rule = Rule(fault="stall", operation="ListImages", repository="struck", times=0)
    case = crawl(tmp_path, estate(["struck"]), [rule], "--target-timeout", "1.5", certificate=certificate)
    outcomes = case.crawled.outcomes()
    assert outcomes[ACCOUNT, REGION, "struck"] == outcomes[ACCOUNT, REGION, None] == "FAILED"
    assert outcomes[OTHER, REGION, None] == "OK"
    assert case.crawled.line("struck")["code"] == "Interrupted"
    assert case.crawled.code == 3


@pytest.mark.parametrize("fault", ["same-token", "cycling-tokens", "endless-tokens", "endless-empty-pages"])
def test_a_list_of_repositories_that_never_ends_is_stopped_and_repeats_nothing(
    certificate: Certificate | None, tmp_path: Path, fault: str
) -> None:
    rule = Rule(fault=fault, operation="DescribeRepositories", account=ACCOUNT, times=0)
    names = [f"app-{n}" for n in range(1200)]  # two pages
    world = Estate(
        [
            Account(ACCOUNT, repositories={REGION: {name: Repository(name, Series(name, 1)) for name in names}}),
            Account(OTHER),
        ],
        regions=[REGION],
    )
    case = crawl(tmp_path, world, [rule], certificate=certificate)
    assert case.crawled.outcomes()[ACCOUNT, REGION, None] == "FAILED"
    assert case.crawled.code == 3
    assert case.crawled.rows <= case.truth, "no row twice"


def test_a_session_that_ends_in_mid_crawl_is_renewed_once_for_all(
    certificate: Certificate | None, tmp_path: Path
) -> None:
    names = [f"app-{n}" for n in range(6)]
    rule = Rule(fault="session-ended", operation="ListImages", pages=(2,), limit=1)
    case = crawl(tmp_path, estate(names), [rule], certificate=certificate)
    assert case.crawled.code == 0, case.crawled.stderr
    assert case.crawled.rows == case.truth
    assert case.stats["requests"]["sts:AssumeRole"] == 3, "one for each account, and one for all who waited"
    assert set(case.crawled.outcomes().values()) == {"OK"}
    # A page for each that was under way when the session ended, once more: its slots are eight.
    assert sum(line["attempts"] for line in case.crawled.ledger) == sum(line["pages"] for line in case.crawled.ledger)
    assert (
        case.stats["requests"]["ecr:ListImages"]
        <= sum(line["pages"] for line in case.crawled.ledger if line["repositoryName"]) + 8
    )


def test_a_wrong_clock_stops_the_run_early(certificate: Certificate | None, tmp_path: Path) -> None:
    rule = Rule(fault="time-too-skewed", operation="*", times=0)
    case = crawl(tmp_path, estate(["any"]), [rule], certificate=certificate)
    assert case.crawled.code == 1
    assert re.search(r"this machine's clock is 1,?(199|200) s behind AWS's", case.crawled.stderr)
    assert case.crawled.stdout == b""
    assert case.stats["requests"].keys() == {"sts:AssumeRole"}, "nobody was asked with keys that are no good"
    assert case.stats["requests"].total() <= 2, "no one was asked again"
    assert case.crawled.outcomes() == {(ACCOUNT, REGION, None): "FAILED", (OTHER, REGION, None): "FAILED"}
    assert "ClockSkew" in {line["code"] for line in case.crawled.ledger} <= {"ClockSkew", "Interrupted", "NotReached"}


def test_a_clock_that_goes_wrong_in_mid_crawl_stops_it_with_what_it_has(
    certificate: Certificate | None, tmp_path: Path
) -> None:
    rule = Rule(fault="time-too-skewed", operation="ListImages", repository="struck", pages=(2,), times=0)
    case = crawl(tmp_path, estate(["struck"]), [rule], certificate=certificate)
    assert case.crawled.code == 1
    line = case.crawled.line("struck")
    assert (line["outcome"], line["code"], line["attempts"]) == ("FAILED", "ClockSkew", 2)
    assert case.crawled.rows <= case.truth
    assert case.crawled.rows.total() == sum(line["rows"] for line in case.crawled.ledger)
    assert case.crawled.report["status"] == "failed"


@pytest.mark.parametrize(
    ("regions", "outcome"), [(["eu-west-1", "me-south-1"], "REGION_DISABLED"), (["me-south-1"], "DENIED")]
)
def test_a_region_is_disabled_only_where_another_one_answered(
    certificate: Certificate | None, program: Program, regions: list[str], outcome: str
) -> None:
    app = {"app": Repository("app", Series("app", 5))}
    world = Estate(
        [Account(ACCOUNT, regions=("eu-west-1",), repositories={"eu-west-1": app})],
        regions=["eu-west-1", "me-south-1"],
    )
    with running(world, Options(tls=certificate.server if certificate else None)) as emulator:
        program.environment |= emulator.environment()
        if certificate:
            program.environment["AWS_CA_BUNDLE"] = str(certificate.bundle)
        crawled = program.crawl(
            f"accounts: [{{account_id: {ACCOUNT}, role: inventory, regions: [{', '.join(regions)}]}}]\n"
        )
        asked = emulator.stats()["requests"]["ecr:DescribeRepositories"]
    outcomes = crawled.outcomes()
    assert outcomes.pop((ACCOUNT, "me-south-1", None)) == outcome
    assert crawled.code == (0 if outcome == "REGION_DISABLED" else 3)
    assert set(outcomes.values()) == ({"OK"} if "eu-west-1" in regions else set())
    assert crawled.rows == Counter(tuple(row) for row in world.rows() if row[1] in regions)
    # Who knew the keys, once more; asking again where they were refused would not help.
    assert asked == len(regions) + (outcome == "REGION_DISABLED")
    assert crawled.report["seconds"] < BOUND


@pytest.fixture
def nobody() -> Iterator[str]:
    import socket  # noqa: PLC0415  (of one test alone)

    with socket.socket() as bound:  # bound, and nobody listens
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


@pytest.mark.parametrize(
    ("where", "code"),
    [("refused", "ConnectionBroken"), ("no such host", "UnknownHost"), ("another's certificate", "CertificateRefused")],
)
def test_an_endpoint_that_is_not_there_fails_its_target_and_no_other(
    program: Program, nobody: str, tmp_path: Path, where: str, code: str
) -> None:
    world = estate(["app"])
    urls = {"refused": nobody, "no such host": "https://example.invalid"}
    with running(world) as emulator, running(world, Options(tls=certify(tmp_path).server)) as stranger:
        environment = emulator.environment()
        config = tmp_path / "config"
        config.write_text(
            f"""
            [profile broken]
            endpoint_url = {urls.get(where, stranger.url)}
            aws_access_key_id = a
            aws_secret_access_key = b
            [profile hub]
            endpoint_url = {emulator.url}
            aws_access_key_id = {environment.pop("AWS_ACCESS_KEY_ID")}
            aws_secret_access_key = {environment.pop("AWS_SECRET_ACCESS_KEY")}
            [profile sound]
            endpoint_url = {emulator.url}
            role_arn = arn:aws:iam::{OTHER}:role/inventory
            source_profile = hub
            """.replace("            ", "")
        )
        del environment["AWS_ENDPOINT_URL"]  # it would win over those of the profiles
        # Whatever would go to AWS all the same ends at a port of ours.
        environment |= {"AWS_CONFIG_FILE": str(config), "HTTPS_PROXY": nobody, "NO_PROXY": "127.0.0.1,.invalid"}
        program.environment |= environment | {"no_proxy": environment["NO_PROXY"]}
        entries = [(ACCOUNT, "broken"), (OTHER, "sound")]
        accounts = "".join(f"- {{account_id: {id_}, profile: {how}, regions: [{REGION}]}}\n" for id_, how in entries)
        crawled = program.crawl(f"accounts:\n{accounts}", "--attempts", "2")
    assert crawled.code == 3, crawled.stderr
    assert crawled.outcomes() == {
        (ACCOUNT, REGION, None): "FAILED",
        (OTHER, REGION, None): "OK",
        (OTHER, REGION, BYSTANDER): "OK",
    }
    assert [line["code"] for line in crawled.ledger if line["outcome"] == "FAILED"] == [code]
    assert {row[0] for row in crawled.rows} == {OTHER}
    assert crawled.rows.total() == sum(row[0] == OTHER for row in world.rows())
