"""A modelled AWS on a virtual clock, for the real crawl to run on: its fan-out, pager, governors, retry and ledger.

What is modelled: token buckets, the latency of each region, and what the client's own CPU can do in a second.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from math import ceil
from typing import Any

import anyio
from trio.testing import MockClock

from crawler.crawl import Crawl, Limits
from crawler.errors import Throttled
from crawler.governor import of_target
from crawler.hints import Hints
from crawler.ledger import Ledger
from crawler.model import (
    Account,
    Fetch,
    ImageId,
    ImageStatus,
    Organization,
    Page,
    Part,
    Result,
    Split,
    TagStatus,
    Target,
)
from crawler.retry import RetryPolicy
from crawler.wanted import Filter

_NAMES_A_PAGE = 1000
_ROW: list[ImageId] = [{"imageDigest": "sha256:0", "imageTag": None}]
_TINY = 1e-9


class Bucket:
    """A token bucket. `changes` are (from, tokens a second), in order, the first from 0; times in seconds."""

    def __init__(self, changes: Sequence[tuple[float, float]], burst: float) -> None:
        self.changes = changes
        self.burst = burst
        self._level, self._at = burst, 0.0

    @classmethod
    def steady(cls, rate: float, burst: float) -> Bucket:
        """One whose rate never changes."""
        return cls([(0.0, rate)], burst)

    def take(self, now: float) -> bool:
        """Whether a request is let in."""
        self._level = min(self.burst, self._level + self._inflow(self._at, now))
        self._at = now
        passed = self._level >= 1 - _TINY
        self._level -= passed
        return passed

    def _inflow(self, start: float, end: float) -> float:
        if len(self.changes) == 1:
            return (end - start) * self.changes[0][1]
        ends = [at for at, _ in self.changes[1:]] + [float("inf")]
        return sum(
            rate * max(0.0, min(end, until) - max(start, at))
            for (at, rate), until in zip(self.changes, ends, strict=True)
        )

    def bound(self, requests: int) -> float:
        """Seconds before which nobody can have been let in so often."""
        low, high = 0.0, 1e7
        while requests > self.burst and high - low > 1e-3:  # noqa: PLR2004 - a millisecond
            middle = (low + high) / 2
            low, high = (middle, high) if self._inflow(0.0, middle) + self.burst < requests else (low, middle)
        return low


@dataclass(slots=True)
class Place:
    """A registry in a region: its repositories as pages each, their bucket if it matters, and the seconds to there."""

    chains: Sequence[int]
    bucket: Bucket | None = None
    latency: float = 0.03
    #: The part of the rows that is tagged, where a chain is split.
    tagged: float = 0.5

    @property
    def pages(self) -> int:
        """Pages of all repositories."""
        return sum(self.chains)

    def bound(self) -> float:
        """Seconds that the place takes whatever the client does: tokens, or the longest chain."""
        tokens = self.bucket.bound(self.pages) if self.bucket else 0.0
        return max(tokens, max(self.chains, default=0) * self.latency) + self.latency


@dataclass
class World:
    """A `Registries` over places, which `find` makes when they are asked for: an estate need not be in memory.

    `rps` is what the client's own CPU does in a second, None for a client that costs nothing. Answers come at multiples
    of `tick` seconds: events at the same time are cheaper to simulate than one after the other. `seen` are the
    requests: when, and whether they were let in; only kept where `watched`.
    """

    find: Callable[[Target], Place]
    rps: float | None = None
    tick: float = 0.0
    watched: bool = False
    requests: int = 0
    refused: int = 0
    seen: list[tuple[float, bool]] = field(default_factory=list)
    _busy_until: float = 0.0

    async def members(self, organization: Organization) -> AsyncGenerator[Account]:  # noqa: ARG002  (as the protocol has it)
        """See `Registries`; there is no organization here."""
        return
        yield

    async def regions(self, account: Account) -> dict[str, bool]:
        """See `Registries`."""
        return dict.fromkeys(account.regions, True)

    async def open(self, target: Target) -> _Registry:
        """See `Registries`."""
        return _Registry(self, self.find(target))

    async def asked(self, latency: float, bucket: Bucket | None) -> None:
        """One request on its way there and back."""
        start = now = anyio.current_time()
        if self.rps:
            start = self._busy_until = max(now, self._busy_until) + 1 / self.rps
        self.requests += 1
        # Counted where it starts: for requests that are all as long under way, the bucket sees the same as half way.
        passed = bucket.take(now) if bucket else True
        if self.watched:
            self.seen.append((now, passed))
        wakes = start + latency
        if self.tick:
            wakes = ceil(wakes / self.tick) * self.tick
        await anyio.sleep(wakes - now)
        if not passed:
            self.refused += 1
            raise Throttled("ThrottlingException", "Rate exceeded")


@dataclass(slots=True)
class _Registry:
    world: World
    place: Place

    def repositories(self) -> Fetch[str]:
        count = len(self.place.chains)

        async def fetch(token: str | None) -> Page[str]:
            await self.world.asked(self.place.latency, None)
            start = int(token or 0)
            end = min(start + _NAMES_A_PAGE, count)
            return Page([str(number) for number in range(start, end)], str(end) if end < count else None)

        return fetch

    def images(self, repository: str, part: Part | None = None) -> Fetch[ImageId]:
        pages = self.place.chains[int(repository)]
        if part and part.tag_status is not TagStatus.ANY:
            tagged = round(pages * self.place.tagged)
            pages = tagged if part.tag_status is TagStatus.TAGGED else pages - tagged

        async def fetch(token: str | None) -> Page[ImageId]:
            await self.world.asked(self.place.latency, self.place.bucket)
            page = int(token or 0) + 1
            return Page(_ROW, str(page) if page < pages else None)

        return fetch

    def parts(self, split: Split) -> list[Part]:
        tags = [TagStatus.ANY] if split is Split.NO else [TagStatus.TAGGED, TagStatus.UNTAGGED]
        return [Part(tag, ImageStatus.ANY) for tag in tags]


class _Counting:
    """A `Sink` and its `Rows` at once."""

    def holds(self, target: Target, repository: str | None = None) -> bool:  # noqa: ARG002  (as the protocol has it)
        return False

    def repository(self, target: Target, name: str) -> AbstractContextManager[_Counting]:  # noqa: ARG002  (as the protocol has it)
        return nullcontext(self)

    def target_ended(self, result: Result) -> None: ...

    async def send(self, image_ids: Sequence[ImageId]) -> None: ...

    def commit(self, result: Result) -> None: ...


@dataclass(frozen=True)
class Simulated:
    """What came of it. `seconds` are virtual; `lost` are pages that were not delivered."""

    seconds: float
    bound: float
    requests: int
    refused: int
    lost: int
    world: World

    @property
    def ratio(self) -> float:
        """Times the lower bound."""
        return self.seconds / self.bound

    @property
    def share(self) -> float:
        """The part of all requests for images that was refused."""
        return self.refused / max(self.requests, 1)


def simulate(
    world: World,
    accounts: Iterable[Account],
    *,
    pages: int,
    bound: float,
    limits: Limits | None = None,
    hints: Hints | None = None,
    governors: Callable[..., Any] = of_target,
    beside: Callable[[], Awaitable[None]] | None = None,
) -> Simulated:
    """Crawl `pages` pages of images; `beside` is somebody else who uses the same buckets until the crawl has ended."""
    ledger, sink = Ledger(), _Counting()
    crawl = Crawl(
        world,
        sink,
        ledger,
        limits=limits or Limits(),
        policy=RetryPolicy(),
        wanted=Filter(),
        hints=hints,
        governors=governors,
    )
    seconds = 0.0

    async def main() -> None:
        nonlocal seconds
        async with anyio.create_task_group() as group:
            if beside:
                group.start_soon(beside)
            await crawl.accounts(accounts)
            seconds = anyio.current_time()
            group.cancel_scope.cancel()

    anyio.run(main, backend="trio", backend_options={"clock": MockClock(autojump_threshold=0)})
    return Simulated(seconds, bound, world.requests, world.refused, pages - ledger.totals.rows, world)
