"""Asking again: how often, after how long, and never where it is useless. All times are exact, on a virtual clock."""

from __future__ import annotations

import gc
import logging
import weakref
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import anyio
import pytest
from anyio.lowlevel import checkpoint
from hypothesis import given
from hypothesis import strategies as st

from crawler.errors import (
    ChainBroken,
    CrawlError,
    Denied,
    Fatal,
    Gone,
    KeysExpired,
    KeysUnknown,
    Refused,
    Throttled,
    Transient,
)
from crawler.governor import Governor
from crawler.model import Chain, Fetch, Page
from crawler.pace import Pace
from crawler.retry import RetryPolicy, counted, persist, retry
from tests.fakes import LONGEST, Step, run

THROTTLED = Throttled("ThrottlingException", "Rate exceeded")
PAGE = Page(["row"], None)


def scripted(*steps: Step) -> tuple[Fetch[str], list[float]]:
    """Make a Fetch that takes these steps, one an attempt, then answers; and the times of its attempts."""
    script: Iterator[Step] = iter(steps)
    times: list[float] = []

    async def fetch(_: str | None) -> Page[str]:
        times.append(anyio.current_time())
        step = next(script, 0.0)
        if isinstance(step, BaseException):
            raise step
        await anyio.sleep(step)
        return PAGE

    return fetch, times


def gaps(times: list[float]) -> list[float]:
    return [after - before for before, after in pairwise(times)]


class Answer:
    """What an attempt holds while it lasts: pages are half a megabyte each."""


@pytest.mark.parametrize("failures", [1, 2, 5])
def test_what_a_failed_attempt_held_is_gone_once_the_next_has_answered(failures: int) -> None:
    """Without the collector of cycles, which a crawl lets run but seldom."""
    held: list[weakref.ref[Answer]] = []

    async def call() -> int:
        answer = Answer()
        held.append(weakref.ref(answer))
        if len(held) <= failures:
            raise Transient("MalformedResponse", str(id(answer)))
        return len(held)

    gc.collect()
    gc.disable()
    try:
        assert run(lambda: persist(call, LONGEST)) == failures + 1
        assert [ref() for ref in held] == [None] * (failures + 1)
    finally:
        gc.enable()


def test_waits_double_up_to_the_cap() -> None:
    fetch, times = scripted(*[THROTTLED] * 9)
    chain = Chain()
    assert run(lambda: retry(counted(fetch, chain), LONGEST)(None)) == PAGE
    assert gaps(times) == [0.25, 0.5, 1, 2, 4, 8, 16, 20, 20]
    assert (chain.attempts, chain.throttled) == (10, 9)


def test_each_wait_is_drawn_anew_between_nothing_and_its_bound() -> None:
    asked: list[tuple[float, float]] = []
    drawn = iter([0.1, 0.0, 0.7])

    def uniform(low: float, high: float) -> float:
        asked.append((low, high))
        return next(drawn)

    fetch, times = scripted(*[Transient("ServerException", "")] * 3)
    run(lambda: retry(fetch, RetryPolicy(uniform=uniform))(None))
    assert asked == [(0, 0.25), (0, 0.5), (0, 1)]
    assert gaps(times) == pytest.approx([0.1, 0.0, 0.7])


@pytest.mark.parametrize(
    ("retry_after", "waited"),
    [(None, 0.25), (0.0, 0.25), (0.1, 0.25), (7.5, 7.5), (60.0, 60.0), (1e6, 60.0), (-3.0, 0.25)],
)
def test_the_wish_of_the_service_is_a_lower_bound(retry_after: float | None, waited: float) -> None:
    fetch, times = scripted(Throttled("ThrottlingException", "", retry_after))
    run(lambda: retry(fetch, LONGEST)(None))
    assert gaps(times) == [waited]


def test_a_service_without_a_wish_lengthens_no_wait() -> None:
    shortest = RetryPolicy(uniform=lambda low, _high: low)
    assert shortest.wait(1, THROTTLED) == 0
    assert shortest.wait(1, Throttled("ThrottlingException", "", 0.125)) == 0.125


@pytest.mark.parametrize("attempt", [9, 66, 2000])
def test_the_bound_stops_growing_at_the_cap(attempt: int) -> None:
    assert LONGEST.wait(attempt, THROTTLED) == 20


def test_a_page_is_asked_for_20_times_within_15_minutes_unless_told_otherwise() -> None:
    fetch, times = scripted(*[THROTTLED] * 50)
    with pytest.raises(Throttled):
        run(lambda: retry(fetch, LONGEST)(None))
    assert len(times) == 20
    asking = Throttled("ThrottlingException", "", 300.0)
    fetch, times = scripted(*[asking] * 50)
    with pytest.raises(Throttled):
        run(lambda: retry(fetch, LONGEST)(None))
    assert times[-1] - times[0] == 900


@given(attempts=st.integers(1, 40))
def test_at_100_percent_throttle_the_requests_are_exactly_the_cap(attempts: int) -> None:
    fetch, times = scripted(*[THROTTLED] * 50)
    chain = Chain()
    policy = RetryPolicy(attempts=attempts, seconds=1e9, uniform=lambda _low, high: high)
    with pytest.raises(Throttled) as caught:
        run(lambda: retry(counted(fetch, chain), policy)(None))
    assert caught.value is THROTTLED
    assert len(times) == chain.attempts == chain.throttled == attempts


@pytest.mark.parametrize(("seconds", "made"), [(0.0, 1), (0.2, 1), (0.25, 2), (0.75, 3), (1.74, 3), (1.75, 4)])
def test_no_attempt_starts_later_than_the_seconds_after_the_first_failure(seconds: float, made: int) -> None:
    fetch, times = scripted(*[THROTTLED] * 50)
    policy = RetryPolicy(seconds=seconds, uniform=lambda _low, high: high)
    with pytest.raises(Throttled):
        run(lambda: retry(fetch, policy)(None))
    assert len(times) == made
    assert times[-1] - times[0] <= seconds


def test_a_wish_beyond_the_time_that_is_left_is_not_waited_for() -> None:
    async def main() -> float:
        fetch, times = scripted(Throttled("ThrottlingException", "", 31.0))
        with pytest.raises(Throttled):
            await retry(fetch, replace(LONGEST, seconds=30.0))(None)
        assert len(times) == 1
        return anyio.current_time()

    assert run(main) == 0


def test_the_first_attempt_does_not_count_as_waiting() -> None:
    async def main() -> int:
        calls = 0

        async def slow() -> str:
            nonlocal calls
            calls += 1
            await anyio.sleep(1000)
            if calls == 1:
                raise THROTTLED
            return "answer"

        assert await persist(slow, RetryPolicy(seconds=1)) == "answer"
        return calls

    assert run(main) == 2


@pytest.mark.parametrize(
    "error",
    [
        Denied("AccessDeniedException", ""),
        KeysUnknown("UnrecognizedClientException", ""),
        KeysExpired("ExpiredTokenException", ""),
        Gone("RepositoryNotFoundException", ""),
        Refused("InvalidParameterException", ""),
        ChainBroken("RepeatedToken", ""),
        Fatal("RequestTimeTooSkewed", ""),
        CrawlError("Unknown", ""),
        ValueError("a bug"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_will_not_pass_is_not_asked_again(error: Exception) -> None:
    fetch, times = scripted(error)
    with pytest.raises(type(error)) as caught:
        run(lambda: retry(fetch, LONGEST)(None))
    assert caught.value is error
    assert len(times) == 1


@pytest.mark.parametrize(
    "error", [Denied("AccessDeniedException", ""), ValueError("a bug")], ids=lambda error: type(error).__name__
)
def test_what_will_not_pass_is_not_asked_again_after_what_might_have(error: Exception) -> None:
    fetch, times = scripted(THROTTLED, error)
    with pytest.raises(type(error)) as caught:
        run(lambda: retry(fetch, LONGEST)(None))
    assert caught.value is error
    assert len(times) == 2


def test_each_attempt_asks_for_the_same_page() -> None:
    asked: list[str | None] = []

    async def fetch(token: str | None) -> Page[str]:
        await checkpoint()
        asked.append(token)
        if len(asked) < 3:
            raise THROTTLED
        return PAGE

    governed = Governor(slots=1, pace=Pace()).govern(counted(fetch, Chain()))
    run(lambda: retry(governed, LONGEST)("a token"))
    assert asked == ["a token"] * 3


def test_errors_of_all_kinds_share_one_count_and_the_last_is_raised() -> None:
    fetch, times = scripted(THROTTLED, Transient("A", ""), THROTTLED, Transient("B", "the last"))
    chain = Chain()
    with pytest.raises(Transient, match="B: the last"):
        run(lambda: retry(counted(fetch, chain), RetryPolicy(attempts=4))(None))
    assert (len(times), chain.attempts, chain.throttled) == (4, 4, 2)


def test_each_page_has_attempts_of_its_own() -> None:
    fetch, _ = scripted(THROTTLED, THROTTLED, 0.0, THROTTLED, THROTTLED)
    chain = Chain()

    async def main() -> None:
        persistent = retry(counted(fetch, chain), RetryPolicy(attempts=3))
        await persistent(None)
        await persistent("token")

    run(main)
    assert chain.attempts == 6


def test_each_new_attempt_is_logged_with_its_reason_and_its_wait(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "crawler.retry")
    fetch, _ = scripted(Throttled("ThrottlingException", "Rate exceeded", 1.23456), Transient("Timeout", "60 s"))
    run(lambda: retry(fetch, LONGEST)(None))
    told = [vars(record) for record in caplog.records]
    assert [(record["msg"], record["attempt"], record["seconds"], record["error"]) for record in told] == [
        ("trying again", 1, 1.235, "ThrottlingException: Rate exceeded"),
        ("trying again", 2, 0.5, "Timeout: 60 s"),
    ]


def test_the_trouble_of_a_chain_is_that_of_its_newest_request() -> None:
    async def main() -> None:
        fetch, _ = scripted(THROTTLED, Transient("Timeout", "60 s"))
        chain = Chain()
        async with anyio.create_task_group() as group:
            group.start_soon(retry(counted(fetch, chain), LONGEST), None)
            await anyio.sleep(0.125)
            assert chain.trouble == "ThrottlingException: Rate exceeded"
            await anyio.sleep(0.25)
            assert chain.trouble == "Timeout: 60 s"
        assert chain.trouble is None

    run(main)


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_a_cancellation_is_neither_retried_nor_swallowed(backend: str) -> None:
    async def main() -> tuple[int, bool]:
        fetch, times = scripted(Throttled("ThrottlingException", "", 800.0))
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(retry(fetch, LONGEST), None)
                await anyio.wait_all_tasks_blocked()
                scope.cancel()
        return len(times), scope.cancelled_caught

    assert run(main, backend) == (1, True)


@pytest.mark.parametrize(("backing_off_holds_the_slot", "neighbour_done"), [(False, 2.0), (True, 63.0)])
def test_the_slot_is_free_while_backing_off(*, backing_off_holds_the_slot: bool, neighbour_done: float) -> None:
    """The reason for `retry(govern(call))`, beside the order that was rejected."""

    a_minute = RetryPolicy(base=60, cap=60, uniform=lambda _low, high: high)

    async def main() -> float:
        governor = Governor(slots=1, pace=Pace())
        answer, _ = scripted(1.0, 1.0)
        turns = iter([True])

        async def throttled_at_first(token: str | None) -> Page[str]:
            page = await answer(token)
            if next(turns, False):
                raise Transient("ServerException", "")
            return page

        if backing_off_holds_the_slot:
            chained = governor.govern(retry(throttled_at_first, a_minute))
        else:
            chained = retry(governor.govern(throttled_at_first), a_minute)
        neighbour, _ = scripted(1.0)
        async with anyio.create_task_group() as group:
            group.start_soon(chained, None)
            await anyio.wait_all_tasks_blocked()
            await governor.govern(neighbour)(None)
            return anyio.current_time()

    assert run(main) == neighbour_done


def test_a_lambda_is_awaited_too() -> None:
    async def answer() -> str:
        return "yes"

    assert run(lambda: persist(lambda: answer(), LONGEST)) == "yes"  # noqa: PLW0108  (the point of the test)
