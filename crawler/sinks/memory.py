"""What the sinks of one process hold of repositories that are in no part yet: bounded, the rest in local files."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVarTuple

import anyio
from anyio import to_thread

from crawler.sinks.spool import Spool

Arguments = TypeVarTuple("Arguments")


class Memory:
    """At most `listing` bytes of repositories that are being listed, and about `waiting` of those that wait for a part.

    When it is full, the largest spools go to their files together, until half of it is free: a thread for each page
    took longer than the page. One thread at a time has to do with spools; sums are the event loop's alone.
    """

    def __init__(self, listing: int = 32 << 20, waiting: int = 12 << 20) -> None:
        self._listing = listing
        self._waiting = waiting
        self._listed = self._queued = 0
        self._spools: dict[Spool[Any], None] = {}
        self._spilling: Sequence[Spool[Any]] = ()
        self._dropped: list[Spool[Any]] = []
        self._disk = anyio.Lock(fast_acquire=True)
        self._taken = anyio.Event()

    def open(self, spool: Spool[Any]) -> None:
        """Count the chunks of a spool from now on: all go through `add`."""
        self._spools[spool] = None

    async def add(self, spool: Spool[Any], images: Sequence[Any]) -> None:
        """Keep a page, and wait until that leaves room. Raises `Fatal` when the local disk fails."""
        self._listed += spool.add(images)
        if self._listed > self._listing:
            async with self._disk:
                if self._listed > self._listing:  # another has made room meanwhile
                    await self._spill()

    async def room(self) -> None:
        """Wait while more is queued than should be in memory."""
        while self._queued > self._waiting:
            await self._taken.wait()

    def queue(self, spool: Spool[Any]) -> None:
        """Count a spool among those that wait: it gets no more."""
        self._leave(spool)
        self._queued += spool.in_memory

    def drop(self, spool: Spool[Any]) -> None:
        """Forget the rows of a spool."""
        self._leave(spool)
        if spool in self._spilling:
            self._dropped.append(spool)  # a thread is at its file
        else:
            spool.close()

    async def write(self, work: Callable[[*Arguments], int], *arguments: *Arguments) -> None:
        """Do work on a thread that takes rows from spools which wait, and returns the bytes of memory that it frees."""
        async with self._disk:
            freed = await to_thread.run_sync(work, *arguments)
        self._queued -= freed  # not in one line: that takes the sum of before the thread, and more was queued meanwhile
        self._taken.set()
        self._taken = anyio.Event()

    @asynccontextmanager
    async def emptying(self, spool: Spool[Any]) -> AsyncGenerator[None]:
        """Let the body take all out of a spool that is still being listed."""
        async with self._disk:
            before = spool.in_memory
            try:
                yield
            finally:
                self._listed -= before - spool.in_memory

    def _leave(self, spool: Spool[Any]) -> None:
        del self._spools[spool]
        self._listed -= spool.in_memory

    async def _spill(self) -> None:
        chosen: list[tuple[Spool[Any], Sequence[Any]]] = []
        size = 0
        for spool in sorted(self._spools, key=lambda spool: spool.in_memory, reverse=True):
            size += spool.in_memory
            chosen.append((spool, spool.lay_aside()))
            if self._listed - size <= self._listing // 2:
                break
        self._spilling = [spool for spool, _ in chosen]
        try:
            # Whoever is cancelled here has the pages of others.
            with anyio.CancelScope(shield=True):
                await to_thread.run_sync(_spill, chosen)
        finally:
            self._listed -= size
            self._spilling = ()
            for spool in self._dropped:
                spool.close()
            self._dropped = []


def _spill(chosen: Sequence[tuple[Spool[Any], Sequence[Any]]]) -> None:
    try:
        for spool, chunks in chosen:
            spool.spill(chunks)
    except Exception as failure:
        # Of some, chunks are nowhere now, and their repositories may have been listed to the end meanwhile.
        for spool, _ in chosen:
            spool.failure = failure
        raise
