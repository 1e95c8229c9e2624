"""How a run ended, in a word, a code and a reason."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from crawler.destination import Destination
from crawler.engines.local import Stop
from crawler.errors import Fatal, ReaderGone
from crawler.ledger import Ledger, nothing_matches
from crawler.settings import Settings

#: Exit codes: the shell's interface, with 128 + signal besides.
COMPLETE, FATAL, USAGE, INCOMPLETE, READER_GONE = 0, 1, 2, 3, 141


def fatal(error: BaseException) -> Fatal | None:
    """Find the one reason among the errors of a group, if all are expected ones; a reader that has gone comes first."""
    leaves = list(_leaves(error))
    fatal = [leaf for leaf in leaves if isinstance(leaf, Fatal)]
    if len(fatal) < len(leaves):
        return None
    return next((leaf for leaf in fatal if isinstance(leaf, ReaderGone)), fatal[0])


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in cast("BaseExceptionGroup[BaseException]", error).exceptions:
            yield from _leaves(inner)
    else:
        yield error


def verdict_of(
    settings: Settings, stop: Stop, ledger: Ledger, destination: Destination, failure: Fatal | None
) -> tuple[str, int, str | None]:
    """Status, exit code and reason."""
    if failure:
        gone = isinstance(failure, ReaderGone)
        return ("interrupted", READER_GONE, str(failure)) if gone else ("failed", FATAL, str(failure))
    if stop.signal:
        if stop.cut_short:
            rest = "; rows that their reader did not take are lost"
        else:
            left = destination.left_behind()
            rest = f"; {left}" if left else ""
        return "interrupted", 128 + stop.signal, f"{stop.signal.name} received{rest}"
    # A share may well have no account, or none of what is asked for.
    if not settings.share and (nothing := nothing_matches(settings.asked(), ledger.totals)):
        return "failed", USAGE, nothing
    if missing := ledger.incomplete(settings.tolerate):
        return "incomplete", INCOMPLETE, f"{_units(missing)} missing, exit code {INCOMPLETE}"
    if tolerated := ledger.incomplete():
        return "tolerated", COMPLETE, f"{_units(tolerated)} missing, with outcomes that --tolerate names"
    return "complete", COMPLETE, None


def _units(count: int) -> str:
    return "1 account, target or repository is" if count == 1 else f"{count:,} accounts, targets or repositories are"
