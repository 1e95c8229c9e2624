"""N processes of this program on this machine, each with its own event loop and pool of connections."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
from anyio.abc import Process

from crawler.engines import Lost, child
from crawler.engines.channel import Channel, Gone
from crawler.errors import Fatal
from crawler.model import Chain
from crawler.shard import Report, Shard
from crawler.timeline import Spread

logger = logging.getLogger(__name__)

#: Seconds that a process may take to end once nothing is left for it to do.
FAREWELL = 2.0

#: Workers that a shard may lose in company. From then on it has one to itself: it may be what ends them, and its
#: neighbours would be given up with it. That costs as many rounds as there are such shards, so they are to be few: ten
#: workers killed for other reasons, with two at work, strike hardly one that often. And it is less than a shard may
#: lose in all: those that it is given up for, it has lost alone.
ALONE = 10

#: Seconds without a word of a worker, which has one twice a second, before it is held for hung. Longer than anything
#: keeps its event loop: a page, a row group, a machine that is out of memory and swaps.
SILENCE = 60


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
    """One process, and the shards that it has; `only` is the one that it is kept for, if there is one.

    `silent` are the seconds since its last word.
    """

    def __init__(self, name: str, process: Process, channel: Channel) -> None:
        self.name = f"{name} (process {process.pid})"
        self.process = process
        self.channel = channel
        self.handed: dict[int, _Handed] = {}
        self.only: int | None = None
        self.silent = 0

    async def listen(self, pulse: Callable[[str, Pulse | None], None]) -> None:
        """Take what it reports, until it is no more."""
        while True:
            try:
                message, file = await self.channel.receive()
            except Gone:
                return
            self.silent = 0
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

    async def dismiss(self) -> None:
        """Have no more to do with it, whether it can be killed or not."""
        child.kill(self.process)
        await self.channel.aclose()

    def abandon(self) -> None:
        for handed in self.handed.values():
            handed.ended.set()
        self.handed.clear()


class Processes:
    """See `Crew`. Each of `workers` gets `assignment` first, and has up to `each` shards at a time.

    A process that is killed is replaced, and its shards are `Lost`; one that has lost `ALONE` gets a process to itself.
    One that says nothing for `silence` seconds is killed. One that ends in any other way has a bug, or lacks what it
    needs: that is `Fatal` to whoever has a shard crawled, and standard error has its words. `pulse` is told how far
    each has come. At the end they have `farewell` seconds to end by themselves.
    """

    def __init__(
        self,
        assignment: object,
        *,
        workers: int,
        each: int,
        pulse: Callable[[str, Pulse | None], None],
        farewell: float = FAREWELL,
        silence: int = SILENCE,
    ) -> None:
        self.workers = workers
        self.at_once = workers * each
        self._each = each
        self._assignment = assignment
        self._pulse = pulse
        self._farewell = farewell
        self._silence = silence
        self._hired: list[_Worker] = []
        self._changed = anyio.Event()
        self._where: dict[int, tuple[_Worker, _Handed]] = {}
        self._losses = Counter[int]()
        self._failure: Fatal | None = None

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[Processes]:
        """Have the processes while the body runs. They end with it, or with this process, however that ends."""
        failure: Exception | None = None
        async with anyio.create_task_group() as group:
            for number in range(1, self.workers + 1):
                group.start_soon(self._at_work, str(number))
            group.start_soon(self._watch)
            try:
                yield self
            except Exception as error:  # noqa: BLE001  (raised again below, bare)
                failure = error
            group.cancel_scope.cancel()
        if failure:
            raise failure

    async def crawl(self, shard: Shard) -> Report:
        """See `Crew`. The shard goes to whoever has fewest."""
        while not (worker := self._free_for(shard.number)):
            await self._changed.wait()
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
            if not handed.ended.is_set():
                await worker.channel.send(Halt(shard.number))
            await handed.ended.wait()
            return self._reported(shard.number)
        except (Gone, Lost, Fatal):
            return None

    def _free_for(self, number: int) -> _Worker | None:
        """Who has room for this shard by now. Whoever is to be alone with it gets no other until it is."""
        if self._failure:
            raise self._failure
        fit = (worker for worker in self._hired if worker.only in (None, number))
        worker = min(fit, key=lambda worker: (worker.only is None, len(worker.handed)), default=None)
        if worker is None:
            return None
        room = self._each
        if self._losses[number] >= ALONE:
            worker.only, room = number, 1
        return worker if len(worker.handed) < room else None

    def _reported(self, number: int) -> Report:
        worker, handed = self._where.pop(number)
        worker.handed.pop(number, None)
        if worker.only == number:
            worker.only = None
        self._change()
        if handed.report is not None:
            del self._losses[number]
            return handed.report
        if self._failure:
            raise self._failure
        self._losses[number] += 1
        raise Lost(worker.name)

    def _change(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()

    async def _at_work(self, name: str) -> None:
        try:
            await self._employ(name)
        except Fatal as failure:
            # Not raised here: what the others have by now counts, and who waits for a shard can ask them for it.
            self._failure = self._failure or failure
            self._change()

    async def _employ(self, name: str) -> None:
        """Have one process at work, and another one once it was killed."""
        while True:
            worker = _Worker(name, *await child.start(name))
            try:
                await self._serve(worker)
            finally:
                with anyio.CancelScope(shield=True):
                    await worker.channel.aclose()
                    await child.end(worker.process, self._farewell)
                self._pulse(worker.name, None)
                worker.abandon()
            if (fate := child.killed_by(worker.process)) is None:
                code = worker.process.returncode
                raise Fatal("WorkerEnded", f"worker {worker.name} ended by itself, with exit code {code}")
            logger.warning("worker %s was killed by %s", worker.name, fate)

    async def _serve(self, worker: _Worker) -> None:
        self._hired.append(worker)
        self._change()
        try:
            await worker.channel.send(self._assignment)
            await worker.listen(self._pulse)
        except Gone:
            pass
        finally:
            self._hired.remove(worker)

    async def _watch(self) -> None:
        """Dismiss whoever is silent. Seconds of our own are counted: a machine that slept has passed none of them."""
        while True:
            await anyio.sleep(1)
            for worker in tuple(self._hired):
                worker.silent += 1
                if worker.silent > self._silence:
                    logger.warning("worker %s has said nothing for %d s", worker.name, self._silence)
                    await worker.dismiss()
