"""A process that crawls shards for another one (`engines.processes`), and ends with it."""

from __future__ import annotations

import gc
import os
import signal
from contextlib import aclosing
from importlib.util import find_spec
from typing import cast

import anyio
from anyio.abc import TaskGroup

from crawler import logs
from crawler.descriptors import raise_descriptors
from crawler.engines.channel import Channel, Gone
from crawler.engines.processes import Halt, Pulse
from crawler.errors import Fatal, UsageError
from crawler.model import Chain
from crawler.shard import Shard
from crawler.shard_crawl import Assignment, Workplace, told_as, workplace
from crawler.standard_error import unblocked
from crawler.timeline import Spread

#: Seconds between two words on how far the shards have come.
_PULSE = 0.5


def serve(descriptor: int) -> int:
    """Crawl what comes through this end of a pair of sockets until the other end is closed; return the exit code."""
    raise_descriptors()
    # They may go to all processes of a service or a terminal at once: who started this one then wants what it has.
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    with unblocked():
        gc.freeze()
        return anyio.run(_serve, descriptor, backend_options={"use_uvloop": find_spec("uvloop") is not None})


async def _serve(descriptor: int) -> int:
    try:
        channel = await Channel.open(descriptor)
    except (OSError, ValueError) as error:
        raise UsageError("crawler worker is what --workers starts, and not for the command line") from error
    async with aclosing(channel):
        try:
            assignment = cast("Assignment", (await channel.receive())[0])
        except Gone:
            return 0
        logs.configure(*assignment.log)
        shards = _Shards(channel)
        failure: Fatal | None = None
        async with anyio.create_task_group() as words:
            # From now on: a store may take minutes to answer, and whoever says nothing is held for hung.
            words.start_soon(shards.tell)
            failure = await _work(assignment, shards)
            words.cancel_scope.cancel()
        if failure:
            await channel.send(failure)
    return 0


async def _work(assignment: Assignment, shards: _Shards) -> Fatal | None:
    """Crawl until there is nobody to do so for, or until what no shard survives, which is returned."""
    try:
        async with workplace(assignment) as place, anyio.create_task_group() as group:
            await shards.run(place, group)
            group.cancel_scope.cancel()
    except (Exception, BaseExceptionGroup) as error:
        failure = told_as(error)
        if failure is None:
            raise
        return failure
    return None


class _Shards:
    """Those that this process has, by number, each with what cancels its work; `run` has them crawled."""

    _place: Workplace | None = None

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._work: dict[int, anyio.CancelScope] = {}

    async def run(self, place: Workplace, group: TaskGroup) -> None:
        self._place = place
        while True:
            try:
                message, _ = await self._channel.receive()
            except Gone:
                break
            match message:
                case Shard():
                    group.start_soon(self._crawl, place, message)
                case Halt() if message.number in self._work:
                    self._work[message.number].cancel()
                case _:  # has ended meanwhile
                    pass
        if self._work:
            # Whoever wanted them is no more. Nothing of them counts, and threads may take minutes to end.
            os._exit(1)

    async def _crawl(self, place: Workplace, shard: Shard) -> None:
        work = self._work[shard.number] = anyio.CancelScope()
        report = await place.crawl_shard(shard, work)
        del self._work[shard.number]
        rows, report.rows = report.rows, None
        try:
            # Sums without this shard first: for a moment it counts too little then, and never twice.
            await self._channel.send(self._pulse())
            await self._channel.send(report, rows)
        except Gone:
            os._exit(1)
        finally:
            if rows:
                rows.close()

    def _pulse(self) -> Pulse:
        if self._place is None:
            return Pulse(Chain(), Spread())
        return Pulse(self._place.under_way(), self._place.paces.spread())

    async def tell(self) -> None:
        while True:
            await anyio.sleep(_PULSE)
            try:
                await self._channel.send(self._pulse())
            except Gone:
                return
