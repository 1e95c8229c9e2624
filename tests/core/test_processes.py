"""The processes of `--workers`: who gets which shard, and how one that ends is told of."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import cast

import anyio
import pytest
from anyio.abc import Process, TaskGroup
from anyio.lowlevel import checkpoint

from crawler.engines import Lost, processes
from crawler.engines.channel import Channel, Gone
from crawler.engines.processes import ALONE, Processes
from crawler.errors import Fatal
from crawler.ledger import Totals
from crawler.model import Account
from crawler.shard import Report, Shard


@pytest.mark.parametrize(("number", "name"), [(9, "SIGKILL"), (40, "signal 40")])
def test_a_worker_killed_by_whatever_signal_is_replaced(
    number: int, name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Most real-time signals have no name in `signal.Signals`: the crawl ended with a traceback of a ValueError."""

    async def main() -> None:
        replaced = anyio.Event()
        commands = iter([["sh", "-c", f"kill -{number} $$"], ["cat"]])

        async def started(end: socket.socket) -> Process:
            command = next(commands)
            if command == ["cat"]:
                replaced.set()
            return await anyio.open_process(command, stdin=end, stdout=subprocess.DEVNULL)

        monkeypatch.setattr(processes, "_started", started)
        crew = Processes("assignment", workers=1, each=1, pulse=lambda *_: None)
        with anyio.fail_after(20):
            async with crew.running():
                await replaced.wait()

    anyio.run(main)
    assert [record.getMessage().partition(" was ")[2] for record in caplog.records] == [f"killed by {name}"]


def test_a_worker_is_this_program_whatever_lies_in_the_current_folder(tmp_path: Path) -> None:
    """`python -m crawler` there would run what is called so, with the keys of the run."""
    (tmp_path / "crawler").mkdir()
    for name in ("__init__", "__main__"):
        (tmp_path / "crawler" / f"{name}.py").write_text("raise SystemExit('planted')")
    reader, writer = os.pipe()
    try:
        said = subprocess.run(
            processes._command(reader), cwd=tmp_path, pass_fds=[reader], capture_output=True, text=True, check=False
        )
    finally:
        os.close(reader)
        os.close(writer)
    assert "crawler worker is what --workers starts" in said.stderr


class Hand:
    """A worker that is no process: it keeps what it is given until the test says how that ends."""

    def __init__(self, pid: int, channel: Channel) -> None:
        self.pid = pid
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

    async def report(self, number: int) -> None:
        self.has.remove(number)
        await self.send(Report(number, b"", b"", Totals()))

    async def end(self, code: int) -> None:
        if self.returncode is None:
            self.returncode = code
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
        hand = Hand(len(self.hands) + 1, await Channel.open(end.dup()))
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

    def open(self, monkeypatch: pytest.MonkeyPatch, body: Callable[[], Awaitable[None]]) -> None:
        monkeypatch.setattr(processes, "_started", self._started)

        async def main() -> None:
            with anyio.fail_after(20):
                async with (
                    anyio.create_task_group() as self._at_work,
                    self.crew.running(),
                    anyio.create_task_group() as self._asked,
                ):
                    await self.until(lambda: len(self.hands) == self.crew.workers)
                    await body()
                    self._asked.cancel_scope.cancel()

        anyio.run(main)

    async def until(self, so: Callable[[], bool]) -> None:
        while not so():
            await checkpoint()


def test_what_a_killed_worker_had_waits_for_whoever_has_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it went to the survivor, and the one in its place had nothing to do."""
    office = Office(workers=2, each=2)

    async def body() -> None:
        office.ask(1, 2, 3, 4)
        await office.until(lambda: sum(map(len, office.has())) == 4)
        assert sorted(map(len, office.has())) == [2, 2]
        office.opened = anyio.Event()
        lost, kept = list(office.hands[0].has), list(office.hands[1].has)
        await office.hands[0].end(-9)
        await anyio.wait_all_tasks_blocked()
        assert office.has() == [kept]
        office.opened.set()
        await office.until(lambda: len(office.has()) == 2 and len(office.has()[1]) == 2)
        assert [sorted(has) for has in office.has()] == [sorted(kept), sorted(lost)]

    office.open(monkeypatch, body)


def test_a_shard_that_ends_its_workers_takes_no_others_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has one to itself, as those have that were lost with it, and the rest goes to the others meanwhile."""
    office = Office(workers=2, each=3)
    alone: list[int] = []

    async def body() -> None:
        office.ask(*range(1, 13))
        killed = 0
        while len(office.done) < 11:
            await anyio.wait_all_tasks_blocked()
            for hand in [hand for hand in office.hands if hand.returncode is None]:
                if 1 in hand.has:
                    killed += 1
                    if killed > ALONE:
                        assert hand.has == [1]
                        alone.append(1)
                    await hand.end(-9)
                elif hand.has:
                    await hand.report(hand.has[0])
        assert 1 not in office.done

    office.open(monkeypatch, body)
    assert alone


def test_a_failure_that_no_shard_survives_is_told_to_all_and_leaves_what_others_have(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    office = Office(workers=2, each=1)

    async def body() -> None:
        office.ask(1, 2, 3)
        await office.until(lambda: sum(map(len, office.has())) == 2)
        failing, other = office.hands
        (number,) = other.has
        await failing.send(Fatal("ClockWrong", "by a day"))
        await office.until(lambda: len(office.failed) == 2)
        assert {str(failure) for failure in office.failed} == {"ClockWrong: by a day"}
        await other.report(number)
        await office.until(lambda: bool(office.done))
        assert office.done == [number]

    office.open(monkeypatch, body)


def test_a_worker_that_ends_by_itself_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    office = Office(workers=1, each=1)

    async def body() -> None:
        office.ask(1)
        await office.until(lambda: office.has() == [[1]])
        await office.hands[0].end(2)
        await office.until(lambda: bool(office.failed))
        assert str(office.failed[0]) == "WorkerEnded: worker 1 (process 1) ended by itself, with exit code 2"

    office.open(monkeypatch, body)
