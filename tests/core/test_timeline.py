"""What a run did when, on a virtual clock."""

from __future__ import annotations

from random import Random

import anyio
from hypothesis import given, settings
from hypothesis import strategies as st

from crawler.ledger import Ledger, Running
from crawler.model import Account, Chain, Outcome, Result, Unit
from crawler.pace import Quota
from crawler.runs.documents import decode_timeline
from crawler.timeline import MOST, Interval, Spread, Timeline, Watch
from tests.fakes import run

UNIT = Unit(Account("1" * 12), "1" * 12, "eu-west-1", "app")


def test_each_interval_has_what_came_in_it() -> None:
    watch = Watch(Ledger())

    async def main() -> None:
        ledger = watch.ledger
        await ledger.record(Result(UNIT, Outcome.OK, chain=Chain(items=9, attempts=5)))  # of an earlier attempt
        chain = Chain()
        async with watch.watching():
            await anyio.sleep(0.5)
            ledger.running[0] = Running(UNIT, chain, 0.0)
            chain.attempts, chain.throttled = 4, 1  # of a repository that has not ended
            await anyio.sleep(1)
            chain.attempts, chain.items = 6, 700
            del ledger.running[0]
            await ledger.record(Result(UNIT, Outcome.OK, chain=chain))
            await anyio.sleep(0.75)

    run(main)
    assert watch.timeline.intervals == [
        Interval(1.0, 4, 1, 0),
        Interval(1.0, 2, 0, 700),
        Interval(0.25, 0, 0, 0),
    ]


def test_no_interval_takes_back_what_an_earlier_one_had() -> None:
    """What a worker told of a shard is gone before its report is taken; what one was at that was killed, for good."""
    watch = Watch(Ledger())

    async def main() -> None:
        running = watch.ledger.running
        async with watch.watching():
            running["1"], running["2"] = (Running(Unit(), Chain(attempts=100), 0.0) for _ in range(2))
            await anyio.sleep(1.5)
            watch.lost.append(running.pop("1").chain)
            running["2"] = Running(Unit(), Chain(attempts=10), 0.0)  # its shard of 90 has ended
            await anyio.sleep(1)
            await watch.ledger.record(Result(UNIT, Outcome.OK, chain=Chain(attempts=95)))
            await anyio.sleep(1)

    run(main)
    assert [interval.requests for interval in watch.timeline.intervals] == [200, 0, 5, 0]


def test_rates_are_those_of_targets_that_are_open() -> None:
    watch = Watch(Ledger())

    async def main() -> None:
        known = {"DescribeRepositories": Quota(3.0, 10.0), "ListImages": Quota(20.0, 40.0)}
        one = watch.paces.governors(slots=1, max_rps=None, share=1.0, known=known)
        other = watch.paces.governors(slots=1, max_rps=None, share=1.0, known={"ListImages": Quota(7.0, 1.0)})
        async with watch.watching():
            await anyio.sleep(1.5)
            del one
            await anyio.sleep(1)
            del other
            await anyio.sleep(1)
            watch.elsewhere = {"1": Spread(), "2": Spread(4, 2.5, 8.0), "3": Spread(1, 9.0, 9.0)}  # as workers tell
            await anyio.sleep(1)

    run(main)
    rates = [(interval.limited, interval.slowest, interval.fastest) for interval in watch.timeline.intervals]
    assert rates == [(3, 3.0, 20.0), (1, 7.0, 7.0), (0, None, None), (5, 2.5, 9.0), (5, 2.5, 9.0)]


@settings(max_examples=20)
@given(length=st.integers(0, 5 * MOST), seed=st.integers(0, 99))
def test_a_long_run_takes_no_more_room_and_loses_no_count(length: int, seed: int) -> None:
    random = Random(seed)  # noqa: S311  (nothing secret: the same in each run)
    rates = [random.choice([None, random.uniform(0.1, 100)]) for _ in range(length)]
    intervals = [Interval(1.0, *random.choices(range(100), k=4), rate, rate) for rate in rates]
    timeline = Timeline()
    for interval in intervals:
        timeline.add(interval)
    kept = timeline.intervals
    assert len(kept) < MOST
    for name in ("seconds", "requests", "throttled", "rows"):
        assert sum(getattr(one, name) for one in kept) == sum(getattr(one, name) for one in intervals)
    known = [rate for rate in rates if rate is not None]
    assert min((one.slowest for one in kept if one.slowest is not None), default=None) == min(known, default=None)
    assert max((one.fastest for one in kept if one.fastest is not None), default=None) == max(known, default=None)
    assert decode_timeline("where", timeline.encode()) == timeline
