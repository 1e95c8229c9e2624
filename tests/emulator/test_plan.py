"""When faults strike, and throttles refuse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from crawler.emulator import FAULTS, Estate, Options, Rule, Throttle

ONE = "000000000001"
NAME = "team-00/service-00000"


def page(caller: Any, token: str | None = None, size: int = 5) -> Any:
    body = {"repositoryName": NAME, "maxResults": size} | ({} if token is None else {"nextToken": token})
    return caller.call("ListImages", body)


def test_rules_choose_their_place(struck: Callable[..., Any]) -> None:
    caller = struck(
        {"fault": "throttling", "repository": "team-01/*", "times": "always"},
        Rule(fault="server-error", operation="DescribeRepositories", times=2),
        {"fault": "access-denied", "region": "eu-*"},
        {"fault": "access-denied", "account": "000000000002"},
    )
    assert [page(caller).status for _ in range(3)] == [200] * 3
    assert [caller.call("ListImages", {"repositoryName": "team-01/service-00001"}).status for _ in range(3)] == [
        400
    ] * 3
    assert [caller.call("DescribeRepositories", {}).status for _ in range(3)] == [500, 500, 200]


def test_other_services_spell_the_same_fault_their_own_way(start: Callable[..., Any], twenty: Estate) -> None:
    caller = start(
        twenty,
        Options(
            faults=[
                "throttling:operation=AssumeRole",
                "throttling:operation=ListAcc*",
                "throttling:operation=DescribeReg*",
            ]
        ),
    )
    for call, code in [
        (lambda: caller.assume(ONE), "Throttling"),
        (lambda: caller.client("organizations").list_accounts(), "TooManyRequestsException"),
        (lambda: caller.client("ec2").describe_regions(), "RequestLimitExceeded"),
    ]:
        with pytest.raises(ClientError, match=rf"\({code}\)"):
            call()
        call()


def test_probability_follows_the_seed_and_not_the_order(struck: Callable[..., Any]) -> None:
    def outcome(seed: int) -> list[int]:
        caller = struck("throttling:probability=0.5,times=always", seed=seed)
        return [page(caller).status for _ in range(30)]

    first = outcome(1)
    assert first == outcome(1)
    assert first != outcome(2)
    assert 5 < first.count(400) < 25


@pytest.mark.parametrize("text", ["thortling", "throttling:often=1", "throttling:times=often"])
def test_misspelt_rules_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"no fault is called|has no often|often"):
        Rule.of(text)


def test_every_fault_has_a_name_and_a_description() -> None:
    for name in FAULTS:
        assert Rule.of(name).fault == name
    assert all(FAULTS.values())


def test_throttle_is_a_bucket_for_each_place(start: Callable[..., Any], twenty: Estate) -> None:
    now = [1_800_000_000.0]
    caller = start(
        twenty, Options(checks=False, throttle=Throttle(rate=2, burst=3, retry_after_ms=40), clock=lambda: now[0])
    )
    caller.keys = caller.assume(ONE)
    assert [page(caller).status for _ in range(5)] == [200] * 3 + [400] * 2
    refused = page(caller)
    assert (refused.code, refused.headers["x-amz-retry-after"]) == ("ThrottlingException", "40")
    assert caller.call("DescribeRepositories", {}).status == 200, "a bucket of its own"
    now[0] += 0.5
    assert [page(caller).status for _ in range(2)] == [200, 400]
    now[0] += 100
    assert [page(caller).status for _ in range(4)] == [200] * 3 + [400]
    assert caller.emulator.stats()["throttled"] == {f"{ONE}/us-east-1/ecr:ListImages": 5}


def test_account_has_its_own_throttle(caller: Any) -> None:
    two = caller.assume("000000000002")
    got = [caller.call("DescribeRepositories", {}, keys=two).status for _ in range(4)]
    assert got == [200] * 3 + [400]
