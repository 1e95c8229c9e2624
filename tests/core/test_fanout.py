"""Bounded fan-out: the bound is measured, not believed."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing

import anyio
import pytest
from anyio.lowlevel import checkpoint
from hypothesis import given
from hypothesis import strategies as st

from crawler.errors import Denied, Fatal
from crawler.fanout import for_each, take
from tests.fakes import leaves, run

both = pytest.mark.parametrize("backend", ["trio", "asyncio"])


class Work:
    """Spies on what runs at the same time; the item is how long it takes."""

    def __init__(self) -> None:
        self.alive = self.peak = 0
        self.begun: list[float] = []
        self.done: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.alive += 1
        self.peak = max(self.peak, self.alive)
        self.begun.append(seconds)
        try:
            await anyio.sleep(seconds)
            self.done.append(seconds)
        finally:
            self.alive -= 1


async def source(items: Iterable[float], error: Exception | None = None) -> AsyncGenerator[float]:
    for item in items:
        yield item
    if error:
        raise error


@given(seconds=st.lists(st.sampled_from([0.0, 1.0, 2.0, 5.0]), max_size=20), at_once=st.integers(1, 5))
def test_every_item_once_and_the_peak_is_the_bound(seconds: list[float], at_once: int) -> None:
    work = Work()
    run(lambda: for_each(work, source(seconds), at_once=at_once))
    assert sorted(work.done) == sorted(seconds)
    assert work.peak <= at_once
    if 0.0 not in seconds:
        assert work.peak == min(at_once, len(seconds))


def test_an_item_is_asked_for_only_when_a_slot_is_free() -> None:
    work, ahead = Work(), []

    async def spied() -> AsyncGenerator[float]:
        for _ in range(10):
            ahead.append(work.alive)
            yield 1.0

    run(lambda: for_each(work, spied(), at_once=3))
    # Never asked while three were at work; those asked for and not yet started count as free.
    assert len(ahead) == 10
    assert max(ahead) <= 2


def test_a_source_of_100_000_has_never_more_alive_than_the_bound() -> None:
    alive = peak = 0

    class Item:
        def __init__(self) -> None:
            nonlocal alive, peak
            alive += 1
            peak = max(peak, alive)

        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    async def items() -> AsyncGenerator[Item]:
        for _ in range(100_000):
            yield Item()

    async def work(_: Item) -> None:
        await checkpoint()

    run(lambda: for_each(work, items(), at_once=4), "asyncio")
    assert alive == 0
    assert peak <= 4 + 2  # and one each in the hands of the source and of the loop


def test_a_shared_semaphore_bounds_all_who_share_it() -> None:
    async def main() -> tuple[int, int]:
        work, slots = Work(), anyio.Semaphore(3)
        async with anyio.create_task_group() as group:
            for _ in range(4):
                group.start_soon(lambda: for_each(work, source([1.0] * 5), at_once=slots))
        assert len(work.done) == 20
        return work.peak, slots.value

    assert run(main) == (3, 3)


@both
def test_a_source_that_fails_lets_what_was_begun_finish_and_its_error_is_bare(backend: str) -> None:
    work = Work()
    with pytest.raises(Denied, match="no more"):
        run(lambda: for_each(work, source([0, 0, 0], Denied("AccessDenied", "no more")), at_once=2), backend)
    assert work.done == [0, 0, 0]


def test_a_source_that_ends_the_run_cancels_what_was_begun_and_its_error_is_bare() -> None:
    work = Work()
    with pytest.raises(Fatal, match="Clock"):
        run(lambda: for_each(work, source([60, 60], Fatal("Clock", "")), at_once=5))
    assert (work.begun, work.done, work.alive) == ([60, 60], [], 0)


@pytest.mark.parametrize("error", [ValueError("a bug"), Fatal("Disk", "full"), Denied("Stray", "")])
@both
def test_an_error_in_the_work_cancels_the_others_and_frees_the_slots(error: Exception, backend: str) -> None:
    async def main() -> int:
        slots = anyio.Semaphore(3)
        stalled: list[int] = []

        async def work(number: int) -> None:
            if number == 2:
                await checkpoint()
                raise error
            try:
                await anyio.sleep_forever()
            finally:
                stalled.append(number)

        with pytest.raises(ExceptionGroup) as caught:
            await for_each(work, source(range(5)), at_once=slots)
        assert list(leaves(caught.value)) == [error]
        assert {0, 1} <= set(stalled)
        return slots.value

    assert run(main, backend) == 3


def test_a_bug_in_the_source_is_no_end_of_the_items() -> None:
    with pytest.raises(ExceptionGroup) as caught:
        run(lambda: for_each(Work(), source([1], ValueError("a bug")), at_once=2))
    assert [str(leaf) for leaf in leaves(caught.value)] == ["a bug"]


@both
@pytest.mark.parametrize("stalls", ["source", "slot", "work"])
def test_cancelled_wherever_it_waits_it_gives_the_slots_back(stalls: str, backend: str) -> None:
    async def main() -> tuple[int, int]:
        slots, ended = anyio.Semaphore(2), 0

        async def work(_: float) -> None:
            nonlocal ended
            try:
                await anyio.sleep_forever()
            finally:
                ended += 1

        async def items() -> AsyncGenerator[float]:
            yield 0
            if stalls == "source":
                await anyio.sleep_forever()
            if stalls == "slot":
                yield 1
                yield 2

        async def all_items() -> None:
            async with aclosing(items()) as begun:
                await for_each(work, begun, at_once=slots)

        async with anyio.create_task_group() as group:
            group.start_soon(all_items)
            await anyio.wait_all_tasks_blocked()
            group.cancel_scope.cancel()
        return slots.value, ended

    assert run(main, backend) == (2, 2 if stalls == "slot" else 1)


@both
def test_what_was_never_taken_stays_waiting(backend: str) -> None:
    async def main() -> list[int]:
        waiting = deque(range(10))
        with anyio.CancelScope() as scope:

            async def work(number: int) -> None:
                if number == 3:
                    scope.cancel()
                await checkpoint()

            async with aclosing(take(waiting)) as taken:
                await for_each(work, taken, at_once=1)
        return list(waiting)

    assert run(main, backend) == [4, 5, 6, 7, 8, 9]
