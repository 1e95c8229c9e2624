"""How far a run has come, on a virtual clock; and the log beside it."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterator

import anyio
import pytest
import structlog
from anyio.lowlevel import checkpoint
from rich.console import Console

from crawler.hints import Expected
from crawler.ledger import Ledger, Running
from crawler.logs import LogFormat, configure
from crawler.model import Account, Chain, Outcome, Result, Unit
from crawler.progress import FIRST_LINE, LINES_EVERY, SLOW, progress
from crawler.progress import _line as progress_line
from tests.fakes import leaves, run

UNIT = Unit(Account("1" * 12), "1" * 12, "eu-west-1", "app")


def console(stream: io.StringIO, **how: object) -> Console:
    return Console(file=stream, width=200, **how)  # type: ignore[arg-type]  # any of Console's


def test_elsewhere_than_on_a_terminal_it_is_a_line_now_and_then() -> None:
    stream = io.StringIO()

    async def main() -> None:
        ledger = Ledger()
        async with progress(ledger, console(stream)):
            await anyio.sleep(FIRST_LINE + 1)
            await ledger.record(Result(UNIT, Outcome.OK, chain=Chain(items=120_000, throttled=3)))
            await anyio.sleep(LINES_EVERY)
            await ledger.record(Result(UNIT, Outcome.DENIED))
            await anyio.sleep(LINES_EVERY)

    run(main)
    assert stream.getvalue().splitlines() == [
        "5 s: 0 targets and 0 repositories done, 0 rows (0/s), 0 requests throttled",
        "35 s: 0 targets and 1 repository done, 120,000 rows (3,429/s), 3 requests throttled",
        "65 s: 0 targets and 2 repositories done, 120,000 rows (1,846/s), 3 requests throttled, 1 unit missing",
    ]


def test_what_is_left_is_told_in_pages_once_the_last_run_is_known() -> None:
    stream = io.StringIO()

    async def main() -> None:
        ledger = Ledger()
        chain = Chain()
        ledger.running[0] = Running(UNIT, chain, 0.0)
        async with progress(ledger, console(stream), expected=Expected(1000, 600.0)):
            await anyio.sleep(FIRST_LINE + 1)
            chain.pages = 350  # of a repository that has not ended
            await anyio.sleep(LINES_EVERY)
            chain.pages = 900
            await anyio.sleep(LINES_EVERY)
            chain.pages = 1001
            await anyio.sleep(LINES_EVERY)

    run(main)
    assert [line.partition("; ")[2] for line in stream.getvalue().splitlines()] == [
        "0% of the last run's 1,000 pages",
        "35% of the last run's 1,000 pages, about 9 min left",  # of the longest target: 600 s
        "90% of the last run's 1,000 pages, about 9 min left",
        "1,001 pages, the last run had 1,000",
    ]


@pytest.mark.parametrize(("seconds", "told"), [(4000, "90 s"), (10_000, "3 min"), (1_000_000, "6 h 57 min")])
def test_what_is_left_is_in_units_that_fit(seconds: int, told: str) -> None:
    ledger = Ledger()
    ledger.totals.pages = 4000 if told == "90 s" else 1000
    line = progress_line(ledger, seconds, Expected(4090 if told == "90 s" else 1018 if told == "3 min" else 1025, 0.0))
    assert line.endswith(f"about {told} left")


def test_what_earlier_attempts_did_is_there_and_took_no_time_of_this_one() -> None:
    ledger = Ledger()
    ledger.totals.pages, ledger.totals.rows = 800, 800_000
    ledger.recalled()
    ledger.totals.pages, ledger.totals.rows = 850, 850_000
    line = progress_line(ledger, 100, Expected(1000, 0.0))
    assert "850,000 rows (500/s)" in line
    assert line.endswith("85% of the last run's 1,000 pages, about 5 min left")


def test_the_parts_of_a_chain_that_is_split_are_seen_while_they_go() -> None:
    ledger = Ledger()
    ledger.running[0] = Running(Unit(), Chain(parts=[Chain(pages=20), Chain(pages=30)]), 0.0)
    assert ledger.fetched() == 50


def test_a_terminal_sees_it_live_and_clean_at_the_end() -> None:
    stream = io.StringIO()

    async def main() -> None:
        async with progress(Ledger(), console(stream, force_terminal=True, _environ={"TERM": "xterm"})):
            await anyio.sleep(2)

    run(main)
    assert "2 s: 0 targets" in stream.getvalue()
    assert stream.getvalue().endswith("\x1b[2K")  # the line is taken away


def test_a_terminal_sees_bars_and_what_takes_long() -> None:
    stream = io.StringIO()

    async def main() -> None:
        ledger = Ledger()
        ledger.totals.accounts, ledger.totals.pages, ledger.totals.rows = 3, 250, 2_500
        begun = anyio.current_time()
        trouble = Chain(pages=70, trouble="ThrottlingException: Rate exceeded")
        ledger.running = {
            number: Running(Unit(None, "1" * 12, "eu-west-1", f"team/{number}\x1b"), chain, begun + number)
            for number, chain in enumerate([trouble, Chain(), Chain(), Chain(), Chain(pages=9)])
        }
        shown = console(stream, force_terminal=True, _environ={"TERM": "xterm"})
        async with progress(ledger, shown, accounts=12, expected=Expected(1000, 600.0, 40, 2_000)):
            await anyio.sleep(SLOW + 2.1)

    run(main)
    last = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", stream.getvalue()).split("7 s: ")[-1].splitlines()
    bars = [(line.split()[0], line.split("━")[-1].strip()) for line in last[1:5]]
    assert bars == [
        ("accounts", "3 of 12"),
        ("repositories", "0 of about 40"),
        ("pages", "329 of about 1,000"),
        ("rows", "2,500 of about 2,000"),
    ]
    assert [line.strip() for line in last[5:8]] == [
        r"7 s in 111111111111 eu-west-1 team/0\x1b: 70 pages, ThrottlingException: Rate exceeded",
        r"6 s in 111111111111 eu-west-1 team/1\x1b: 0 pages",
        r"5 s in 111111111111 eu-west-1 team/2\x1b: 0 pages",
    ]


def test_a_terminal_that_cannot_move_its_cursor_gets_lines() -> None:
    stream = io.StringIO()

    async def main() -> None:
        async with progress(Ledger(), console(stream, force_terminal=True, _environ={"TERM": "dumb"})):
            await anyio.sleep(FIRST_LINE)
            await anyio.wait_all_tasks_blocked()

    run(main)
    assert len(stream.getvalue().splitlines()) == 1


def test_quiet_shows_nothing() -> None:
    stream = io.StringIO()

    async def main() -> None:
        async with progress(Ledger(), console(stream), quiet=True):
            await anyio.sleep(10 * LINES_EVERY)

    run(main)
    assert stream.getvalue() == ""


@pytest.mark.parametrize("terminal", [False, True])
def test_a_display_that_cannot_be_written_does_not_end_the_run(*, terminal: bool) -> None:
    class Gone(io.StringIO):
        def write(self, _: str) -> int:
            raise OSError(5, "Input/output error")

    async def main() -> str:
        async with progress(Ledger(), console(Gone(), force_terminal=terminal, _environ={"TERM": "xterm"})):
            await anyio.sleep(5 * LINES_EVERY)
        return "done"

    assert run(main) == "done"


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_an_error_of_the_body_leaves_and_the_display_ends(backend: str) -> None:
    async def main() -> None:
        async with progress(Ledger(), console(io.StringIO())):
            await checkpoint()
            raise ValueError("a bug")

    with pytest.raises(ExceptionGroup) as caught:
        run(main, backend)
    assert [str(leaf) for leaf in leaves(caught.value)] == ["a bug"]


@pytest.fixture
def log(capsys: pytest.CaptureFixture[str]) -> Iterator[pytest.CaptureFixture[str]]:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield capsys
    root.handlers[:], level = before
    root.setLevel(level)
    structlog.reset_defaults()


def speak() -> None:
    ours, theirs = logging.getLogger("crawler.job"), logging.getLogger("botocore.auth")
    ours.debug("a detail %d", 7)
    ours.info("it happens")
    ours.warning("look", extra={"account": "1" * 12})
    structlog.get_logger("crawler.aws").warning("and here", endpoint="a\nb\x1b[31m")
    for name in (
        "botocore.auth",
        "botocore.hooks",
        "aiobotocore",
        "urllib3.connectionpool",
        "asyncio",
        "aiohttp.client",
    ):
        logging.getLogger(name).debug("X-Amz-Security-Token:canary")
        logging.getLogger(name).info("Authorization: canary")
    theirs.warning("theirs")


@pytest.mark.parametrize(("verbosity", "events"), [(0, 3), (1, 4), (2, 5), (3, 5)])
@pytest.mark.parametrize("log_format", ["json", "text"])
def test_the_log_says_as_much_as_asked_and_never_a_secret(
    log: pytest.CaptureFixture[str], log_format: LogFormat, verbosity: int, events: int
) -> None:
    configure(log_format, verbosity)
    speak()
    written = log.readouterr()
    assert written.out == ""
    assert len(written.err.splitlines()) == events
    assert "canary" not in written.err
    assert "\x1b" not in written.err


def test_what_a_library_notes_in_each_line_is_not_shown(log: pytest.CaptureFixture[str]) -> None:
    """Ray does: a time of its own, under a name that is not for others."""
    configure("json", 0)
    logging.getLogger("crawler.job").warning("look", extra={"account": "1" * 12, "_noted_by_a_library": 7})
    (line,) = log.readouterr().err.splitlines()
    assert set(json.loads(line)) == {"event", "level", "logger", "timestamp", "account"}


def test_json_lines_parse_and_have_the_same_fields(log: pytest.CaptureFixture[str]) -> None:
    configure("json", 2)
    speak()
    try:
        int("a bug\nin two lines")
    except ValueError:
        logging.getLogger("crawler").exception("failed")
    lines = [json.loads(line) for line in log.readouterr().err.splitlines()]
    assert all({"event", "level", "logger", "timestamp"} <= set(line) for line in lines)
    assert [line["event"] for line in lines] == ["a detail 7", "it happens", "look", "and here", "theirs", "failed"]
    assert lines[2]["account"] == "1" * 12
    assert lines[3]["endpoint"] == "a\nb\x1b[31m"
    assert "ValueError: invalid literal" in lines[5]["exception"]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", line["timestamp"]) for line in lines)


def test_configured_twice_it_speaks_once(log: pytest.CaptureFixture[str]) -> None:
    configure("json", 0)
    configure("text", 0)
    logging.getLogger("crawler").warning("once")
    assert log.readouterr().err.count("once") == 1
