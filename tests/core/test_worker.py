"""A worker, at the other end of its channel: what it is given, what it tells, and how it ends."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import anyio
import pytest
from anyio.lowlevel import checkpoint

from crawler import worker
from crawler.engines.channel import Channel, Gone
from crawler.engines.processes import Halt, Pulse
from crawler.errors import Fatal, UsageError
from crawler.model import Account
from crawler.settings import Settings
from crawler.shard import Report, Shard
from crawler.shard_crawl import Assignment, Workplace
from tests.fakes import HANG, Spot, World, small_tree

A, B = Account("1" * 12), Account("2" * 12)
ASSIGNMENT = Assignment(Settings(accounts="", timeout=3600), "r", None, ("text", 0))


class Kept(Channel):
    """A channel that the test closes: a worker's own end goes with its process."""

    opened: ClassVar[list[Channel]] = []

    @classmethod
    async def open(cls, end: socket.socket | int) -> Channel:
        channel = await Channel.open(end)
        cls.opened.append(channel)
        return channel


class Left(BaseException):
    """In place of the end of the process."""


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """What the worker crawls."""
    made = World({(A.account_id, "east"): small_tree("a"), (B.account_id, "east"): small_tree("b")})

    @asynccontextmanager
    async def workplace(assignment: Assignment) -> AsyncGenerator[Workplace]:
        yield Workplace(assignment, made, None)

    def leave(code: int) -> None:
        raise Left(code)

    monkeypatch.setattr(worker, "_PULSE", 3600.0)
    monkeypatch.setattr(worker, "Channel", Kept)
    monkeypatch.setattr(worker, "workplace", workplace)
    monkeypatch.setattr(worker.logs, "configure", lambda *_: None)
    monkeypatch.setattr(os, "_exit", leave)
    return made


def served(driver: Callable[[Channel], Awaitable[None]]) -> list[int]:
    """Have a worker on this event loop, and be who started it; return the exit code of a worker that ended."""
    codes: list[int] = []

    async def main() -> None:
        ours, theirs = socket.socketpair()

        async def serve() -> None:
            codes.append(await worker._serve(theirs.detach()))

        channel = await Kept.open(ours)
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(serve)
                with anyio.fail_after(20):
                    await driver(channel)
                    await channel.aclose()
        finally:
            while Kept.opened:
                await Kept.opened.pop().aclose()

    anyio.run(main)
    return codes


async def told(channel: Channel) -> Any:
    """What comes next that is no pulse."""
    while True:
        message, _ = await channel.receive()
        if not isinstance(message, Pulse):
            return message


async def reported(channel: Channel, count: int = 1) -> list[Report]:
    """So many reports, each with its rows, in the order of their numbers; the worker is done with those shards then.

    It sends a pulse before each, and without the ones that come by the clock there is no other.
    """
    reports: list[Report] = []
    pulses = 0
    while len(reports) < count or pulses < count:
        message, file = await channel.receive()
        if isinstance(message, Report):
            message.rows = file
            reports.append(message)
        else:
            assert isinstance(message, Pulse), message
            pulses += 1
    return sorted(reports, key=lambda report: report.number)


async def begun(world: World, spot: Spot) -> None:
    """Wait until the worker has asked for this."""
    while not world.calls[spot]:
        await checkpoint()


def test_it_crawls_several_shards_and_ends_with_who_started_it(world: World) -> None:
    async def driver(channel: Channel) -> None:
        await channel.send(ASSIGNMENT)
        for number, account in enumerate((A, B), 1):
            await channel.send(Shard(number, (account,)))
        for report, account in zip(await reported(channel, 2), (A, B), strict=True):
            assert report.rows is not None
            with report.rows as rows:
                rows.seek(0)
                found = [tuple(json.loads(line).values()) for line in rows]
            assert sorted(found, key=str) == sorted(
                world.trees[account.account_id, "east"].rows(account.account_id, "east"), key=str
            )

    assert served(driver) == [0]


def test_a_shard_counts_too_little_for_a_moment_and_never_twice(world: World) -> None:
    """What is said of it under way is taken back before its report is there: the timeline counted it twice."""
    assert world

    async def driver(channel: Channel) -> None:
        await channel.send(ASSIGNMENT)
        await channel.send(Shard(1, (A,)))
        pulse, _ = await channel.receive()
        report, rows = await channel.receive()
        assert isinstance(pulse, Pulse)
        assert isinstance(report, Report)
        assert (pulse.chain.attempts, report.totals.rows) == (0, 2)
        assert rows is not None
        rows.close()

    assert served(driver) == [0]


def test_a_shard_that_is_halted_tells_what_it_has_and_the_others_go_on(world: World) -> None:
    world.always(("images", A.account_id, "east", "a", 1), HANG)

    async def driver(channel: Channel) -> None:
        await channel.send(ASSIGNMENT)
        await channel.send(Shard(1, (A,)))
        await begun(world, ("images", A.account_id, "east", "a", 1))
        await channel.send(Halt(7))  # which has ended meanwhile, or was never here
        await channel.send(Halt(1))
        (report,) = await reported(channel)
        assert report.rows is not None
        report.rows.close()
        assert {json.loads(line)["code"] for line in report.left.splitlines()} == {"Interrupted"}
        await channel.send(Shard(2, (B,)))
        (report,) = await reported(channel)
        assert report.rows is not None
        report.rows.close()
        assert (report.number, report.totals.rows) == (2, 2)

    assert served(driver) == [0]


def test_what_no_shard_survives_is_told(world: World) -> None:
    world.always(("repositories", A.account_id, "east", 0), Fatal("ClockWrong", "by a day"))

    async def driver(channel: Channel) -> None:
        await channel.send(ASSIGNMENT)
        await channel.send(Shard(1, (A,)))
        failure = await told(channel)
        assert isinstance(failure, Fatal)
        assert str(failure) == "ClockWrong: by a day"

    assert served(driver) == [0]


def test_a_full_disk_of_its_own_is_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    assert world
    monkeypatch.setattr("crawler.shard_crawl.local_file", partial(Path("/dev/full").open, "w+b", buffering=0))

    async def driver(channel: Channel) -> None:
        await channel.send(ASSIGNMENT)
        await channel.send(Shard(1, (A,)))
        failure = await told(channel)
        assert isinstance(failure, Fatal)
        assert "No space left on device: make room there, or set TMPDIR" in failure.message

    assert served(driver) == [0]


def test_a_place_that_cannot_be_used_from_here_is_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the folder of an output that is not on this machine."""
    assert world

    @asynccontextmanager
    async def workplace(_: Assignment) -> AsyncGenerator[Workplace]:
        raise UsageError("/elsewhere: cannot be written: No such file or directory")
        yield

    monkeypatch.setattr(worker, "workplace", workplace)

    async def driver(channel: Channel) -> None:
        await channel.send(ASSIGNMENT)
        failure = await told(channel)
        assert str(failure) == "WorkerFailed: /elsewhere: cannot be written: No such file or directory"

    assert served(driver) == [0]


def test_it_says_something_while_the_store_does_not_answer(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever says nothing is held for hung."""
    opened = anyio.Event()

    @asynccontextmanager
    async def workplace(assignment: Assignment) -> AsyncGenerator[Workplace]:
        await opened.wait()
        yield Workplace(assignment, world, None)

    monkeypatch.setattr(worker, "workplace", workplace)
    monkeypatch.setattr(worker, "_PULSE", 0.0)

    async def driver(channel: Channel) -> None:
        await channel.send(ASSIGNMENT)
        for _ in range(2):
            assert isinstance((await channel.receive())[0], Pulse)
        opened.set()

    assert served(driver) == [0]


def test_a_bug_is_no_failure_of_the_run_but_its_own(world: World) -> None:
    world.always(("repositories", A.account_id, "east", 0), ZeroDivisionError("a bug"))

    async def driver(channel: Channel) -> None:
        await channel.send(ASSIGNMENT)
        await channel.send(Shard(1, (A,)))
        with pytest.raises(Gone):
            await told(channel)

    with pytest.raises(BaseExceptionGroup) as caught:
        served(driver)
    assert caught.group_contains(ZeroDivisionError)


def test_without_who_started_it_a_shard_under_way_is_dropped_at_once(world: World) -> None:
    world.always(("images", A.account_id, "east", "a", 1), HANG)

    async def driver(channel: Channel) -> None:
        await channel.send(ASSIGNMENT)
        await channel.send(Shard(1, (A,)))
        await begun(world, ("images", A.account_id, "east", "a", 1))

    with pytest.raises(BaseExceptionGroup) as caught:
        served(driver)
    assert caught.group_contains(Left, match="1")


def test_who_started_it_may_end_before_it_said_anything(world: World) -> None:
    assert world

    async def driver(channel: Channel) -> None:
        pass

    assert served(driver) == [0]
