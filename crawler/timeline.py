"""What a run did when: counts for each interval, in memory that is bounded however long the run is."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from weakref import WeakSet

import anyio
import orjson

from crawler.governor import Governor, of_target
from crawler.hints import Rate
from crawler.ledger import Ledger
from crawler.model import Chain, RowKind
from crawler.pace import Pace, Quota

#: Intervals kept at most (an even number). Once there are as many, each two become one, and the next are as long.
MOST = 240

#: Learned rates that are published with a run: of the targets that were throttled hardest.
RATES_KEPT = 50

VERSION = 1


@dataclass(frozen=True, slots=True)
class Interval:
    """Counts of one interval of `seconds`; `rows` are those of repositories that ended in it.

    `limited` operations of open targets had a learned rate, `slowest` and `fastest` of those are in requests a second,
    None where nothing was throttled yet.
    """

    seconds: float
    requests: int
    throttled: int
    rows: int
    limited: int = 0
    slowest: float | None = None
    fastest: float | None = None

    def joined(self, later: Interval) -> Interval:
        """This interval and the one after it, as one."""
        slowest = [rate for rate in (self.slowest, later.slowest) if rate is not None]
        fastest = [rate for rate in (self.fastest, later.fastest) if rate is not None]
        return Interval(
            self.seconds + later.seconds,
            self.requests + later.requests,
            self.throttled + later.throttled,
            self.rows + later.rows,
            max(self.limited, later.limited),
            min(slowest, default=None),
            max(fastest, default=None),
        )


@dataclass(slots=True)
class Timeline:
    """One attempt at a run. The next interval will be of `every` seconds, `rates` are some of the slowest."""

    every: float = 1.0
    intervals: list[Interval] = field(default_factory=list[Interval])
    rates: list[Rate] = field(default_factory=list[Rate])
    version: int = VERSION

    def add(self, interval: Interval) -> None:
        """Append an interval, and make room if that was the last one there is room for."""
        self.intervals.append(interval)
        if len(self.intervals) >= MOST:
            pairs = zip(self.intervals[::2], self.intervals[1::2], strict=True)
            self.intervals = [earlier.joined(later) for earlier, later in pairs]
            self.every *= 2

    def encode(self) -> bytes:
        """As JSON."""
        return orjson.dumps(asdict(self), option=orjson.OPT_APPEND_NEWLINE)


@dataclass(frozen=True, slots=True)
class Spread:
    """The rates of open targets at one moment: see `Interval`."""

    limited: int = 0
    slowest: float | None = None
    fastest: float | None = None


class Paces:
    """Makes the governors of a crawl, and looks at their paces."""

    def __init__(self) -> None:
        # Weak: a target's pace is of no interest once its target has ended, and there may be 340,000 of them.
        self._paces = WeakSet[Pace]()

    def governors(
        self,
        *,
        slots: int,
        max_rps: float | None,
        share: float,
        known: Mapping[str, Quota],
        operations: tuple[str, str] = RowKind.IDS.operations,
    ) -> tuple[Governor, Governor]:
        """See `of_target`."""
        listing, images = of_target(slots=slots, max_rps=max_rps, share=share, known=known, operations=operations)
        self._paces.add(listing.pace)
        self._paces.add(images.pace)
        return listing, images

    def spread(self) -> Spread:
        """The rates learned, of the targets that are open."""
        rates = [round(quota.rate, 3) for pace in self._paces if (quota := pace.quota)]
        return Spread(len(rates), min(rates, default=None), max(rates, default=None))


class Watch:
    """Looks at a crawl as it goes: at the sums of its `ledger`, and at its `paces`.

    What workers tell is in the ledger too, and their rates in `elsewhere`, by worker; what was under way at those that
    were `lost` was asked for nevertheless.
    """

    def __init__(self, ledger: Ledger) -> None:
        self.timeline = Timeline()
        self.ledger = ledger
        self.paces = Paces()
        self.elsewhere: dict[str, Spread] = {}
        self.lost: list[Chain] = []

    @asynccontextmanager
    async def watching(self) -> AsyncGenerator[None]:
        """Add to the timeline while the body runs. What is in the ledger by now is not this attempt's."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._watch, self._sums())
            yield
            group.cancel_scope.cancel()

    async def _watch(self, before: Sequence[int]) -> None:
        while True:
            started = anyio.current_time()
            try:
                await anyio.sleep(self.timeline.every)
            finally:  # the last interval is as long as it was
                # What a worker has told of a shard is gone before its report is taken: that is made good later.
                after = list(map(max, before, self._sums()))
                self._add(anyio.current_time() - started, before, after)
            before = after

    def _add(self, seconds: float, before: Sequence[int], after: Sequence[int]) -> None:
        requests, throttled, rows = (new - old for new, old in zip(after, before, strict=True))
        spreads = [self.paces.spread(), *self.elsewhere.values()]
        slowest = min((spread.slowest for spread in spreads if spread.slowest is not None), default=None)
        fastest = max((spread.fastest for spread in spreads if spread.fastest is not None), default=None)
        limited = sum(spread.limited for spread in spreads)
        self.timeline.add(Interval(round(seconds, 3), requests, throttled, rows, limited, slowest, fastest))

    def _sums(self) -> tuple[int, int, int]:
        """Requests and refusals so far, those of units under way included, and rows."""
        totals, running = self.ledger.totals, [*self.ledger.under_way(), *self.lost]
        return (
            totals.requests + sum(chain.attempts for chain in running),
            totals.throttled + sum(chain.throttled for chain in running),
            totals.rows,
        )
