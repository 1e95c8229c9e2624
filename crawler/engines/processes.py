"""N processes of this program on this machine, each with its own event loop and pool of connections."""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from signal import Signals

import anyio
from anyio.abc import Process

from crawler.engines import Lost
from crawler.engines.channel import Channel, Gone
from crawler.errors import Fatal
from crawler.model import Chain
from crawler.shard import Report, Shard
from crawler.timeline import Spread

logger = logging.getLogger(__name__)

#: Seconds that a process may take to end once nothing is left for it to do.
FAREWELL = 2.0


@dataclass(frozen=True, slots=True)
class Pulse:
    """Sums of the shards that a worker has under way, as if they were one chain, and the rates of their targets."""

    chain: Chain
    rates: Spread


@dataclass(frozen=True, slots=True)
class Halt:
    """The shard of this number shall end, and tell what it has."""

    number: int


@dataclass(slots=True)
class _Handed:
    """A shard that a worker has. `report` is None still, or its worker is lost, once `ended` is set."""

    ended: anyio.Event = field(default_factory=anyio.Event)
    report: Report | None = None


class _Worker:
    def __init__(self, name: str, channel: Channel) -> None:
        self.name = name
        self.channel = channel
        self.handed: dict[int, _Handed] = {}

    async def listen(self, pulse: Callable[[str, Pulse | None], None]) -> None:
        """Take what it reports, until it is no more."""
        while True:
            try:
                message, file = await self.channel.receive()
            except Gone:
                return
            match message:
                case Report():
                    message.rows = file
                    if handed := self.handed.pop(message.number, None):
                        handed.report = message
                        handed.ended.set()
                case Pulse():
                    pulse(self.name, message)
                case _:  # `Fatal`: the one error that a worker sends
                    raise message

    def abandon(self) -> None:
        for handed in self.handed.values():
            handed.ended.set()
        self.handed.clear()


class Processes:
    """See `Crew`. Each of `workers` gets `assignment` first, and has up to `each` shards at a time.

    A process that is killed is replaced, and its shards are `Lost`. One that ends in any other way has a bug, or lacks
    what it needs: that is `Fatal`, and standard error has its words. `pulse` is told how far each has come. At the end
    they have `farewell` seconds to end by themselves.
    """

    def __init__(
        self,
        assignment: object,
        *,
        workers: int,
        each: int,
        pulse: Callable[[str, Pulse | None], None],
        farewell: float = FAREWELL,
    ) -> None:
        self.workers = workers
        self.at_once = workers * each
        self._assignment = assignment
        self._pulse = pulse
        self._farewell = farewell
        self._hired: list[_Worker] = []
        self._somebody = anyio.Event()
        self._where: dict[int, tuple[_Worker, _Handed]] = {}

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[Processes]:
        """Have the processes while the body runs. They end with it, or with this process, however that ends."""
        failure: Exception | None = None
        async with anyio.create_task_group() as group:
            for number in range(1, self.workers + 1):
                group.start_soon(self._employ, str(number))
            try:
                yield self
            except Exception as error:  # noqa: BLE001  (raised again below, bare)
                failure = error
            group.cancel_scope.cancel()
        if failure:
            raise failure

    async def crawl(self, shard: Shard) -> Report:
        """See `Crew`. The shard goes to whoever has fewest."""
        while not self._hired:
            await self._somebody.wait()
        worker = min(self._hired, key=lambda worker: len(worker.handed))
        handed = worker.handed[shard.number] = _Handed()
        self._where[shard.number] = worker, handed
        try:
            await worker.channel.send(shard)
        except Gone:
            handed.ended.set()
        await handed.ended.wait()
        return self._reported(shard.number)

    async def stop(self, shard: Shard) -> Report | None:
        """See `Crew`."""
        if shard.number not in self._where:
            return None
        worker, handed = self._where[shard.number]
        try:
            await worker.channel.send(Halt(shard.number))
            await handed.ended.wait()
            return self._reported(shard.number)
        except (Gone, Lost):
            return None

    def _reported(self, number: int) -> Report:
        worker, handed = self._where.pop(number)
        if handed.report is None:
            worker.handed.pop(number, None)
            raise Lost(worker.name)
        return handed.report

    async def _employ(self, name: str) -> None:
        """Have one process at work, and another one once it was killed."""
        while True:
            ours, theirs = socket.socketpair()
            try:
                with theirs:
                    process = await _started(theirs)
            except BaseException:  # cancelled, too: a channel, which would close it, is only made of what has started
                ours.close()
                raise
            worker = _Worker(f"{name} (process {process.pid})", await Channel.open(ours))
            try:
                await self._serve(worker)
            finally:
                with anyio.CancelScope(shield=True):
                    await _ended(worker.channel, process, self._farewell)
                if worker in self._hired:
                    self._hired.remove(worker)
                self._pulse(worker.name, None)
                worker.abandon()
            if process.returncode is None or process.returncode >= 0:
                raise Fatal("WorkerEnded", f"worker {worker.name} ended by itself, with exit code {process.returncode}")
            logger.warning("worker %s was killed by %s", worker.name, _signal(-process.returncode))

    async def _serve(self, worker: _Worker) -> None:
        try:
            await worker.channel.send(self._assignment)
        except Gone:
            return
        self._hired.append(worker)
        self._somebody.set()
        await worker.listen(self._pulse)
        self._hired.remove(worker)
        if not self._hired:
            self._somebody = anyio.Event()


def _signal(number: int) -> str:
    try:
        return Signals(number).name
    except ValueError:  # the real-time ones between the first and the last have no name
        return f"signal {number}"


async def _started(end: socket.socket) -> Process:
    """A worker, which talks through this end of a pair. Not in our session: Ctrl-C is for us, and we tell it."""
    return await anyio.open_process(
        [sys.executable, "-m", "crawler", "worker", str(end.fileno())],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,  # a reader of ours learns that we have ended, whoever else is still there
        stderr=None,
        pass_fds=[end.fileno()],
        start_new_session=True,
    )


async def _ended(channel: Channel, process: Process, seconds: float) -> None:
    await channel.aclose()
    with anyio.move_on_after(seconds):
        await process.wait()
        return
    process.kill()
    await process.wait()
