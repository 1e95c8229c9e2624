"""Stall at every stage, cancel, and look: each known unit has one line, nothing runs on, nothing stays open."""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

import anyio
import pytest
from anyio.lowlevel import checkpoint
from hypothesis import given
from hypothesis import strategies as st

from crawler.crawl import Crawl, Limits
from crawler.errors import KeysUnknown, Throttled
from crawler.ledger import LAST_WORDS, Ledger
from crawler.model import Account, Identity, Organization
from tests.fakes import HANG, ListSink, Rehearsal, Spot, Step, World, run, small_tree

ACCOUNTS = tuple(Account(digit * 12) for digit in "1234")
ID = ACCOUNTS[0].account_id
FIRST_PAGE = ("images", ID, "east", "a", 0)
LAST_PAGE = ("images", ID, "east", "a", 1)


@dataclass
class Stage:
    """What stalls: a spot, or the sink, or the governor's pace."""

    spot: Spot = ("none",)
    step: Step = HANG
    sink: bool = False
    max_rps: float | None = None
    organization: bool = False


STAGES = {
    "listing accounts": Stage(("members", 2), organization=True),
    "regions": Stage(("regions", ID)),
    "open": Stage(("open", ID, "east")),
    "DescribeRepositories": Stage(("repositories", ID, "east", 0)),
    "DescribeRepositories, page 2": Stage(("repositories", ID, "east", 1)),
    "ListImages": Stage(FIRST_PAGE),
    "ListImages, page 2": Stage(LAST_PAGE),
    "retry": Stage(LAST_PAGE, Throttled("ThrottlingException", "", retry_after=800.0)),
    "pace": Stage(max_rps=0.0001),
    "sink": Stage(sink=True),
}


def world() -> World:
    trees = {(account.account_id, "east"): small_tree("a", "b", "c", "d", "e") for account in ACCOUNTS}
    trees[ID, "west"] = small_tree("z")
    return World(trees, members=ACCOUNTS)


def rehearse(stage: Stage) -> Rehearsal:
    limits = Limits(targets_at_once=2, requests_per_target=1, max_rps=stage.max_rps)
    rehearsal = Rehearsal(world(), ListSink(*[HANG] * 100 if stage.sink else ()), limits)
    rehearsal.world.timeout = HANG
    rehearsal.world.always(stage.spot, stage.step)
    return rehearsal


def crawling(crawl: Crawl, *, organization: bool) -> Callable[[], Awaitable[None]]:
    if organization:
        return lambda: crawl.organization(Organization(Identity(), Account("")), lambda _: True)
    return lambda: crawl.accounts(ACCOUNTS)


async def stall_and_cancel(rehearsal: Rehearsal, *, organization: bool) -> None:
    crawl = rehearsal.crawl()
    before = {task.id for task in anyio.get_running_tasks()}
    async with anyio.create_task_group() as group:
        group.start_soon(crawling(crawl, organization=organization))
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
    gc.collect()  # a generator left open would be finalized now, by a task or with a warning
    await checkpoint()
    assert {task.id for task in anyio.get_running_tasks()} <= before
    assert rehearsal.world.members_open == 0
    assert rehearsal.world.flying.total() == 0
    assert crawl._targets.value == rehearsal.limits.targets_at_once


def check(rehearsal: Rehearsal, known: set[tuple[str | None, ...]]) -> None:
    outcomes = rehearsal.outcomes()
    assert set(outcomes) == known
    for (registry_id, region, name), outcome in outcomes.items():
        delivered = sum(row[:3] == (registry_id, region, name) for row in rehearsal.sink.rows)
        if name is not None and outcome == "OK":
            assert delivered == 2, "called OK, and not all of its rows are there"


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
@pytest.mark.parametrize("stage", STAGES)
def test_cancelled_at_any_stage(stage: str, backend: str) -> None:
    stalled = STAGES[stage]
    rehearsal = rehearse(stalled)
    run(lambda: stall_and_cancel(rehearsal, organization=stalled.organization), backend)
    if stalled.organization:
        check(rehearsal, {(None, None, None)} | rehearsal.known(*ACCOUNTS[:2]))
    else:
        check(rehearsal, rehearsal.known(*ACCOUNTS))
    assert rehearsal.ledger.incomplete() > 0


@given(seconds=st.integers(0, 60), at_once=st.integers(1, 3), latency=st.lists(st.integers(1, 7), min_size=60))
def test_cancelled_at_any_moment(seconds: int, at_once: int, latency: list[int]) -> None:
    limits = Limits(targets_at_once=at_once, requests_per_target=at_once)
    rehearsal = Rehearsal(world(), limits=limits)
    for account in ACCOUNTS:
        for spot in [
            ("regions", account.account_id),
            *[("repositories", account.account_id, "east", n) for n in (0, 1)],
        ]:
            rehearsal.world.will(spot, float(latency.pop()))
        for name in "abcd":
            rehearsal.world.will(("images", account.account_id, "east", name, 1), float(latency.pop()))

    async def main() -> None:
        with anyio.move_on_after(seconds + 0.5):
            await rehearsal.accounts(*ACCOUNTS)

    run(main)
    check(rehearsal, rehearsal.known(*ACCOUNTS))


@pytest.mark.parametrize("answered", [True, False])
def test_a_region_in_doubt_has_its_line_when_the_run_stops(*, answered: bool) -> None:
    rehearsal = rehearse(Stage(("repositories", ID, "west", 0), KeysUnknown("UnrecognizedClientException", "")))
    rehearsal.world.will(("repositories", ID, "east", 1 if answered else 0), HANG)
    run(lambda: stall_and_cancel(rehearsal, organization=False))
    # What the other region had not yet shown is not assumed.
    assert rehearsal.line(ID, "west")["outcome"] == "DENIED"


def test_a_ledger_that_is_slow_still_gets_every_line() -> None:
    sent: list[bytes] = []

    async def slowly(data: bytes) -> None:
        await anyio.sleep(3 * LAST_WORDS)
        sent.append(data)

    rehearsal = Rehearsal(world())
    rehearsal.ledger = Ledger(slowly)
    rehearsal.of(*ACCOUNTS)
    assert len(sent) == len(rehearsal.known(*ACCOUNTS))


def test_a_ledger_that_stands_still_does_not_hold_up_the_end() -> None:
    async def never(_: bytes) -> None:
        await anyio.sleep_forever()

    async def main() -> float:
        rehearsal = rehearse(STAGES["ListImages"])
        rehearsal.ledger = Ledger(never)
        with suppress(TimeoutError), anyio.fail_after(100):
            await rehearsal.accounts(*ACCOUNTS)
        assert rehearsal.ledger.incomplete() > 0
        return anyio.current_time() - 100

    assert run(main) <= 6 * LAST_WORDS


@pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES)
def test_who_waits_for_its_turn_has_asked_nothing(stage: Stage) -> None:
    """A line had one attempt too many, and the timeline a few hundred after some workers were killed."""
    rehearsal = rehearse(stage)

    async def main() -> None:
        with anyio.move_on_after(100):
            await crawling(rehearsal.crawl(), organization=stage.organization)()

    run(main)
    asked = sum(count for spot, count in rehearsal.world.calls.items() if spot[0] in ("repositories", "images"))
    assert sum(line["attempts"] for line in rehearsal.lines) == asked
