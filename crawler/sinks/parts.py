"""Rows into parts that hold whole repositories only, each of a size that readers like, in memory that is bounded.

The rows of a repository gather apart (`memory`) until it has been listed to the end. Then they join the part that is
being written. A part ends when it is full; or earlier, when it holds the work of a hundredth of the run so far: that is
what a crash may cost. A repository that makes parts by itself gets its own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

import anyio
from anyio import to_thread

from crawler.model import Account, Image, Outcome, Result, Target
from crawler.sinks.encoding import Encoding, Origin
from crawler.sinks.memory import Memory
from crawler.sinks.spool import PartFile, Spool

#: Seconds in which what is whole gathers: a thread for each small repository costs more than the repository.
_LINGER = 0.02

ChunkT = TypeVar("ChunkT")


@dataclass(frozen=True, slots=True)
class Part:
    """A file of the run, relative to the store."""

    path: str
    rows: int
    bytes: int
    sha256: str


class Journal(Protocol):
    """Where parts go, and what an earlier attempt left."""

    def holds(self, target: Target, repository: str | None) -> bool:
        """Tell whether a committed part has this repository, or this target (None) with all of its repositories.

        As the target's account lists it: another that reads the same registry has filters and rights of its own.
        """
        ...

    async def upload(self, file: PartFile) -> Part:
        """Store a part under a name of its own. No reader knows of it yet."""
        ...

    async def commit(self, parts: Sequence[Part], results: Sequence[Result]) -> None:
        """Record that these parts hold these units whole. Called in order, and never two at a time."""
        ...


@dataclass(frozen=True, slots=True)
class Sizes:
    """Bytes of a part, and the pace of checkpoints.

    A part also ends with `part_units` units; and when its first is older than `share` of the run, or `seconds`, unless
    the one before it is still being committed: a store that is slow gets larger parts, and holds nobody up.
    """

    part: int = 64 << 20
    part_units: int = 50_000
    share: float = 0.01
    seconds: float = 0.25


@dataclass(slots=True)
class _Whole(Generic[ChunkT]):
    """A unit that has ended well, on its way into a part; a target has no spool."""

    result: Result
    spool: Spool[ChunkT] | None = None
    own: Sequence[Part] = ()


@dataclass(slots=True)
class _Batch:
    """The part being written, and what it will have made whole. `own` are parts of single repositories among them."""

    file: PartFile
    since: float
    own: list[Part] = field(default_factory=list[Part])
    results: list[Result] = field(default_factory=list[Result])


class PartSink(Generic[ChunkT]):
    """See `Sink`. Use under `running()`, which writes and commits what is whole before it ends.

    Several of one process may share their `memory`.
    """

    def __init__(
        self, encoding: Encoding[ChunkT], journal: Journal, sizes: Sizes | None = None, memory: Memory | None = None
    ) -> None:
        self.encoding = encoding
        self.sizes = sizes or Sizes()
        self.memory = memory or Memory()
        self._journal = journal
        self._waiting: deque[_Whole[ChunkT]] = deque()
        # By account as well: each may be denied what the other reads, and has filters of its own.
        self._broken: set[tuple[Account | None, str | None, str | None]] = set()
        self._some = anyio.Event()
        self._closed = False
        self._started = 0.0
        self._own = anyio.Semaphore(1)
        self._batch: _Batch | None = None
        self._committing = False

    def holds(self, target: Target, repository: str | None = None) -> bool:
        """See `Sink`."""
        return self._journal.holds(target, repository)

    def repository(self, target: Target, name: str) -> PartRows[ChunkT]:
        """See `Sink`."""
        origin = Origin(target.account.name or None, target.registry_id, target.region, name, datetime.now(UTC))
        return PartRows(self, target, origin)

    def target_ended(self, result: Result) -> None:
        """See `Sink`. A target is whole when all of its repositories are.

        One whose region is not enabled is not: it costs a request to ask again, and somebody may have enabled it.
        """
        place = (result.unit.account, result.unit.registry_id, result.unit.region)
        whole = place not in self._broken and result.outcome in (Outcome.OK, Outcome.EMPTY)
        self._broken.discard(place)
        if whole:
            self.take(_Whole(result))

    def abandon(self, target: Target) -> None:
        """Note that one of its repositories was not listed to the end."""
        self._broken.add((target.account, target.registry_id, target.region))

    def take(self, whole: _Whole[ChunkT]) -> None:
        """Queue what is whole. Never waits; `Memory.room` is where its sender will."""
        if whole.spool:
            self.memory.queue(whole.spool)
        self._waiting.append(whole)
        self._some.set()

    async def own_part(self, spool: Spool[ChunkT], origin: Origin) -> Part:
        """Write all that a spool holds as a part, and leave it empty. One at a time, for the sake of memory."""
        async with self._own:
            with PartFile(self.encoding.suffix) as file:
                async with self.memory.emptying(spool):
                    await to_thread.run_sync(self._write_own, file, spool, origin)
                return await self._journal.upload(file)

    def _write_own(self, file: PartFile, spool: Spool[ChunkT], origin: Origin) -> None:
        file.open(self.encoding)
        file.append(origin, spool)
        spool.clear()
        file.finish()

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Write what is taken while the body runs. What is whole is committed, also when the body failed."""
        self._started = anyio.current_time()
        failure: Exception | None = None
        with closing(self):
            async with anyio.create_task_group() as group:
                send, receive = anyio.create_memory_object_stream[_Batch](0)
                group.start_soon(self._write, send)
                group.start_soon(self._commit, receive)
                try:
                    yield
                except Exception as error:  # noqa: BLE001  (raised again below: inside the group it would stop the writer)
                    failure = error
                self._closed = True
                self._some.set()
        if failure:
            raise failure

    def close(self) -> None:
        """Remove the local files of what a cancellation left unwritten."""
        for whole in self._waiting:
            if whole.spool:
                whole.spool.close()
        if self._batch:
            self._batch.file.close()

    async def _write(self, batches: Any) -> None:  # noqa: ANN401  (anyio's send streams are generic at run time only)
        async with batches:
            while True:
                with anyio.move_on_after(self._until_due()):
                    await self._some.wait()
                if self._waiting:
                    if not self._closed:
                        await anyio.sleep(_LINGER)
                    await self._append_waiting()
                if self._batch and (self._due() or (self._closed and not self._waiting)):
                    batch, self._batch = self._batch, None
                    await to_thread.run_sync(batch.file.finish)
                    try:
                        await batches.send(batch)
                    except anyio.BrokenResourceError:  # `_commit` has failed, and its error is the one to leave
                        batch.file.close()
                        return
                if not self._waiting:
                    if self._closed:
                        return
                    self._some = anyio.Event()

    async def _append_waiting(self) -> None:
        if self._batch is None:
            self._batch = _Batch(PartFile(self.encoding.suffix), anyio.current_time())
        await self.memory.write(self._append, self._batch)

    def _append(self, batch: _Batch) -> int:
        """Write what waits into the part, until it is full; return the bytes of memory that this has freed.

        On a thread; what comes meanwhile comes at the other end.
        """
        freed = 0
        for _ in range(len(self._waiting)):
            whole = self._waiting.popleft()
            batch.results.append(whole.result)
            batch.own.extend(whole.own)
            if spool := whole.spool:
                freed += spool.in_memory
                if spool.rows:
                    batch.file.open(self.encoding)
                    batch.file.append(spool.origin, spool)
                spool.close()
            if self._full(batch):
                break
        return freed

    def _full(self, batch: _Batch) -> bool:
        return batch.file.size >= self.sizes.part or len(batch.results) >= self.sizes.part_units

    def _until_due(self) -> float:
        if self._batch is None or self._committing:
            return float("inf")
        now = anyio.current_time()
        patience = max(self.sizes.seconds, self.sizes.share * (now - self._started))
        return max(0.0, self._batch.since + patience - now)

    def _due(self) -> bool:
        return self._batch is not None and (self._full(self._batch) or self._until_due() == 0.0)

    async def _commit(self, batches: Any) -> None:  # noqa: ANN401  (see _write)
        async with batches:
            async for batch in batches:
                self._committing = True
                with batch.file as file:
                    parts = [*batch.own, *([await self._journal.upload(file)] if file.rows else [])]
                    await self._journal.commit(parts, batch.results)
                self._committing = False
                self._some.set()


class PartRows(Generic[ChunkT]):
    """See `Rows`."""

    __slots__ = ("_origin", "_own", "_sink", "_spool", "_target")

    def __init__(self, sink: PartSink[ChunkT], target: Target, origin: Origin) -> None:
        self._sink = sink
        self._target = target
        self._origin = origin
        self._spool: Spool[ChunkT] | None = Spool(sink.encoding, origin)
        self._own: list[Part] = []
        sink.memory.open(self._spool)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Drop the rows, unless they were committed."""
        if self._spool is not None:
            self._sink.memory.drop(self._spool)
            self._sink.abandon(self._target)

    async def send(self, images: Sequence[Image]) -> None:
        """See `Rows`."""
        sink, spool = self._sink, self._spool
        await sink.memory.room()
        if not images or spool is None:
            return
        await sink.memory.add(spool, images)
        if spool.bytes > sink.sizes.part * sink.encoding.ratio:
            self._own.append(await sink.own_part(spool, self._origin))

    def commit(self, result: Result) -> None:
        """See `Rows`."""
        spool, self._spool = self._spool, None
        self._sink.take(_Whole(result, spool, self._own))
