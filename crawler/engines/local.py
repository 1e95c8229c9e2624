"""This process crawls everything, on one event loop, until it is done or told to stop."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio
from anyio.abc import TaskStatus

#: Seconds after the first signal in which rows on their way and ledger lines may still be written.
GRACE = 4.0


class Stop:
    """A stop asked for by SIGINT, SIGTERM, or SIGHUP: a terminal that goes away.

    The first signal cancels the work under `run` and leaves `GRACE` seconds to write what has been fetched; the second
    ends the process where it stands. `signal` is the first one, None while there was none; `cut_short` tells that
    the grace was not enough.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self.cut_short = False
        self._work = anyio.CancelScope()
        self._all = anyio.CancelScope()

    def seconds_left(self) -> float:
        """Of the grace; infinite while there was no signal."""
        return max(0.0, self._all.deadline - anyio.current_time())

    @asynccontextmanager
    async def listening(self) -> AsyncGenerator[None]:
        """Heed signals while the body runs."""
        with self._all:
            async with anyio.create_task_group() as group:
                # Not start_soon: a signal that comes before the receiver is there would end the process unasked.
                await group.start(self._listen)
                yield
                group.cancel_scope.cancel()
        self.cut_short = self._all.cancelled_caught

    async def run(self, work: Callable[[], Awaitable[None]]) -> None:
        """Await the work, or cancel it at the first signal and return."""
        with self._work:
            await work()

    async def _listen(self, *, task_status: TaskStatus[None]) -> None:
        heeded = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as it is under nohup, whose point that is
            heeded.append(signal.SIGHUP)
        with anyio.open_signal_receiver(*heeded) as signals:
            task_status.started()
            async for number in signals:
                if self.signal is not None:
                    if number == signal.SIGHUP:  # the kernel sends one, and the shell another: nobody is impatient
                        continue
                    os._exit(128 + number)
                self.signal = signal.Signals(number)
                self._work.cancel(f"{self.signal.name} received")
                self._all.deadline = anyio.current_time() + GRACE
