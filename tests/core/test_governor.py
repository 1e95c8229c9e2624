"""Slots and pace of one registry, exact on a virtual clock."""

from __future__ import annotations

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawler.governor import Governor
from crawler.model import Page
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


async def send(governor: Governor, service: Service, requests: int) -> None:
    async with anyio.create_task_group() as group:
        for _ in range(requests):
            group.start_soon(governor.govern(service), None)


@given(slots=st.integers(1, 8), requests=st.integers(0, 20))
def test_slots_bound_what_is_in_flight_over_all_chains(slots: int, requests: int) -> None:
    service = Service(1.0)
    run(lambda: send(Governor(slots=slots), service, requests))
    assert len(service.starts) == requests
    assert service.peak == min(slots, requests)


@pytest.mark.parametrize("max_rps", [0.5, 2, 8])
def test_starts_are_evenly_spaced(max_rps: float) -> None:
    service = Service()
    run(lambda: send(Governor(slots=3, max_rps=max_rps), service, 9))
    assert service.starts == [index / max_rps for index in range(9)]


def test_the_pace_is_a_ceiling_and_no_debt_is_made_up_for() -> None:
    async def main() -> list[float]:
        governor, service = Governor(slots=1, max_rps=1), Service()
        await send(governor, service, 2)
        await anyio.sleep(9.5)
        await send(governor, service, 3)
        return service.starts

    assert run(main) == [0, 1, 10.5, 11.5, 12.5]


def test_slow_answers_slow_the_pace_where_slots_are_few() -> None:
    service = Service(3.0)
    run(lambda: send(Governor(slots=2, max_rps=1), service, 6))
    assert service.starts == [0, 1, 3, 4, 6, 7]
    assert service.peak == 2


def test_without_a_pace_all_start_at_once() -> None:
    service = Service()
    run(lambda: send(Governor(slots=5), service, 5))
    assert service.starts == [0] * 5


@pytest.mark.parametrize("waits_for", ["slot", "turn", "answer"])
@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_cancelled_wherever_it_waits_it_gives_the_slot_back(waits_for: str, backend: str) -> None:
    async def main() -> str:
        governor = Governor(slots=1 if waits_for == "slot" else 2, max_rps=0.001 if waits_for == "turn" else None)
        async with anyio.create_task_group() as group:
            group.start_soon(send, governor, Service(9999), 2)
            await anyio.wait_all_tasks_blocked()
            group.cancel_scope.cancel()
        return repr(governor)

    spacing = "1000" if waits_for == "turn" else "0"
    assert run(main, backend) == f"<Governor free={1 if waits_for == 'slot' else 2} spacing={spacing}s>"


def test_an_error_gives_the_slot_back() -> None:
    async def fails(_: str | None) -> Page[str]:
        raise ValueError("a bug")

    async def main() -> str:
        governor = Governor(slots=1)
        for _ in range(3):
            with pytest.raises(ValueError, match="a bug"):
                await governor.govern(fails)(None)
        return repr(governor)

    assert run(main) == "<Governor free=1 spacing=0s>"
