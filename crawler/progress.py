"""How far a run has come: live on a terminal, a line every so often elsewhere, always on standard error."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

import anyio
from rich.console import Console
from rich.live import Live
from rich.text import Text

from crawler.ledger import Ledger

#: Seconds between two looks at the sums.
LIVE_EVERY = 0.25
LINES_EVERY = 30.0

#: Seconds before the first line: whoever waits for a run that does not start wants to know soon.
FIRST_LINE = 5.0


@asynccontextmanager
async def progress(ledger: Ledger, console: Console, *, quiet: bool = False) -> AsyncGenerator[None]:
    """Show the ledger's sums while the body runs. Costs nothing per row: it only looks now and then."""
    if quiet:
        yield
        return
    async with anyio.create_task_group() as group:
        group.start_soon(_show, ledger, console)
        yield
        group.cancel_scope.cancel()


async def _show(ledger: Ledger, console: Console) -> None:
    # A terminal that went away (EIO) ends the display, not the run.
    with suppress(OSError):
        if console.is_terminal and not console.is_dumb_terminal:
            await _show_live(ledger, console)
        else:
            await _show_lines(ledger, console)


async def _show_live(ledger: Ledger, console: Console) -> None:
    started = anyio.current_time()
    # rich refreshes from a thread unless told not to: the loop does it here, between two requests.
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while True:
            live.update(Text(_line(ledger, anyio.current_time() - started)), refresh=True)
            await anyio.sleep(LIVE_EVERY)


async def _show_lines(ledger: Ledger, console: Console) -> None:
    started = anyio.current_time()
    await anyio.sleep(FIRST_LINE)
    while True:
        console.print(_line(ledger, anyio.current_time() - started), highlight=False, soft_wrap=True)
        await anyio.sleep(LINES_EVERY)


def _line(ledger: Ledger, seconds: float) -> str:
    totals = ledger.totals
    rate = totals.rows / seconds if seconds else 0.0
    missing = ledger.incomplete()
    return (
        f"{seconds:,.0f} s: {totals.targets.total():,} targets and {totals.repositories.total():,} repositories done, "
        f"{totals.rows:,} rows ({rate:,.0f}/s), {totals.throttled:,} requests throttled"
        + (f", {missing:,} units missing" if missing else "")
    )
