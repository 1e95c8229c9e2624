"""Slots and pace of one registry, exact on a virtual clock."""

from __future__ import annotations

from contextlib import suppress

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawler.errors import Denied, Refused, Throttled
from crawler.governor import LONGEST_SLEEP, Governor, of_target
from crawler.model import Page
from crawler.pace import Ceiling, Pace, Quota
from tests.fakes import run


class Service:
    """Answers after `seconds`; spies on starts and on what is in flight."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.starts: list[float] = []
        self.flying = self.peak = 0

    async def __call__(self, _: str | None) -> Page[str]:
        self.starts.append(anyio.current_time())
        self.flying += 1
        self.peak = max(self.peak, self.flying)
        try:
            await anyio.sleep(self.seconds)
        finally:
            self.flying -= 1
        return Page([], None)


def governed(slots: int, max_rps: float | None = None) -> Governor:
    return Governor(slots=slots, pace=Pace(ceiling=Ceiling(max_rps) if max_rps else None))


async def send(governor: Governor, service: Service, requests: int) -> None:
    async with anyio.create_task_group() as group:
        for _ in range(requests):
            group.start_soon(governor.govern(service), None)


@given(slots=st.integers(1, 8), requests=st.integers(0, 20))
def test_slots_bound_what_is_in_flight_over_all_chains(slots: int, requests: int) -> None:
    service = Service(1.0)
    run(lambda: send(governed(slots), service, requests))
    assert len(service.starts) == requests
    assert service.peak == min(slots, requests)


@pytest.mark.parametrize("max_rps", [0.5, 2, 8])
def test_starts_are_evenly_spaced(max_rps: float) -> None:
    service = Service()
    run(lambda: send(governed(3, max_rps), service, 9))
    assert service.starts == [index / max_rps for index in range(9)]


def test_the_pace_is_a_ceiling_and_no_debt_is_made_up_for() -> None:
    async def main() -> list[float]:
        governor, service = governed(1, 1), Service()
        await send(governor, service, 2)
        await anyio.sleep(9.5)
        await send(governor, service, 3)
        return service.starts

    assert run(main) == [0, 1, 10.5, 11.5, 12.5]


def test_slow_answers_slow_the_pace_where_slots_are_few() -> None:
    service = Service(3.0)
    run(lambda: send(governed(2, 1), service, 6))
    assert service.starts == [0, 1, 3, 4, 6, 7]
    assert service.peak == 2


def test_without_a_pace_all_start_at_once() -> None:
    service = Service()
    run(lambda: send(governed(5), service, 5))
    assert service.starts == [0] * 5


@pytest.mark.parametrize("waits_for", ["slot", "turn", "answer"])
@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_cancelled_wherever_it_waits_it_gives_the_slot_back(waits_for: str, backend: str) -> None:
    async def main() -> str:
        governor = governed(1 if waits_for == "slot" else 2, 0.001 if waits_for == "turn" else None)
        async with anyio.create_task_group() as group:
            group.start_soon(send, governor, Service(9999), 2)
            await anyio.wait_all_tasks_blocked()
            group.cancel_scope.cancel()
        return repr(governor)

    assert run(main, backend) == f"<Governor free={1 if waits_for == 'slot' else 2} <Pace unlimited>>"


def test_an_error_gives_the_slot_back() -> None:
    async def fails(_: str | None) -> Page[str]:
        raise ValueError("a bug")

    async def main() -> str:
        governor = governed(1)
        for _ in range(3):
            with pytest.raises(ValueError, match="a bug"):
                await governor.govern(fails)(None)
        return repr(governor)

    assert run(main) == "<Governor free=1 <Pace unlimited>>"


class Refusing(Service):
    """Lets in what a token bucket of `rate` and `burst` lets in."""

    def __init__(self, rate: float, burst: float, seconds: float = 0.0) -> None:
        super().__init__(seconds)
        self.rate, self.burst, self.level, self.at = rate, burst, burst, 0.0
        self.refused: list[float] = []

    async def __call__(self, token: str | None) -> Page[str]:
        now = anyio.current_time()
        self.level, self.at = min(self.burst, self.level + (now - self.at) * self.rate), now
        passed = self.level >= 1 - 1e-9
        self.level -= passed
        page = await super().__call__(token)
        if not passed:
            self.refused.append(now)
            raise Throttled("ThrottlingException", "Rate exceeded")
        return page


async def persist(governor: Governor, service: Service, requests: int) -> None:
    for _ in range(requests):
        while True:
            with suppress(Throttled):
                await governor.govern(service)(None)
                break


def test_a_known_rate_is_kept_without_a_refusal_and_the_burst_is_spent_at_once() -> None:
    governor = Governor(slots=2, pace=Pace(known=Quota(3.9, 3)))
    service = Refusing(4, 3)
    run(lambda: persist(governor, service, 6))
    # What is asked for beyond the known rate is 1.5 % of it, and grows with time.
    assert service.starts == pytest.approx([0, 0, 0, 0.25, 0.5, 0.75], abs=0.01)


def test_all_who_wait_see_the_correction_that_one_refusal_brings() -> None:
    governor = Governor(slots=4, pace=Pace(known=Quota(10, 1)))
    service = Refusing(0.5, 1)

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(4):
                group.start_soon(persist, governor, service, 3)

    run(main)
    # 12 tokens at one in two seconds: 22 s, and hardly a refusal more than it takes to see that it is not ten a second.
    assert 22 <= service.starts[-1] <= 30
    assert len(service.refused) <= 12


def test_what_is_wrong_with_a_request_is_no_refusal() -> None:
    async def wrong(_: str | None) -> Page[str]:
        raise Refused("InvalidParameterException", "")

    async def main() -> Quota | None:
        governor = governed(1)
        with pytest.raises(Refused):
            await governor.govern(wrong)(None)
        return governor.pace.quota

    assert run(main) is None


def test_the_operations_of_a_target_share_slots_and_ceiling_and_nothing_else() -> None:
    async def main() -> None:
        listing, images = of_target(slots=1, max_rps=2.0, share=1.0)
        service = Service(1.0)
        async with anyio.create_task_group() as group:
            for governor in (listing, images, listing):
                group.start_soon(governor.govern(service), None)
        assert service.starts == [0, 1, 2]  # one slot
        quick = Service()
        for governor in (listing, images, listing):
            await governor.govern(quick)(None)
        assert quick.starts == [3, 3.5, 4]  # one ceiling
        images.pace.refuse(anyio.current_time(), images.pace.epoch)
        assert listing.pace.quota is None

    run(main)


class Told(Pace):
    """A pace that writes down what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[tuple[object, ...]] = []

    def answer(self, epoch: int) -> None:
        self.heard.append(("answer", epoch))

    def refuse(self, now: float, epoch: int, retry_after: float | None = None) -> None:
        self.heard.append(("refuse", now, epoch, retry_after))


@pytest.mark.parametrize(
    ("ends_with", "heard"),
    [
        (None, ("answer", 3)),
        (Throttled("ThrottlingException", "", 7.5), ("refuse", 2.0, 3, 7.5)),
        (Throttled("ThrottlingException", ""), ("refuse", 2.0, 3, None)),
        (Denied("AccessDeniedException", ""), ("answer", 3)),
        (ValueError("a bug"), None),
    ],
    ids=["answered", "refused with a wish", "refused", "denied", "a bug"],
)
def test_the_pace_hears_of_each_request_once_and_in_which_epoch_it_began(
    ends_with: Exception | None, heard: tuple[object, ...] | None
) -> None:
    pace = Told()
    pace.epoch = 3

    async def call(seconds: float) -> str:
        await anyio.sleep(seconds)
        pace.epoch = 4  # another was refused meanwhile
        if ends_with:
            raise ends_with
        return "answer"

    async def main() -> None:
        with suppress(Exception):
            assert await Governor(slots=1, pace=pace).run(call, 2.0) == "answer"

    run(main)
    assert pace.heard == ([heard] if heard else [])


def test_who_waits_for_a_turn_looks_again_before_long() -> None:
    class Gate(Pace):
        """Lets nobody in before `opens`."""

        opens = 1000.0

        def wait(self, now: float) -> float:
            return max(self.opens - now, 0.0)

    async def main() -> list[float]:
        gate, service = Gate(), Service()
        async with anyio.create_task_group() as group:
            group.start_soon(send, Governor(slots=3, pace=gate), service, 3)
            await anyio.sleep(10.25)
            gate.opens = 0.0  # what others were answered has shortened the wait
        return service.starts

    assert LONGEST_SLEEP == 1
    assert run(main) == [11] * 3


def test_a_target_begins_with_what_is_known_of_its_operations_and_takes_its_share() -> None:
    listing, images = of_target(slots=6, max_rps=None, share=0.5, known={"ListImages": Quota(10, 8)})
    assert repr(listing) == "<Governor free=6 <Pace unlimited>>"
    assert repr(images) == "<Governor free=6 <Pace 10/s burst=8>>"
    service = Service()
    run(lambda: send(images, service, 7))
    assert service.starts == pytest.approx([0, 0, 0, 0, 0.2, 0.4, 0.6])
    listing, images = of_target(slots=1, max_rps=None, share=1.0, known={"DescribeRepositories": Quota(10, 8)})
    assert repr(listing) == "<Governor free=1 <Pace 10/s burst=8>>"
    assert repr(images) == "<Governor free=1 <Pace unlimited>>"
