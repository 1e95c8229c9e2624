"""The cases of throttling, simulated: each law beside the lower bound that the token bucket sets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import anyio

from benchmarks.laws import Aimd, Cubic
from benchmarks.simulation import Bucket, Place, Simulated, World, simulate
from crawler.crawl import Limits
from crawler.governor import Governor, of_target
from crawler.hints import Hints, Memory
from crawler.model import Account, Split, Target
from crawler.pace import Quota

ACCOUNT = Account("1" * 12, regions=("us-east-1",))
TARGET = Target(ACCOUNT, "us-east-1", ACCOUNT.account_id)

#: What the crawler has, and what lost to it.
LAWS: dict[str, Callable[..., Any]] = {
    "counting (the crawler's)": of_target,
    "AIMD": lambda **_: _governors(Aimd),
    "CUBIC (botocore's adaptive)": lambda **_: _governors(Cubic),
}


def _governors(law: Callable[[], Any]) -> tuple[Governor, Governor]:
    slots = anyio.Semaphore(Limits().requests_per_target, fast_acquire=True)
    return Governor(slots=slots, pace=law()), Governor(slots=slots, pace=law())


@dataclass(frozen=True)
class Case:
    """`requests` repositories of a page each, a bucket, and what must be reached: times the bound, share refused."""

    title: str
    requests: int
    changes: tuple[tuple[float, float], ...]
    burst: float
    at_most: float = 1.10
    refused_at_most: float = 0.05
    latency: float = 0.03
    hinted: bool = False
    in_flight: int = 8

    def run(self, governors: Callable[..., Any] = of_target) -> Simulated:
        """Simulate it."""
        bucket = Bucket(self.changes, self.burst)
        place = Place([1] * self.requests, bucket, self.latency)
        world = World(lambda _: place, watched=True)
        hints = Hints()
        if self.hinted:
            hints.keep(TARGET, Memory(rates={"ListImages": Quota(self.changes[0][1], self.burst)}), whole=True)
        slots = self.requests * self.latency / self.in_flight
        bound = max(bucket.bound(self.requests), slots)
        return simulate(
            world,
            [ACCOUNT],
            pages=self.requests,
            bound=bound,
            limits=Limits(requests_per_target=self.in_flight),
            hints=hints,
            governors=governors,
        )


def cases() -> Iterator[Case]:
    """Those of the table: the one that was measured with other clients, all rates and bursts, and rates that change."""
    measured = Case("400 repositories, 20/s, burst 40", 400, ((0.0, 20.0),), 40, at_most=1.06)
    yield measured
    yield replace(
        measured, title=f"{measured.title}, last night's hints", hinted=True, at_most=1.02, refused_at_most=0.01
    )
    for rate in (5, 20, 50, 200):
        # Eight requests of 30 ms are 267 a second: of a bucket of 200 that would be the bound, and not the law.
        in_flight = 16 if rate == 200 else 8  # noqa: PLR2004  (as the line above says)
        for seconds in (1, 2, 10):
            requests = max(400, rate * (seconds + 60))
            title = f"{requests:,} requests, {rate}/s, burst of {seconds} s"
            yield Case(title, requests, ((0.0, rate),), rate * seconds, in_flight=in_flight)
    for rate in (5, 20, 50):
        title = f"{rate}/s, halved from 60 s to 120 s, burst of 1 s"
        yield Case(title, rate * 151, ((0.0, rate), (60.0, rate / 2), (120.0, rate)), rate)
    yield Case("20/s, burst 40, round trips of 300 ms", 400, ((0.0, 20.0),), 40, latency=0.3)


@dataclass(frozen=True)
class Outage:
    """What was asked while everything was refused, and how the crawl went on."""

    during: int
    simulated: Simulated


def outage() -> Outage:
    """Everything is refused from 10 s to 70 s."""
    case = Case("outage", 1200, ((0.0, 20.0), (10.0, 0.0), (70.0, 20.0)), 40)
    simulated = case.run()
    return Outage(sum(10 <= at < 70 for at, _ in simulated.world.seen), simulated)  # noqa: PLR2004  (see the docstring)


def neighbour(share: float) -> tuple[int, int, Simulated]:
    """Requests and refusals of another client that uses 40 % of a bucket of 20/s at random times, and the crawl."""
    bucket, random = Bucket.steady(20.0, 40.0), Random(1)  # noqa: S311 - arrivals, not secrets
    place = Place([1] * 1200, bucket)
    asked = refused = 0

    async def beside() -> None:
        nonlocal asked, refused
        while True:
            await anyio.sleep(random.expovariate(0.4 * 20))
            asked += 1
            refused += not bucket.take(anyio.current_time())

    simulated = simulate(
        World(lambda _: place),
        [ACCOUNT],
        pages=1200,
        bound=1200 / (share * 20),
        limits=Limits(rate_share=share),
        beside=beside,
    )
    return asked, refused, simulated


def split(how: Split) -> Simulated:
    """One repository of 100 pages of 50 ms, half of it untagged, which last night's hints know to be long."""
    place = Place([100], latency=0.05)
    hints = Hints()
    hints.keep(TARGET, Memory(repositories={"0": 100}), whole=True)
    return simulate(World(lambda _: place), [ACCOUNT], pages=100, bound=5.0, limits=Limits(split=how), hints=hints)
