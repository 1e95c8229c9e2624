"""Standard error that holds up nobody: whoever reads it may stop (Ctrl-S, a pager), and the crawl goes on.

A write to such a terminal blocks, and with it the event loop: requests in flight would time out for no fault of their
own. So a thread writes, and what it has no room for is dropped, and counted. Rejected: a terminal that does not block,
since that is a property of the terminal itself, which others hold too.
"""

from __future__ import annotations

import io
import os
import select
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import TextIO

import anyio

#: Bytes that wait for a reader; what comes then is dropped.
ROOM = 1 << 18

#: Seconds that what waits still has once the run has ended in a bug or by a signal.
LAST_WORDS = 1.0

_LOOK_EVERY = 0.02


class StandardError(io.TextIOBase):
    """A text stream whose `write` never waits. `behind` is the stream that it stands for; it needs a descriptor."""

    def __init__(self, behind: TextIO) -> None:
        self._behind = behind
        self._fd = behind.fileno()
        self._changed = threading.Condition()
        self._waiting: list[bytes] = []
        self._size = 0  # of what waits and what is being written
        self._dropped = 0
        self._gone = False
        # A daemon: a terminal that is stopped for ever shall not keep the process.
        threading.Thread(target=self._write_all, name="standard error", daemon=True).start()

    def fileno(self) -> int:
        """As text streams have it."""
        return self._fd

    def isatty(self) -> bool:
        """As text streams have it."""
        return self._behind.isatty()

    def write(self, text: str, /) -> int:
        """Leave the text to the thread, whole or, where too much waits already, not at all."""
        data = text.encode(self._behind.encoding, "backslashreplace")
        with self._changed:
            if self._size + len(data) > ROOM:
                self._dropped += 1
            elif not self._gone:
                self._waiting.append(data)
                self._size += len(data)
                self._changed.notify_all()
        return len(text)

    async def drain(self) -> None:
        """Wait until all has been written, for as long as that takes."""
        # Not a thread that waits, which would outlive a cancellation; and an event of the loop is not for threads.
        while self._size:  # noqa: ASYNC110  (see above)
            await anyio.sleep(_LOOK_EVERY)

    def last_words(self) -> None:
        """Wait for the same, but not long."""
        with self._changed:
            self._changed.wait_for(lambda: not self._size, LAST_WORDS)

    def _write_all(self) -> None:
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._waiting)
                    data, self._waiting = b"".join(self._waiting), []
                _write(self._fd, data)
                self._written(len(data))
        except OSError:  # nobody reads any more
            with self._changed:
                self._gone, self._size, self._waiting = True, 0, []
                self._changed.notify_all()

    def _written(self, size: int) -> None:
        with self._changed:
            self._size -= size
            if self._dropped and not self._size:
                told = f"({self._dropped:,} lines or frames were dropped here: nobody read standard error)\n".encode()
                self._dropped = 0
                self._waiting.append(told)
                self._size = len(told)
            self._changed.notify_all()


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:  # who shares it may have made it non-blocking for all who hold it
            poller = select.poll()
            poller.register(fd, select.POLLOUT)
            poller.poll()


@contextmanager
def unblocked() -> Generator[StandardError | None]:
    """Put a `StandardError` in the place of `sys.stderr` for the body; None where there is nothing to write to."""
    before = sys.stderr
    try:
        stream = StandardError(before)
    except (AttributeError, OSError):  # closed, or no file at all
        yield None
        return
    sys.stderr = stream
    try:
        yield stream
    finally:
        sys.stderr = before
        stream.last_words()
