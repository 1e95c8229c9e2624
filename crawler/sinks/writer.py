"""One task that owns an output: bytes in from many tasks, blocking writes on a thread of its own."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import anyio
from anyio import to_thread
from anyio.streams.memory import MemoryObjectReceiveStream

#: Bytes gathered into one write. What waits while a write is under way goes with the next.
BATCH_BYTES = 1 << 20

Send = Callable[[bytes], Awaitable[None]]


@asynccontextmanager
async def writing(write: Callable[[bytes], None]) -> AsyncGenerator[Send]:
    """Give a `send(data)` whose bytes reach `write` in whole pieces, one call of it at a time, in order of arrival.

    Nothing is buffered between: `send` returns when the writer takes the piece. A write that blocks (a full pipe)
    holds the senders back, and never the event loop, so no request in flight times out because of it. Leaving the
    context writes what was sent, also when the body failed. An error of `write` cancels the body and leaves in an
    exception group; a write that never returns is abandoned when the context is cancelled.
    """
    send_end, receive_end = anyio.create_memory_object_stream[bytes](0)
    failure: Exception | None = None

    async def send(data: bytes) -> None:
        try:
            await send_end.send(data)
        except anyio.BrokenResourceError:
            # The writer has failed or was cancelled: its own error says why, and our cancellation is on its way. An
            # error of ours beside it would look like a bug.
            await anyio.sleep_forever()

    async with anyio.create_task_group() as group:
        group.start_soon(_drain, receive_end, write)
        async with send_end:
            try:
                yield send
            except Exception as error:  # noqa: BLE001  (raised again below: inside the group it would stop the writer)
                failure = error
    if failure:
        raise failure


async def _drain(receive_end: MemoryObjectReceiveStream[bytes], write: Callable[[bytes], None]) -> None:
    async with receive_end:
        async for first in receive_end:
            batch = [first]
            size = len(first)
            with suppress(anyio.WouldBlock, anyio.EndOfStream):
                while size < BATCH_BYTES:
                    batch.append(receive_end.receive_nowait())
                    size += len(batch[-1])
            await to_thread.run_sync(write, b"".join(batch), abandon_on_cancel=True)
