"""How far a run has come: live on a terminal, a line every so often elsewhere, always on standard error."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from heapq import nsmallest

import anyio
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from crawler.hints import Expected
from crawler.ledger import Ledger
from crawler.report import printable
from crawler.wording import counted

#: Seconds between two looks at the sums.
LIVE_EVERY = 0.25
LINES_EVERY = 30.0

#: Seconds before the first line: whoever waits for a run that does not start wants to know soon.
FIRST_LINE = 5.0

#: Repositories that are shown live, of those that have been listed for longest; and seconds from which on that is long.
SLOWEST_SHOWN, SLOW = 3, 5.0

_BAR_WIDTH = 40

#: The part of all pages from which on their pace says something of the rest.
_TELLING = 0.01

#: Seconds, and minutes, from which on the next larger unit is told.
_MINUTES, _HOURS = 120, 120


@asynccontextmanager
async def progress(
    ledger: Ledger,
    console: Console,
    *,
    accounts: int | None = None,
    expected: Expected | None = None,
    quiet: bool = False,
) -> AsyncGenerator[None]:
    """Show the ledger's sums while the body runs, and how much is left if the hints `expected` something.

    `accounts` is how many there will be, None where that is not known.

    Costs nothing per row: it only looks now and then.
    """
    if quiet:
        yield
        return
    async with anyio.create_task_group() as group:
        group.start_soon(_show, ledger, console, accounts, expected)
        yield
        group.cancel_scope.cancel()


async def _show(ledger: Ledger, console: Console, accounts: int | None, expected: Expected | None) -> None:
    # A terminal that went away (EIO) ends the display, not the run.
    with suppress(OSError):
        if console.is_terminal and not console.is_dumb_terminal:
            await _show_live(ledger, console, accounts, expected)
        else:
            await _show_lines(ledger, console, expected)


async def _show_live(ledger: Ledger, console: Console, accounts: int | None, expected: Expected | None) -> None:
    started = anyio.current_time()
    # rich refreshes from a thread unless told not to: the loop does it here, between two requests.
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while True:
            now = anyio.current_time()
            line = Text(_line(ledger, now - started, expected))
            live.update(Group(line, *_bars(ledger, accounts, expected), *_slowest(ledger, now)), refresh=True)
            await anyio.sleep(LIVE_EVERY)


def _bars(ledger: Ledger, accounts: int | None, expected: Expected | None) -> list[Table]:
    """A bar for each sum of which it is known how large it will be."""
    totals, last = ledger.totals, expected or Expected(0, 0.0)
    table = Table.grid(padding=(0, 1))
    for name, done, total in (
        ("accounts", totals.accounts, accounts or 0),
        ("repositories", totals.repositories.total(), last.repositories),
        ("pages", ledger.fetched(), last.pages),
        ("rows", totals.rows, last.rows),
    ):
        if total:
            bar = ProgressBar(total=total, completed=min(done, total), width=_BAR_WIDTH)
            table.add_row(name, bar, f"{done:,} of {'' if name == 'accounts' else 'about '}{total:,}")
    return [table] if table.row_count else []


def _slowest(ledger: Ledger, now: float) -> list[Text]:
    """The repositories that have been listed for longest, and what their last request failed with, if it did."""
    slow = [one for one in ledger.running.values() if one.unit.repository and now - one.since >= SLOW]
    return [
        Text(
            printable(
                f"{duration(now - one.since)} in {one.unit.registry_id} {one.unit.region} {one.unit.repository}: "
                f"{counted(one.chain.pages, 'page')}{f', {one.chain.trouble}' if one.chain.trouble else ''}"
            ),
            no_wrap=True,
            overflow="ellipsis",
        )
        for one in nsmallest(SLOWEST_SHOWN, slow, key=lambda one: one.since)
    ]


async def _show_lines(ledger: Ledger, console: Console, expected: Expected | None) -> None:
    started = anyio.current_time()
    await anyio.sleep(FIRST_LINE)
    while True:
        console.print(_line(ledger, anyio.current_time() - started, expected), highlight=False, soft_wrap=True)
        await anyio.sleep(LINES_EVERY)


def _line(ledger: Ledger, seconds: float, expected: Expected | None) -> str:
    totals = ledger.totals
    rate = (totals.rows - ledger.recalled_rows) / seconds if seconds else 0.0
    missing = ledger.incomplete()
    return (
        f"{seconds:,.0f} s: {counted(totals.targets.total(), 'target')} and "
        f"{counted(totals.repositories.total(), 'repository')} done, {counted(totals.rows, 'row')} ({rate:,.0f}/s), "
        f"{counted(totals.throttled, 'request')} throttled"
        + (f", {counted(missing, 'unit')} missing" if missing else "")
        + (_left(ledger.fetched(), ledger.recalled_pages, seconds, expected) if expected else "")
    )


def _left(pages: int, recalled: int, seconds: float, expected: Expected) -> str:
    """How far it is, in pages: half of the targets may be a hundredth of the work. `recalled` took no time of ours."""
    if pages >= expected.pages:
        return f"; {counted(pages, 'page')}, the last run had {expected.pages:,}"
    told = f"; {pages / expected.pages:.0%} of the last run's {counted(expected.pages, 'page')}"
    fetched = pages - recalled
    if fetched < _TELLING * expected.pages:
        return told
    # A target that is throttled, or the longest chain, may outlast all others: it was begun first.
    left = max(seconds * (expected.pages - pages) / fetched, expected.seconds - seconds)
    return f"{told}, about {duration(left)} left"


def duration(seconds: float) -> str:
    """A time in the unit in which people would tell it."""
    if seconds < _MINUTES:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < _HOURS else f"{minutes // 60} h {minutes % 60:02} min"
