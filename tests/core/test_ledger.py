"""The ledger: a line for each unit, each once, and the sums over all."""

from __future__ import annotations

import json
import logging
from collections import Counter
from dataclasses import replace
from functools import partial

import anyio
import pytest
from anyio.lowlevel import checkpoint
from hypothesis import example, given, settings
from hypothesis import strategies as st

from crawler.ledger import FAILURES_KEPT, LAST_WORDS, Ledger, Running, Totals, line, nothing_matches, parse
from crawler.model import COMPLETE, INTERRUPTED, NOT_REACHED, Account, Chain, Outcome, Result, Target, Unit
from tests.fakes import run

ACCOUNT = Account("1" * 12, name="payments")
TARGET = Target(ACCOUNT, "eu-west-1", "2" * 12)


def result(outcome: Outcome, repository: str | None = "a", **chain: int) -> Result:
    return Result(Unit.of(TARGET, repository), outcome, chain=Chain(**chain))


def test_a_line_of_the_ledger_is_exactly_this() -> None:
    chain = Chain(pages=3, items=2500, attempts=5, throttled=2, last_token_hash="ab", restarts=1)
    repository = Result(Unit.of(TARGET, "team/app"), Outcome.THROTTLED, "ThrottlingException", "slow", chain, 1.23456)
    assert line(repository) == (
        b'{"registryId":"222222222222","region":"eu-west-1","repositoryName":"team/app","outcome":"THROTTLED",'
        b'"code":"ThrottlingException","message":"slow","pages":3,"rows":2500,"repositories":null,"attempts":5,'
        b'"throttled":2,"restarts":1,"seconds":1.235,"lastTokenHash":"ab","accountId":"111111111111",'
        b'"accountName":"payments"}\n'
    )
    target = json.loads(line(replace(repository, unit=Unit.of(TARGET))))
    assert (target["repositoryName"], target["rows"], target["repositories"]) == (None, 0, 2500)
    organization = json.loads(line(Result(Unit(), Outcome.DENIED)))
    nowhere = ("registryId", "region", "repositoryName", "accountId", "accountName")
    assert [organization[key] for key in nowhere] == [None] * 5
    nameless = json.loads(line(Result(Unit(Account("3" * 12), "3" * 12), Outcome.DENIED)))
    assert (nameless["accountId"], nameless["accountName"]) == ("3" * 12, None)


@pytest.mark.parametrize("name", ["\u2028", "a\nb", "a\r\nb", "\ud800", "\udc80x", "\0", "\x7f", "é", "😀", '"\\'])
def test_a_ledger_line_is_one_line_whatever_the_service_says(name: str) -> None:
    encoded = line(Result(Unit.of(TARGET, name), Outcome.FAILED, name, name))
    assert encoded.isascii()
    assert encoded.count(b"\n") == 1
    assert json.loads(encoded)["message"] == name


def test_sums_and_what_is_kept_of_them() -> None:
    async def main() -> Ledger:
        ledger = Ledger()
        for _ in range(FAILURES_KEPT + 5):
            await ledger.record(result(Outcome.DENIED, pages=1, items=2, attempts=3, throttled=1, restarts=1))
        for outcome in Outcome:
            await ledger.record(result(outcome, None, pages=1, items=7, attempts=1))
        return ledger

    ledger = run(main)
    totals = ledger.totals
    assert totals.repositories == Counter({Outcome.DENIED: FAILURES_KEPT + 5})
    assert totals.targets == Counter(dict.fromkeys(Outcome, 1))
    # What a target lists are repositories, not rows.
    assert (totals.rows, totals.pages, totals.requests) == (210, 112, 322)
    assert (totals.throttled, totals.restarts) == (105, 105)
    assert [failure.units for failure in ledger.failures] == [FAILURES_KEPT + 6, 1, 1]
    assert ledger.incomplete() == FAILURES_KEPT + 5 + len(set(Outcome) - COMPLETE)
    assert ledger.incomplete(frozenset({Outcome.DENIED})) == len(set(Outcome) - COMPLETE) - 1
    assert ledger.incomplete(frozenset(Outcome)) == 0


#: Surrogates too: JSON can say them, UTF-8 cannot hold them.
texts = st.text(st.characters(), max_size=4)
counts = st.integers(0, 10**9)


accounts = st.builds(Account, st.from_regex(r"[0-9]{12}", fullmatch=True), texts)
units = st.builds(Unit, st.none() | accounts, st.none() | texts, st.none() | texts, st.none() | texts)
chains = st.builds(Chain, counts, counts, counts, counts, st.none() | texts, counts)
seconds = st.integers(0, 10**7).map(lambda milliseconds: milliseconds / 1000)
results = st.builds(Result, units, st.sampled_from(Outcome), st.none() | texts, st.none() | texts, chains, seconds)


@settings(max_examples=30)
@given(results)
@example(Result(Unit(Account("1" * 12, "\ud800"), "1", "\ud800", "\udc80"), Outcome.OK, "\0", "\ud800", Chain(), 0.001))
def test_a_line_of_the_ledger_is_read_as_what_it_was_made_from(made: Result) -> None:
    assert parse(line(made)) == made


def test_of_an_account_the_id_and_the_name_are_left_in_a_line() -> None:
    account = Account("1" * 12, "payments", profile="hub", regions=("eu-*",))
    made = Result(Unit(account, "1" * 12, "eu-west-1", "a"), Outcome.OK, seconds=1.23456)
    assert parse(line(made)) == replace(
        made, unit=replace(made.unit, account=Account("1" * 12, "payments")), seconds=1.235
    )


def test_pages_of_units_that_have_not_ended_are_counted_too() -> None:
    ledger = Ledger()
    run(lambda: ledger.record(result(Outcome.OK, pages=3)))
    ledger.running = {pages: Running(Unit.of(TARGET), Chain(pages=pages), 0.0) for pages in (4, 5)}
    assert ledger.fetched() == 12


def test_what_earlier_attempts_did_is_told_apart_from_what_comes() -> None:
    ledger = Ledger()
    assert (ledger.recalled_pages, ledger.recalled_rows) == (0, 0)

    async def main() -> None:
        await ledger.record(result(Outcome.OK, pages=3, items=2500))
        ledger.recalled()
        await ledger.record(result(Outcome.OK, pages=1, items=7))

    run(main)
    assert (ledger.recalled_pages, ledger.recalled_rows) == (3, 2500)
    assert (ledger.totals.pages, ledger.totals.rows) == (4, 2507)


@settings(max_examples=30)
@given(st.lists(st.tuples(results, st.booleans()), max_size=6))
@example([(replace(result(Outcome.FAILED), code=INTERRUPTED), second) for second in (False, True)])
def test_the_sums_of_two_ledgers_are_those_of_one_that_had_all(ended: list[tuple[Result, bool]]) -> None:
    one, other, all_ = Ledger(), Ledger(), Ledger()

    async def main() -> None:
        for made, second in ended:
            await (other if second else one).record(made)
            await all_.record(made)
        for ledger in (one, other, all_):
            ledger.totals.accounts += 1
        await one.join(other.totals, b"", ())

    run(main)
    assert one.totals == replace(all_.totals, accounts=2)


def test_what_another_ledger_has_recorded_is_passed_on_and_its_failures_are_kept() -> None:
    lines = Lines()
    ledger = Ledger(lines)
    denied, stopped = result(Outcome.DENIED), replace(result(Outcome.FAILED), code=INTERRUPTED)

    async def main() -> None:
        await ledger.join(Totals(rows=7), b"one\ntwo\n", [result(Outcome.OK), denied, stopped, denied])
        await ledger.join(Totals(rows=1), b"", [])

    run(main)
    assert lines.taken == [b"one\ntwo\n"]
    assert ledger.totals == Totals(rows=8)
    assert [(failure.first, failure.units) for failure in ledger.failures] == [(denied, 2)]


def test_lines_of_another_ledger_have_a_moment_left_when_the_run_is_stopped() -> None:
    async def stopped(*lines: Lines) -> float:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await Ledger(*lines).join(Totals(), b"one\n", [])
        return anyio.current_time()

    first, second = Lines(LAST_WORDS / 2), Lines(LAST_WORDS / 2)
    assert run(lambda: stopped(first, second)) == LAST_WORDS
    assert first.taken == second.taken == [b"one\n"]


def test_units_that_a_stop_left_behind_have_failed_at_nothing() -> None:
    ledger = Ledger()

    async def main() -> None:
        for code in (INTERRUPTED, NOT_REACHED, "ConnectionBroken", INTERRUPTED):
            await ledger.record(replace(result(Outcome.FAILED), code=code))
        await ledger.record(result(Outcome.OK))

    assert ledger.running == {}
    run(main)
    assert ledger.totals.stopped == 3
    assert [(failure.first.code, failure.units) for failure in ledger.failures] == [("ConnectionBroken", 1)]


def test_targets_add_up_and_what_they_list_are_no_rows() -> None:
    ledger = Ledger()

    async def main() -> None:
        for items in (7, 5):
            await ledger.record(result(Outcome.OK, None, items=items))

    run(main)
    totals = ledger.totals
    assert (totals.targets[Outcome.OK], totals.listed, totals.rows) == (2, 12, 0)
    assert totals.outcomes() == {Outcome.OK: 2}


def test_causes_are_kept_up_to_a_number() -> None:
    ledger = Ledger()

    async def main() -> None:
        for number in [*range(FAILURES_KEPT + 2), 0, FAILURES_KEPT]:
            await ledger.record(replace(result(Outcome.DENIED), message=str(number)))

    run(main)
    assert [failure.first.message for failure in ledger.failures] == [str(number) for number in range(FAILURES_KEPT)]
    assert sum(failure.units for failure in ledger.failures) == FAILURES_KEPT + 1


def test_causes_differ_by_account_outcome_code_and_message() -> None:
    one = replace(result(Outcome.DENIED), code="A", message="no")
    other_account = replace(one, unit=Unit.of(replace(TARGET, account=Account("9" * 12))))
    others = [other_account, replace(one, outcome=Outcome.FAILED), replace(one, code="B"), replace(one, message="yes")]
    ledger = Ledger()

    async def main() -> None:
        for failed in [one, *others, one, replace(one, unit=Unit.of(TARGET, "b")), replace(one, unit=Unit())]:
            await ledger.record(failed)

    run(main)
    assert [(failure.first, failure.units) for failure in ledger.failures] == [
        (one, 3),
        *[(other, 1) for other in others],
        (replace(one, unit=Unit()), 1),
    ]


def test_a_warning_is_logged_once_and_each_of_its_places_is_kept_once(caplog: pytest.LogCaptureFixture) -> None:
    ledger = Ledger()
    for message, where in [("a", "x"), ("a", "y"), ("b", "x"), ("a", "x")]:
        ledger.warn(message, where)
    assert ledger.warnings == {"a": ["x", "y"], "b": ["x"]}
    told = [(record.levelname, record.getMessage(), vars(record)["where"]) for record in caplog.records]
    assert told == [("WARNING", "a", "x"), ("WARNING", "b", "x")]


@pytest.mark.parametrize(
    ("ended", "level"),
    [
        (result(Outcome.OK, "a"), "DEBUG"),
        (result(Outcome.GONE, "a"), "DEBUG"),
        (result(Outcome.DENIED, "a"), "INFO"),
        (result(Outcome.OK, None), "INFO"),
        (result(Outcome.FAILED, None), "INFO"),
    ],
)
def test_what_is_missing_and_whole_targets_are_told_sooner_than_each_repository(
    ended: Result, level: str, caplog: pytest.LogCaptureFixture
) -> None:
    ended = replace(ended, message="because")
    caplog.set_level(logging.INFO, "crawler.ledger")
    run(lambda: Ledger().record(ended))
    assert len(caplog.records) == (level == "INFO")
    caplog.clear()
    caplog.set_level(logging.DEBUG, "crawler.ledger")
    run(lambda: Ledger().record(ended))
    (record,) = caplog.records
    assert (record.levelname, record.getMessage()) == (level, "ended")
    expected = json.loads(line(ended))
    expected["reason"] = expected.pop("message")
    assert {key: value for key, value in vars(record).items() if key in expected} == expected


def test_who_is_told_hears_of_a_result_once_it_is_counted_and_before_its_line() -> None:
    lines = Lines()
    heard: list[tuple[Result, int, int]] = []
    ledger = Ledger(lines, tell=lambda ended: heard.append((ended, ledger.totals.pages, len(lines.taken))))
    ended = result(Outcome.OK, pages=3)
    run(lambda: ledger.record(ended))
    assert heard == [(ended, 3, 0)]
    assert len(lines.taken) == 1


class Lines:
    """Takes a line after some seconds, the whole of it or, cancelled, nothing."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.taken: list[bytes] = []

    async def __call__(self, data: bytes) -> None:
        await (anyio.sleep(self.seconds) if self.seconds else checkpoint())
        self.taken.append(data)


ENDED = result(Outcome.OK)


@pytest.mark.parametrize("slow", [0.0, LAST_WORDS / 2, 3 * LAST_WORDS])
def test_each_file_gets_each_line_once_however_slow_another_is(slow: float) -> None:
    quick, slower, last = Lines(), Lines(slow), Lines()
    run(lambda: Ledger(quick, slower, last).record(ENDED))
    assert quick.taken == slower.taken == last.taken == [line(ENDED)]


def test_a_line_that_is_under_way_when_the_run_is_stopped_has_a_moment_left() -> None:
    async def stopped(lines: Lines) -> float:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await Ledger(lines).record(ENDED)
        return anyio.current_time()

    soon, late = Lines(LAST_WORDS - 0.125), Lines(LAST_WORDS + 0.125)
    assert run(lambda: stopped(soon)) == LAST_WORDS - 0.125
    assert soon.taken == [line(ENDED)]
    assert run(lambda: stopped(late)) == LAST_WORDS
    assert late.taken == []


def test_the_same_refusal_in_every_place_of_an_account_is_one_cause() -> None:
    account = Account("1" * 12)

    def refused(region: str, repository: str, action: str = "ecr:ListImages") -> Result:
        message = f"{action} of {repository} in {region} of registry {'2' * 12}: not allowed"
        return Result(Unit(account, "2" * 12, region, repository), Outcome.DENIED, "AccessDeniedException", message)

    async def main() -> Ledger:
        ledger = Ledger()
        for region in ("eu-west-1", "us-east-1"):
            for repository in ("api", "team/base"):
                await ledger.record(refused(region, repository))
        await ledger.record(refused("eu-west-1", "api", "ecr:DescribeImages"))
        return ledger

    failures = anyio.run(main).failures
    assert [(failure.first.unit.repository, failure.units) for failure in failures] == [("api", 4), ("api", 1)]


def test_several_lines_at_once_are_the_lines_of_each() -> None:
    sent: list[bytes] = []

    async def send(data: bytes) -> None:
        await checkpoint()
        sent.append(data)

    results = [result(Outcome.OK), result(Outcome.DENIED, "b")]
    ledger = Ledger(send)
    run(lambda: ledger.enter(results))
    run(lambda: ledger.enter([]))
    assert sent == [b"".join(map(line, results))]
    assert ledger.totals.repositories == {Outcome.OK: 1, Outcome.DENIED: 1}


def test_what_is_kept_is_recorded_by_whoever_keeps_it() -> None:
    ledger, kept = Ledger(), list[Result]()

    def keeps(ended: Result) -> bool:
        kept.append(ended)
        return ended.outcome is Outcome.OK

    ledger.keeps = keeps
    ended = [result(Outcome.OK), result(Outcome.DENIED)]
    for each in ended:
        run(partial(ledger.record, each))
    assert kept == ended
    assert ledger.totals.repositories == {Outcome.DENIED: 1}


ASKED: dict[str, tuple[str, ...]] = dict.fromkeys(("account", "account_tag", "region", "repository"), ())


@pytest.mark.parametrize(
    ("asked", "targets", "listed", "repositories", "told"),
    [
        ({}, 0, 0, 0, "nothing to crawl: no account or region matches the accounts file"),
        (
            {"account": ("prod-*", "1"), "account_tag": ("team=a",), "region": ("eu-wset-1",), "repository": ("r",)},
            0, 0, 0,
            "nothing to crawl: no account or region matches --account prod-*,1 --account-tag team=a --region eu-wset-1",
        ),
        (
            {"repository": ("Team/*", "b")}, 2, 1, 0,
            "--repository Team/*,b matches none of 1 repository; globs match whole names, by case",
        ),
        ({"repository": ("a",)}, 2, 3, 1, None),
        ({"repository": ("a",)}, 2, 0, 0, None),
        ({}, 2, 3, 0, None),
    ],
)  # fmt: skip
def test_what_exists_nowhere_is_told_as_it_was_asked_for(
    asked: dict[str, tuple[str, ...]], targets: int, listed: int, repositories: int, told: str | None
) -> None:
    ended = (+Counter({Outcome.OK: number}) for number in (targets, repositories))
    assert nothing_matches(ASKED | asked, Totals(*ended, listed)) == told
