"""A company that is far larger than this machine could serve: 10,000 accounts in 34 regions, simulated."""

from __future__ import annotations

import gc
import resource
import time
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from benchmarks.simulation import Bucket, Place, Simulated, World, simulate
from crawler.crawl import Limits
from crawler.hints import LONG, Hints, Memory
from crawler.model import Account, Target
from crawler.pace import Quota

#: Requests a second that the client's own CPU is taken to be good for.
CLIENT_RPS = 4_000.0

#: Seconds of a round trip, region by region: from next door to the other side of the world.
_LATENCIES = (0.01, 0.04, 0.08, 0.15, 0.25)

#: Seconds to which answers are rounded up.
_TICK = 0.005


@dataclass(frozen=True)
class Skewed:
    """Most targets are empty, sizes follow Pareto's law, and each has a bucket of 20/s and 40 at once."""

    accounts: int = 10_000
    regions: int = 34
    filled: float = 0.02

    def all(self) -> Iterator[Account]:
        """The accounts, made as they are asked for."""
        names = tuple(f"region-{number}" for number in range(self.regions))
        return (Account(f"{number:012d}", regions=names) for number in range(self.accounts))

    def place(self, target: Target) -> Place:
        """What a target holds: the same each time."""
        region = int(target.region.rpartition("-")[2])
        latency = _LATENCIES[region % len(_LATENCIES)]
        number = int(target.account.account_id) * self.regions + region
        random = Random(number)  # noqa: S311 - sizes, not secrets
        if random.random() > self.filled:
            return Place([], None, latency)
        repositories = min(int(random.paretovariate(0.9)), 1_000)
        chains = [min(int(random.paretovariate(1.2)), 100) for _ in range(repositories)]
        return Place(chains, Bucket.steady(20.0, 40.0), latency)


@dataclass(frozen=True)
class Estate:
    """What came of it, what bounds it (seconds), and what it cost this machine (seconds, bytes)."""

    simulated: Simulated
    targets: int
    bounds: dict[str, float]
    took: float
    rss: int


def _memory(place: Place) -> Memory:
    """What a crawl would have learned: the rate where it was throttled, and the long repositories."""
    memory = Memory(pages=place.pages)
    memory.repositories |= {str(number): pages for number, pages in enumerate(place.chains) if pages >= LONG}
    if place.bucket and place.pages > place.bucket.burst:
        memory.rates["ListImages"] = Quota(place.bucket.changes[0][1], place.bucket.burst)
    return memory


def crawl(skewed: Skewed, limits: Limits) -> Estate:
    """Simulate a crawl of all of it, with what the last night's left behind.

    Without that, what takes longest begins when its turn comes: it was at 1.6 times the bound.
    """
    pages = targets = 0
    tokens = chain = 0.0
    hints = Hints()
    for account in skewed.all():
        for region in account.regions:
            target = Target(account, region, account.account_id)
            place = skewed.place(target)
            hints.keep(target, _memory(place), whole=True)
            targets += 1
            pages += place.pages
            if place.bucket:
                tokens = max(tokens, place.bucket.bound(place.pages))
                chain = max(chain, max(place.chains) * place.latency)
    bounds = {"tokens": tokens, "longest chain": chain, "client's CPU": (pages + targets) / CLIENT_RPS}
    gc.freeze()
    gc.set_threshold(100_000)  # as the program has it
    started = time.perf_counter()
    world = World(skewed.place, rps=CLIENT_RPS, tick=_TICK)
    simulated = simulate(world, skewed.all(), pages=pages, bound=max(bounds.values()), limits=limits, hints=hints)
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return Estate(simulated, targets, bounds, time.perf_counter() - started, rss)
