"""What a dispatch needs of a crew, whoever that is. A new one goes into `CREWS`, and has to pass."""

from __future__ import annotations

import gc
import os
import socket
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import ClassVar

import anyio
import pytest
from anyio.lowlevel import checkpoint

from crawler import worker
from crawler.engines import Crew, Lost, child
from crawler.engines.channel import Channel
from crawler.engines.processes import Processes
from crawler.errors import Fatal
from crawler.settings import Settings
from crawler.shard import Report, Shard
from crawler.shard_crawl import Assignment, Workplace
from tests.core.crews import ACCOUNTS, Here, Run, world
from tests.fakes import HANG, Step, World, leaves


class Killed(BaseException):
    """As a step of the world: whoever asks this is no more."""


@asynccontextmanager
async def here(world: World) -> AsyncGenerator[Crew]:
    """The fake one of the other tests."""
    crew = Here(world)
    crawl = crew.crawl

    async def killed(shard: Shard) -> Report:
        try:
            return await crawl(shard)
        except BaseExceptionGroup as error:
            if any(isinstance(leaf, Killed) for leaf in leaves(error)):
                raise Lost("1") from error
            raise

    crew.crawl = killed  # type: ignore[method-assign]  # a fake in its place
    yield crew


class Kept(Channel):
    """A channel that ends with the process which is made up here."""

    by_descriptor: ClassVar[dict[int, Channel]] = {}

    @classmethod
    async def open(cls, end: socket.socket | int) -> Channel:
        channel = await Channel.open(end)
        if isinstance(end, int):
            cls.by_descriptor[end] = channel
        return channel


class Served:
    """A worker as it is, but on the event loop of the test."""

    pid = 1

    def __init__(self, end: socket.socket) -> None:
        self.returncode: int | None = None
        self._descriptor = end.dup().detach()
        self._scope = anyio.CancelScope()
        self._ended = anyio.Event()

    async def run(self) -> None:
        code = -9
        try:
            with self._scope:
                code = await worker._serve(self._descriptor)
        except BaseException as error:  # noqa: BLE001  (as that of a process, it goes no further)
            code = -9 if any(isinstance(leaf, Killed) for leaf in leaves(error)) else 1
        with anyio.CancelScope(shield=True):
            await Kept.by_descriptor.pop(self._descriptor).aclose()
        self.returncode = code
        self._ended.set()

    def kill(self) -> None:
        self._scope.cancel()

    async def wait(self) -> int | None:
        await self._ended.wait()
        return self.returncode


@asynccontextmanager
async def processes(world: World) -> AsyncGenerator[Crew]:
    """Those of `--workers`, channels and all."""

    @asynccontextmanager
    async def workplace(assignment: Assignment) -> AsyncGenerator[Workplace]:
        yield Workplace(assignment, world, None)

    def leave(_: int) -> None:
        raise Killed

    assignment = Assignment(Settings(accounts="", timeout=3600), "r", None, ("text", 0))
    with pytest.MonkeyPatch.context() as patch:
        async with anyio.create_task_group() as group:

            async def started(end: socket.socket) -> Served:
                served = Served(end)
                group.start_soon(served.run)
                return served

            patch.setattr(child, "_started", started)
            patch.setattr(worker, "Channel", Kept)
            patch.setattr(worker, "workplace", workplace)
            patch.setattr(worker.logs, "configure", lambda *_: None)
            patch.setattr(os, "_exit", leave)
            async with Processes(assignment, workers=2, each=2, pulse=lambda *_: None).running() as crew:
                yield crew


CREWS = {"here": here, "processes": processes}


@pytest.fixture(params=CREWS.values(), ids=CREWS)
def crew_of(request: pytest.FixtureRequest) -> Callable[[World], AbstractAsyncContextManager[Crew]]:
    return request.param  # type: ignore[no-any-return]  # pytest has no type for it


Of = Callable[[World], AbstractAsyncContextManager[Crew]]


def crawl(crew_of: Of, world: World) -> Run:
    """Have a dispatch crawl all accounts of the world by this crew."""

    async def main() -> Run:
        async with crew_of(world) as crew:
            run = Run(world, crew=crew)
            async with run.dispatch.running():
                await run.dispatch.accounts(ACCOUNTS)
        return run

    return anyio.run(main)


def spot(number: int) -> tuple[str | int, ...]:
    return "repositories", ACCOUNTS[number].account_id, "east", 0


def test_all_is_crawled_once(crew_of: Of) -> None:
    crawl(crew_of, world(*ACCOUNTS)).check()


@pytest.mark.parametrize("times", [1, 3])
def test_what_is_lost_is_crawled_again(crew_of: Of, times: int) -> None:
    there = world(*ACCOUNTS)
    for number in (0, 4):
        there.will(spot(number), *[Killed()] * times)
    crawl(crew_of, there).check()


def test_who_loses_a_shard_says_so(crew_of: Of) -> None:
    async def main() -> None:
        there = world(*ACCOUNTS)
        there.will(spot(0), Killed())
        async with crew_of(there) as crew:
            with pytest.raises(Lost):
                await crew.crawl(Shard(1, ACCOUNTS[:1]))
            report = await crew.crawl(Shard(1, ACCOUNTS[:1]))
            assert (report.number, report.totals.rows) == (1, 4)
            if report.rows:
                report.rows.close()

    anyio.run(main)


@pytest.mark.parametrize("step", [Fatal("ClockWrong", "by a day"), ZeroDivisionError("a bug")])
def test_what_no_shard_survives_is_no_loss(crew_of: Of, step: Step) -> None:
    """Nor is a bug: it would be tried twenty times."""
    there = world(*ACCOUNTS)
    there.always(spot(3), step)
    with pytest.raises(BaseException) as caught:  # noqa: PT011  (of whatever groups)
        crawl(crew_of, there)
    assert [type(leaf) for leaf in leaves(caught.value) if not isinstance(leaf, Fatal | ZeroDivisionError)] == []
    assert there.calls[spot(3)] == 1
    gc.collect()


def test_a_shard_that_is_stopped_tells_what_it_has_or_that_it_is_lost(crew_of: Of) -> None:
    """Soon, and all of it or nothing."""
    there = world(*ACCOUNTS)
    hangs = ("images", ACCOUNTS[1].account_id, "east", "b", 0)
    there.always(hangs, HANG)
    shard = Shard(1, ACCOUNTS[:2])

    async def main() -> None:
        async with crew_of(there) as crew:
            async with anyio.create_task_group() as group:
                group.start_soon(crew.crawl, shard)
                while not (there.calls[hangs] and ("images", ACCOUNTS[0].account_id, "east", "b", 1) in there.answered):
                    await checkpoint()
                group.cancel_scope.cancel()
            with anyio.fail_after(20):
                report = await crew.stop(shard)
                assert await crew.stop(Shard(2, ACCOUNTS[2:3])) is None, "it was never begun"
        if report:
            assert b"Interrupted" in report.left
            assert report.totals.rows >= 4
            if report.rows:
                report.rows.close()

    anyio.run(main)


def test_at_most_what_it_wants_is_out(crew_of: Of) -> None:
    async def main() -> None:
        there = world(*ACCOUNTS)
        busy: Counter[str] = Counter()
        async with crew_of(there) as crew:
            ask = crew.crawl

            async def counting(shard: Shard) -> Report:
                busy["now"] += 1
                busy["most"] = max(busy["most"], busy["now"])
                try:
                    return await ask(shard)
                finally:
                    busy["now"] -= 1

            crew.crawl = counting  # type: ignore[method-assign]  # a fake in its place
            run = Run(there, crew=crew)
            async with run.dispatch.running():
                await run.dispatch.accounts(ACCOUNTS)
            assert busy["most"] == crew.at_once

    anyio.run(main)
