"""The processes of `--workers`: who gets which shard, and how one that ends is told of."""

from __future__ import annotations

import anyio
import pytest
from trio.testing import MockClock

from crawler.engines.processes import ALONE, SILENCE
from crawler.errors import Fatal
from tests.core.hands import Office


def test_what_a_killed_worker_had_waits_for_whoever_has_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it went to the survivor, and the one in its place had nothing to do."""
    office = Office(workers=2, each=2)

    async def body() -> None:
        office.ask(1, 2, 3, 4)
        await office.until(lambda: sum(map(len, office.has())) == 4)
        assert sorted(map(len, office.has())) == [2, 2]
        office.opened = anyio.Event()
        lost, kept = list(office.hands[0].has), list(office.hands[1].has)
        await office.hands[0].end(-9)
        await anyio.wait_all_tasks_blocked()
        assert office.has() == [kept]
        office.opened.set()
        await office.until(lambda: len(office.has()) == 2 and len(office.has()[1]) == 2)
        assert [sorted(has) for has in office.has()] == [sorted(kept), sorted(lost)]

    office.open(monkeypatch, body)


def test_all_but_what_a_slow_worker_has_is_done_by_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is taken from a worker that has it; and it gets no more than that."""
    office = Office(workers=2, each=3)

    async def body() -> None:
        office.ask(*range(20))
        await office.until(lambda: sum(map(len, office.has())) == 6)
        slow, other = office.hands
        kept = list(slow.has)
        while len(office.done) < 17:
            await office.until(lambda: bool(other.has))
            await other.report(other.has[0])
            await anyio.wait_all_tasks_blocked()
            assert slow.has == kept
            assert len(other.has) <= 3
        assert {*office.done, *kept} == set(range(20))

    office.open(monkeypatch, body)


def test_a_shard_that_ends_its_workers_takes_no_others_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has one to itself, as those have that were lost with it, and the rest goes to the others meanwhile."""
    office = Office(workers=2, each=3)
    alone: list[int] = []

    async def body() -> None:
        office.ask(*range(1, 13))
        killed = 0
        while len(office.done) < 11:
            await anyio.wait_all_tasks_blocked()
            for hand in [hand for hand in office.hands if hand.returncode is None]:
                if 1 in hand.has:
                    killed += 1
                    if killed > ALONE:
                        assert hand.has == [1]
                        alone.append(1)
                    await hand.end(-9)
                elif hand.has:
                    await hand.report(hand.has[0])
        assert 1 not in office.done

    office.open(monkeypatch, body)
    assert alone


def test_a_failure_that_no_shard_survives_is_told_to_all_and_leaves_what_others_have(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    office = Office(workers=2, each=1)

    async def body() -> None:
        office.ask(1, 2, 3)
        await office.until(lambda: sum(map(len, office.has())) == 2)
        failing, other = office.hands
        (number,) = other.has
        await failing.send(Fatal("ClockWrong", "by a day"))
        await office.until(lambda: len(office.failed) == 2)
        assert {str(failure) for failure in office.failed} == {"ClockWrong: by a day"}
        await other.report(number)
        await office.until(lambda: bool(office.done))
        assert office.done == [number]

    office.open(monkeypatch, body)


def test_a_worker_that_ends_by_itself_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    office = Office(workers=1, each=1)

    async def body() -> None:
        office.ask(1)
        await office.until(lambda: office.has() == [[1]])
        await office.hands[0].end(2)
        await office.until(lambda: bool(office.failed))
        assert str(office.failed[0]) == "WorkerEnded: worker 1 (process 1) ended by itself, with exit code 2"

    office.open(monkeypatch, body)


def test_a_worker_that_says_nothing_is_held_for_hung(monkeypatch: pytest.MonkeyPatch) -> None:
    """The run waited for it for ever. What it had is another's; those that talk are left alone."""
    office = Office(workers=2, each=1)

    async def body() -> None:
        started = anyio.current_time()
        silent, other = office.hands
        office._at_work.start_soon(other.talk)
        office.ask(1, 2)
        await anyio.sleep(SILENCE - 1)
        assert silent.returncode is None
        await anyio.sleep(3)
        assert (silent.returncode, other.returncode) == (-9, None)
        assert office.has() == [other.has, silent.has], "what it had, the one in its place has"
        assert anyio.current_time() - started < SILENCE + 3

    office.open(monkeypatch, body, MockClock(autojump_threshold=0))


def test_a_machine_that_slept_has_no_worker_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = MockClock(autojump_threshold=0)
    office = Office(workers=2, each=1)

    async def body() -> None:
        for hand in office.hands:
            office._at_work.start_soon(hand.talk)
        for _ in range(2 * SILENCE):
            clock.jump(1800)
            await anyio.wait_all_tasks_blocked()
        assert [hand.returncode for hand in office.hands] == [None, None]

    office.open(monkeypatch, body, clock)


def test_workers_that_are_killed_cost_what_they_had(monkeypatch: pytest.MonkeyPatch) -> None:
    """After ten of them most shards had a worker to themselves, one after the other: four times the time."""
    office = Office(workers=2, each=8)

    async def body() -> None:
        office.ask(*range(16))
        await anyio.wait_all_tasks_blocked()
        for number in range(10):
            await office.hands[-1 - number % 2].end(-9)
            await anyio.wait_all_tasks_blocked()
            assert sorted(map(len, office.has())) == [8, 8]
        for hand in office.hands:
            office._at_work.start_soon(hand.take_a_second_for_each)
        await anyio.sleep(3)
        assert len(office.done) == 16

    office.open(monkeypatch, body, MockClock(autojump_threshold=0))
