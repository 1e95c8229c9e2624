"""This process crawls everything, on one event loop, until it is done or told to stop."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager, contextmanager

import anyio
from anyio.abc import TaskStatus

from crawler.model import ItemT

#: Seconds after the first signal in which rows on their way and ledger lines may still be written; and how many of
#: them are left to the ledger, which has to tell what became of the rows.
GRACE, LAST_LINES = 4.0, 0.5


class Stop:
    """A stop asked for by SIGINT, SIGTERM, or SIGHUP: a terminal that goes away.

    The first signal cancels the work under `run` and leaves `GRACE` seconds to write what has been fetched; the second
    ends the process where it stands. `signal` is the first one, None while there was none; `cut_short` tells that
    the grace was not enough.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self.cut_short = False
        self._deadline = math.inf
        self._work: list[anyio.CancelScope] = []
        self._bounded: list[tuple[anyio.CancelScope, float]] = []

    @asynccontextmanager
    async def listening(self) -> AsyncGenerator[None]:
        """Heed signals while the body runs. What the body raises leaves as it is."""
        failure: Exception | None = None
        async with anyio.create_task_group() as group:
            # Not start_soon: a signal that comes before the receiver is there would end the process unasked.
            await group.start(self._listen)
            try:
                yield
            except Exception as error:  # noqa: BLE001  (raised again below, bare)
                failure = error
            group.cancel_scope.cancel()
        if failure:
            raise failure

    @contextmanager
    def within(self, at_least: float = 0.0, *, spare: float = 0.0) -> Generator[None]:
        """Cut the body short when `spare` seconds of the grace are left; not before it had `at_least` seconds."""
        deadline = max(self._deadline - spare, anyio.current_time() + at_least)
        with (
            anyio.CancelScope(deadline=deadline if self.signal else math.inf) as scope,
            _among(self._bounded, (scope, spare)),
        ):
            yield
        self.cut_short |= scope.cancelled_caught

    async def run(self, work: Callable[[], Awaitable[None]]) -> None:
        """Await the work, or cancel it at the first signal and return."""
        with anyio.CancelScope() as scope, _among(self._work, scope):
            if self.signal:
                scope.cancel(f"{self.signal.name} received")
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
                self._deadline = anyio.current_time() + GRACE
                for scope in self._work:
                    scope.cancel(f"{self.signal.name} received")
                for scope, spare in self._bounded:
                    scope.deadline = self._deadline - spare


@contextmanager
def _among(those: list[ItemT], one: ItemT) -> Generator[None]:
    those.append(one)
    try:
        yield
    finally:
        those.remove(one)
