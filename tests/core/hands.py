"""Workers that are no processes, and a crew of them."""

from __future__ import annotations

import math
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import cast

import anyio
import pytest
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint
from trio.testing import MockClock

from crawler.engines import Lost, child
from crawler.engines.channel import Channel, Gone
from crawler.engines.processes import Processes, Pulse
from crawler.errors import Fatal
from crawler.ledger import Totals
from crawler.model import Account, Chain
from crawler.shard import Report, Shard
from crawler.timeline import Spread


class Hand:
    """A worker that is no process: it keeps what it is given until the test says how that ends."""

    def __init__(self, pid: int, channel: Channel, at_work: TaskGroup) -> None:
        self.pid = pid
        self._at_work = at_work
        self.returncode: int | None = None
        self.has: list[int] = []
        self._channel = channel
        self._ended = anyio.Event()

    async def work(self) -> None:
        try:
            await self._channel.receive()
            while True:
                message, _ = await self._channel.receive()
                if isinstance(message, Shard):
                    self.has.append(message.number)
        except Gone:
            await self.end(0)

    async def send(self, message: object) -> None:
        await self._channel.send(message)

    async def talk(self) -> None:
        """Send a word twice a second, as a worker does."""
        with suppress(Gone):
            while True:
                await self.send(Pulse(Chain(), Spread()))
                await anyio.sleep(0.5)

    async def take_a_second_for_each(self) -> None:
        """Crawl all that it has at the same time."""
        seen = set[int]()
        while self.returncode is None:
            for number in seen & set(self.has):
                await self.report(number)
            seen = set(self.has)
            await anyio.sleep(1)

    async def report(self, number: int) -> None:
        self.has.remove(number)
        await self.send(Report(number, b"", b"", Totals()))

    def kill(self) -> None:
        self.returncode = -9
        self._at_work.start_soon(self._leave)

    async def end(self, code: int) -> None:
        if self.returncode is None:
            self.returncode = code
            await self._leave()

    async def _leave(self) -> None:
        await self._channel.aclose()
        self._ended.set()

    async def wait(self) -> int:
        await self._ended.wait()
        return cast("int", self.returncode)


class Office:
    """A crew of hands, and what came of the shards that it was asked for. Nobody comes in unless it is `opened`."""

    _at_work: TaskGroup
    _asked: TaskGroup

    def __init__(self, workers: int, each: int) -> None:
        self.crew = Processes("assignment", workers=workers, each=each, pulse=lambda *_: None)
        self.hands: list[Hand] = []
        self.opened = anyio.Event()
        self.opened.set()
        self.done: list[int] = []
        self.failed: list[Exception] = []

    async def _started(self, end: socket.socket) -> Hand:
        await self.opened.wait()
        hand = Hand(len(self.hands) + 1, await Channel.open(end.dup()), self._at_work)
        self.hands.append(hand)
        self._at_work.start_soon(hand.work)
        return hand

    async def crawl(self, number: int) -> None:
        """As a dispatch does: again where it was lost."""
        while True:
            try:
                await self.crew.crawl(Shard(number, (Account(f"{number:012}"),)))
            except Lost:
                continue
            except Fatal as failure:
                self.failed.append(failure)
                return
            self.done.append(number)
            return

    def ask(self, *numbers: int) -> None:
        for number in numbers:
            self._asked.start_soon(self.crawl, number)

    def has(self) -> list[list[int]]:
        """What each that is at work has."""
        return [hand.has for hand in self.hands if hand.returncode is None]

    def open(
        self, monkeypatch: pytest.MonkeyPatch, body: Callable[[], Awaitable[None]], clock: MockClock | None = None
    ) -> None:
        monkeypatch.setattr(child, "_started", self._started)

        async def main() -> None:
            with anyio.fail_after(math.inf if clock else 20):
                async with (
                    anyio.create_task_group() as self._at_work,
                    self.crew.running(),
                    anyio.create_task_group() as self._asked,
                ):
                    await self.until(lambda: len(self.hands) == self.crew.workers)
                    await body()
                    self._asked.cancel_scope.cancel()

        if clock:
            anyio.run(main, backend="trio", backend_options={"clock": clock})
        else:
            anyio.run(main)

    async def until(self, so: Callable[[], bool]) -> None:
        while not so():
            await checkpoint()
