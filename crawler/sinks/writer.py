"""One task that owns an output: bytes in from many tasks, blocking writes on a thread of its own."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio
from anyio import to_thread

#: Bytes gathered for one write. Who sends while there are as many waits until they are taken.
BATCH_BYTES = 1 << 20

#: Seconds that a batch which is not full waits for more: a thread for each small page costs more than the page.
LINGER = 0.02

Send = Callable[[bytes], Awaitable[None]]

#: Told how many bytes were written, of all that were sent.
Written = Callable[[int], Awaitable[None]]


@asynccontextmanager
async def writing(
    write: Callable[[bytes], None], *, linger: float = LINGER, written: Written | None = None
) -> AsyncGenerator[Send]:
    """Give a `send(data)` whose bytes reach `write` in whole pieces, one call of it at a time.

    `send` returns when the piece is among those gathered for the next write, and that is their order. They wait for
    more until there are `BATCH_BYTES`, `linger` seconds at most. A write that blocks (a full pipe) holds the senders
    back once a batch has gathered, and never the event loop, so no request in flight times out because of it. Leaving
    the context writes what was sent, also when the body failed. `written` is told after each write. An error of `write`
    cancels the body and leaves in an exception group; a write that never returns is abandoned when the context is
    cancelled.
    """
    writer = _Writer(write, linger, written)
    failure: Exception | None = None
    async with anyio.create_task_group() as group:
        group.start_soon(writer.run)
        try:
            yield writer.send
        except Exception as error:  # noqa: BLE001  (raised again below: inside the group it would stop the writer)
            failure = error
        writer.close()
    if failure:
        raise failure


class _Writer:
    """A batch that gathers while another is written: never more than two in memory, and a piece for each sender.

    Not a memory channel: a rendezvous for each page is two turns of the event loop, which here are one in many pages.
    """

    def __init__(self, write: Callable[[bytes], None], linger: float, written: Written | None) -> None:
        self._write = write
        self._linger = linger
        self._tell = written
        self._written = 0
        self._pieces: list[bytes] = []
        self._size = 0
        self._closed = False
        self._some = anyio.Event()  # something has been gathered, or nothing more will be
        self._full = anyio.Event()  # and it shall wait no longer
        self._taken = anyio.Event()

    async def send(self, data: bytes) -> None:
        while self._size >= BATCH_BYTES:
            await self._taken.wait()
        self._pieces.append(data)
        self._size += len(data)
        self._some.set()
        if self._size >= BATCH_BYTES:
            self._full.set()

    def close(self) -> None:
        self._closed = True
        self._some.set()
        self._full.set()

    async def run(self) -> None:
        while True:
            await self._some.wait()
            with anyio.move_on_after(self._linger):
                await self._full.wait()
            if not self._pieces:
                return
            size = self._size  # and no name for the batch: it would outlive its write
            await to_thread.run_sync(self._write, self._take(), abandon_on_cancel=True)
            self._written += size
            if self._tell:
                await self._tell(self._written)

    def _take(self) -> bytes:
        batch = b"".join(self._pieces)
        self._pieces, self._size = [], 0
        self._taken.set()
        self._taken = anyio.Event()
        if not self._closed:
            self._some, self._full = anyio.Event(), anyio.Event()
        return batch
