"""What a person sees at the end, and the same as JSON."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from crawler.ledger import FAILURES_KEPT, Ledger
from crawler.model import INTERRUPTED, NOT_REACHED, Account, Chain, Outcome, Result, Target, Unit
from crawler.report import FAILURES_SHOWN, Ending, Terminal, as_json, describe, next_step, printable, summarize
from tests.fakes import run

STARTED = datetime(2026, 11, 23, 1, 2, 3, 456789, tzinfo=UTC)
ACCOUNT = Account("1" * 12, name="payments [bold]prod[/bold]")
TARGET = Target(ACCOUNT, "eu-west-1", "2" * 12)


def ending(status: str = "complete", code: int = 0, reason: str | None = None) -> Ending:
    return Ending(status, code, reason, STARTED, STARTED + timedelta(seconds=3661.5))


def recorded(*results: Result) -> Ledger:
    ledger = Ledger()

    async def main() -> None:
        for result in results:
            await ledger.record(result)

    run(main)
    return ledger


def failed(repository: str | None = "app", message: str = "no", outcome: Outcome = Outcome.DENIED) -> Result:
    return Result(Unit.of(TARGET, repository), outcome, "AccessDenied", message)


def summary(ledger: Ledger, end: Ending, width: int = 80) -> str:
    console = Console(file=io.StringIO(), record=True, width=width, force_terminal=False)
    summarize(console, ledger, end)
    return console.export_text()


FINE = Result(Unit.of(TARGET, "app"), Outcome.OK, chain=Chain(pages=3, items=1_234_567, attempts=5, throttled=2))


def test_the_keys_of_the_report_are_fixed() -> None:
    ledger = recorded(FINE, Result(Unit.of(TARGET), Outcome.OK), failed())
    report = json.loads(as_json(ledger, ending("incomplete", 3), version="1.2", settings={"accounts": "a.yaml"}))
    outcomes = ["OK", "EMPTY", "DENIED", "GONE", "REGION_DISABLED", "THROTTLED", "FAILED"]
    assert list(report["targets"]) == list(report["repositories"]) == outcomes
    assert report.pop("targets")["OK"] == 1
    assert report.pop("repositories")["DENIED"] == 1
    assert list(report.items()) == [
        ("status", "incomplete"),
        ("complete", False),
        ("reason", None),
        ("exitCode", 3),
        ("startedAt", "2026-11-23T01:02:03.456+00:00"),
        ("endedAt", "2026-11-23T02:03:04.956+00:00"),
        ("seconds", 3661.5),
        ("rows", 1_234_567),
        ("pages", 3),
        ("requests", 5),
        ("throttled", 2),
        ("restarts", 0),
        ("warnings", []),
        (
            "failures",
            [
                {
                    "registryId": "2" * 12, "region": "eu-west-1", "repositoryName": "app",
                    "outcome": "DENIED", "code": "AccessDenied", "message": "no", "units": 1,
                }
            ],
        ),
        ("failuresOmitted", 0),
        ("stopped", 0),
        ("settings", {"accounts": "a.yaml"}),
        ("version", "1.2"),
    ]  # fmt: skip


def test_no_key_is_left_out_when_nothing_happened() -> None:
    full = json.loads(as_json(recorded(FINE, failed()), ending(), version="1", settings={}))
    empty = json.loads(as_json(Ledger(), ending(), version="1", settings={}))
    assert list(full) == list(empty)
    assert list(full["targets"]) == list(empty["targets"])
    assert empty["complete"] is True


def test_failures_beyond_those_kept_are_counted() -> None:
    ledger = recorded(*(failed(message=str(number)) for number in range(FAILURES_KEPT + 7)))
    report = json.loads(as_json(ledger, ending(), version="1", settings={}))
    assert (len(report["failures"]), report["failuresOmitted"]) == (FAILURES_KEPT, 7)


def test_one_cause_in_one_account_is_one_line_with_the_number_of_its_units() -> None:
    other = Result(Unit.of(Target(Account("3" * 12), "eu-west-1", "3" * 12)), Outcome.DENIED, "AccessDenied", "no")
    ledger = recorded(*[failed(None)] * 34, other, failed(None, "another"))
    text = summary(ledger, ending(), width=200)
    account = "222222222222 (payments [bold]prod[/bold])"
    assert f"DENIED {account} eu-west-1 and 33 more: AccessDenied: no\n" in text
    assert f"DENIED {account} eu-west-1: AccessDenied: another\n" in text
    assert text.count("DENIED 333333333333 eu-west-1: ") == 1
    assert "a --ledger FILE" not in text
    report = json.loads(as_json(ledger, ending(), version="1", settings={}))
    assert [failure["units"] for failure in report["failures"]] == [34, 1, 1]
    assert report["failuresOmitted"] == 0


def test_a_report_with_any_name_is_ascii() -> None:
    report = as_json(recorded(failed("\ud800\u2028é")), ending(), version="1", settings={})
    assert report.isascii()
    assert json.loads(report)["failures"][0]["repositoryName"] == "\ud800\u2028é"


def test_a_summary_of_a_complete_run() -> None:
    assert summary(recorded(FINE, Result(Unit.of(TARGET), Outcome.OK)), ending()) == (
        "1,234,567 rows from 1 repository in 1 target, 3,661.5 s, 5 ECR requests (2 throttled)\n"
        "outcome  targets  repositories\n"
        "OK             1             1\n"
        "COMPLETE\n"
    )


def test_a_summary_says_what_is_missing_why_and_what_to_do() -> None:
    results = [failed("app"), failed(None, outcome=Outcome.FAILED), failed("b", outcome=Outcome.THROTTLED)]
    text = summary(recorded(*results), ending("incomplete", 3, "because"), width=40)
    lines = text.splitlines()
    # Long lines are left to the terminal: a log that is searched has them whole.
    assert "DENIED 222222222222 (payments [bold]prod[/bold]) eu-west-1 app: AccessDenied: no" in lines
    assert "FAILED 222222222222 (payments [bold]prod[/bold]) eu-west-1: AccessDenied: no" in lines
    assert [line.partition(":")[0] for line in lines[-4:]] == ["Denied", "Failed", "Throttled", "INCOMPLETE"]
    assert lines[-1] == "INCOMPLETE: because"
    assert lines[0].startswith("0 rows from 2 repositories in 1 target")
    assert lines[0].endswith("(0 throttled)")


def test_the_summary_shows_some_failures_and_counts_the_rest() -> None:
    text = summary(recorded(*(failed(message=str(number)) for number in range(FAILURES_KEPT + 7))), ending())
    assert text.count("DENIED 222222222222") == FAILURES_SHOWN
    assert f"… and {FAILURES_KEPT + 7 - FAILURES_SHOWN} more; a --ledger FILE has them all" in text


def test_warnings_are_told_with_their_places() -> None:
    ledger = Ledger()
    for region in ["eu-1", "eu-2", "eu-1", "eu-3", "eu-4", "eu-5\x1b"]:
        ledger.warn("something is not listed", region)
    ledger.warn("and another", "x")
    text = summary(ledger, ending(), width=200)
    assert "Warning: something is not listed: eu-1, eu-2, eu-3 and 2 more\nWarning: and another: x\n" in text
    report = json.loads(as_json(ledger, ending(), version="1", settings={}))
    assert report["warnings"][0] == {
        "message": "something is not listed",
        "where": ["eu-1", "eu-2", "eu-3", "eu-4", "eu-5\x1b"],
    }


def test_new_starts_are_told() -> None:
    restarted = Result(Unit.of(TARGET, "a"), Outcome.OK, chain=Chain(restarts=2))
    assert "2 chains began anew after a refused token." in summary(recorded(restarted), ending(), width=200)


def test_what_a_terminal_would_obey_is_shown_instead() -> None:
    text = summary(recorded(failed("a\x1b[31m", "b\r\n\x07\u202ec")), ending("failed", 1, "\x1b]0;owned\x07"))
    assert not set(text) & set("\x1b\r\x07\u202e")
    assert r"eu-west-1 a\x1b[31m: AccessDenied: b\r\n\x07\u202ec" in text
    assert r"FAILED: \x1b]0;owned\x07" in text


@pytest.mark.parametrize(
    ("text", "shown"),
    [("é 😀 日本", "é 😀 日本"), ("\0", r"\x00"), ("\u2028", r"\u2028"), ("\ud800", r"\ud800"), ("\xa0", r"\xa0")],
)
def test_printable(text: str, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.parametrize(
    ("result", "line"),
    [
        (Result(Unit(), Outcome.DENIED, "AccessDenied", "no"), "DENIED organization: AccessDenied: no"),
        (Result(Unit(Account("3" * 12), "3" * 12), Outcome.FAILED), "FAILED 333333333333"),
        (Result(Unit.of(TARGET), Outcome.FAILED, "X"), f"FAILED {'2' * 12} ({ACCOUNT.name}) eu-west-1: X"),
    ],
)
def test_one_line_on_one_unit(result: Result, line: str) -> None:
    assert describe(result) == line


def test_a_terminal_that_is_gone_ends_nothing() -> None:
    class Gone(io.StringIO):
        def write(self, _: str) -> int:
            raise BrokenPipeError

    terminal = Terminal(file=Gone())
    summarize(terminal, recorded(FINE, failed()), ending())
    assert terminal.quiet


def test_a_name_between_colons_is_shown_as_it_is() -> None:
    file = io.StringIO()
    Terminal(file).print("account prod:rocket: is denied", markup=False)
    assert file.getvalue() == "account prod:rocket: is denied\n"


def test_units_that_a_stop_left_behind_are_counted_and_not_listed() -> None:
    stopped = [
        Result(Unit.of(TARGET, "a"), Outcome.FAILED, INTERRUPTED, "stopped"),
        *[Result(Unit.of(TARGET, name), Outcome.FAILED, NOT_REACHED, "stopped") for name in "bcd"],
    ]
    text = summary(recorded(failed(), *stopped), ending("interrupted", 130, "SIGINT received"))
    assert "4 were begun and not ended, or known and not begun." in text
    assert text.count("222222222222") == 1
    assert "more" not in text
    report = json.loads(as_json(recorded(*stopped), ending(), version="1", settings={}))
    assert (report["failures"], report["failuresOmitted"], report["stopped"]) == ([], 0, 4)


@pytest.mark.parametrize(
    ("outcome", "code", "step"),
    [
        (Outcome.DENIED, "AccessDeniedException", "Denied: "),
        (Outcome.DENIED, "NoCredentials", "Credentials: "),
        (Outcome.DENIED, "MfaRequired", "Credentials: "),
        (Outcome.DENIED, "ExpiredTokenException", "The credentials have ended"),
        (Outcome.DENIED, "UnrecognizedClientException", "AWS does not know these keys"),
        (Outcome.DENIED, "InvalidSignatureException", "The secret key does not belong"),
        (Outcome.FAILED, "EndpointRefused", "Correct the setting"),
        (Outcome.FAILED, "NoRegionMatches", "Correct the setting"),
        (Outcome.FAILED, "ConnectionBroken", "Failed: "),
        (Outcome.THROTTLED, "ThrottlingException", "Throttled: "),
    ],
)
def test_the_next_step_follows_from_what_went_wrong(outcome: Outcome, code: str, step: str) -> None:
    assert next_step(Result(Unit.of(TARGET), outcome, code, "")).startswith(step)
