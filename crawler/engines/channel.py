"""Whole objects, and open files, between two processes of this program.

A pickle each, behind its length: both ends are this program, at the same version, and nobody else has the socket. It
is what `multiprocessing` does; that has no asynchronous end.
"""

from __future__ import annotations

import os
import pickle
import socket
import struct
from typing import IO, Any, cast

import anyio
from anyio.abc import UNIXSocketStream

_HEAD = struct.Struct("!Q?")  # bytes that follow, and whether an open file comes after them

#: Bytes asked for at a time: room is made for all of them.
_PIECE = 1 << 18

#: Seconds that a message on its way still has once who sends it is cancelled: less than a shard has that is stopped.
PATIENCE = 2.0


class Gone(Exception):
    """There is nobody at the other end any more."""


class Channel:
    """One end of a pair of sockets. `open` makes it."""

    def __init__(self, stream: UNIXSocketStream) -> None:
        self._stream = stream
        self._sending = anyio.Lock()
        self._failure: Exception | None = None

    @classmethod
    async def open(cls, end: socket.socket | int) -> Channel:
        """Over this end of a pair, which is the channel's from now on."""
        return cls(await UNIXSocketStream.from_socket(end))

    async def send(self, message: object, file: IO[bytes] | None = None) -> None:
        """Send an object, and with it a file, whose copy here may be closed then. Raises `Gone`.

        Where it is cancelled before its turn, nothing was sent. Later it has `PATIENCE` seconds to send the rest; if
        nobody reads that, the channel is closed: half a message would be the end of all that follow.
        """
        data = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
        async with self._sending:
            scope, ended = anyio.CancelScope(shield=True), anyio.Event()
            # A task of its own: within a shield nobody learns of a cancellation, and without one what was sent is lost.
            async with anyio.create_task_group() as group:
                group.start_soon(self._write, _HEAD.pack(len(data), file is not None) + data, file, scope, ended)
                try:
                    await ended.wait()
                except BaseException:
                    scope.deadline = anyio.current_time() + PATIENCE
                    raise
            if self._failure:
                raise Gone from self._failure

    async def _write(self, data: bytes, file: IO[bytes] | None, scope: anyio.CancelScope, ended: anyio.Event) -> None:
        try:
            with scope:
                await self._stream.send(data)
                if file is not None:
                    await self._stream.send_fds(b"\0", [file.fileno()])
        except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError) as error:
            self._failure = error
        if scope.cancelled_caught:
            with anyio.CancelScope(shield=True):
                await self.aclose()
        ended.set()

    async def receive(self) -> tuple[Any, IO[bytes] | None]:
        """The next object, and the file that came with it. Raises `Gone`, also for half a message."""
        try:
            size, has_file = cast("tuple[int, bool]", _HEAD.unpack(await self._exactly(_HEAD.size)))
            data = await self._exactly(size)
            file = await self._file() if has_file else None
        except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError, OSError) as error:
            raise Gone from error
        return pickle.loads(data), file  # noqa: S301  (see the module)  # nosec B301

    async def _exactly(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            data += await self._stream.receive(min(size - len(data), _PIECE))
        return bytes(data)

    async def _file(self) -> IO[bytes]:
        _, descriptors = await self._stream.receive_fds(1, 1)
        if not descriptors:
            raise anyio.EndOfStream
        return os.fdopen(descriptors[0], "rb")

    async def aclose(self) -> None:
        """Close this end; whoever is at the other learns of it."""
        await self._stream.aclose()
