"""STS, Organizations and Account at the rates that AWS publishes, on a virtual clock."""

from __future__ import annotations

from collections.abc import Hashable

import anyio
import pytest

from crawler.aws.rates import Rates
from tests.fakes import run


def starts(
    rates: Rates, service: str, operation: str, calls: int, callers: tuple[Hashable, ...] = ("hub",)
) -> list[float]:
    times: list[float] = []

    async def call() -> None:
        times.append(anyio.current_time())
        await anyio.sleep(0.02)

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for number in range(calls):
                caller = callers[number % len(callers)]
                group.start_soon(rates.of(service, operation, "us-east-1", caller).run, call)

    run(main)
    return times


@pytest.mark.parametrize(
    ("service", "operation", "rate", "burst"),
    [("organizations", "ListAccounts", 8, 12), ("account", "ListRegions", 5, 5), ("sts", "AssumeRole", 600, 600)],
)
def test_a_burst_and_then_the_rate(service: str, operation: str, rate: float, burst: int) -> None:
    times = starts(Rates(), service, operation, 3 * burst)
    assert times[burst - 2] <= 0.2  # 64 in flight
    assert times[-1] == pytest.approx((3 * burst - burst) / rate, rel=0.1)


def test_a_share_of_it() -> None:
    whole, half = (starts(Rates(share), "organizations", "ListAccounts", 60)[-1] for share in (1.0, 0.5))
    assert half == pytest.approx((60 - 6) / 4, rel=0.05)
    assert whole == pytest.approx((60 - 12) / 8, rel=0.05)


def test_each_caller_has_a_rate_of_its_own_and_an_unpublished_one_is_learned() -> None:
    assert starts(Rates(), "account", "ListRegions", 50, callers=tuple(range(10)))[-1] < 0.1
    assert starts(Rates(), "ec2", "DescribeRegions", 50)[-1] == 0


def test_a_governor_for_each_account_does_not_grow_with_the_estate() -> None:
    rates = Rates()
    hub = rates.of("sts", "AssumeRole", "us-east-1", "hub")
    for account in range(10_000):
        rates.of("account", "ListRegions", "us-east-1", account)
        assert rates.of("sts", "AssumeRole", "us-east-1", "hub") is hub
    assert len(rates._governors) == 256
