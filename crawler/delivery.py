"""Repositories whose rows are on their way: none counts as listed before its rows are with the operating system."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import anyio

from crawler.ledger import NOT_WRITTEN, Ledger, Running
from crawler.model import Outcome, Result
from crawler.sinks.writer import Send, writing


def unwritten(result: Result) -> Result:
    """How a unit ended whose rows, if it has any, did not reach the output."""
    if result.unit.repository is None or result.outcome is not Outcome.OK:
        return result
    message = "listed to the end, and the output did not take all of its rows"
    return replace(result, outcome=Outcome.FAILED, code=NOT_WRITTEN, message=message)


class Delivery:
    """Holds back from `ledger` what was listed to the end, each until all bytes sent up to then were written.

    What waits is bounded by the bytes that the writer gathers, each repository having some of them; and the ledger has
    it among `running`, so that no request is uncounted meanwhile.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._sent = 0
        self._waiting = deque[tuple[int, Result]]()

    @asynccontextmanager
    async def writing(self, write: Callable[[bytes], None]) -> AsyncGenerator[Send]:
        """See `sinks.writer.writing`. In the end, however it comes, what was not written is told as such."""
        self._ledger.keeps = self._keeps
        try:
            async with writing(write, written=self._written) as send:

                async def counted(data: bytes) -> None:
                    await send(data)
                    self._sent += len(data)

                yield counted
        finally:
            self._ledger.keeps = None
            await self._enter([unwritten(result) for _, result in self._waiting])

    def _keeps(self, result: Result) -> bool:
        if result.unit.repository is None or result.outcome is not Outcome.OK:
            return False
        self._waiting.append((self._sent, result))
        self._ledger.running[id(result.chain)] = Running(result.unit, result.chain, anyio.current_time())
        return True

    async def _written(self, size: int) -> None:
        ready: list[Result] = []
        while self._waiting and self._waiting[0][0] <= size:
            ready.append(self._waiting.popleft()[1])
        await self._enter(ready)

    async def _enter(self, results: list[Result]) -> None:
        for result in results:
            del self._ledger.running[id(result.chain)]
        await self._ledger.enter(results)
