"""What is held in memory and what is laid aside: no page is lost, none is there twice, and the bound holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from random import Random
from typing import IO

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawler.errors import Fatal
from crawler.model import Image
from crawler.sinks.encoding import Origin, PartWriter
from crawler.sinks.memory import Memory
from crawler.sinks.spool import Spool

_ORIGIN = Origin(None, "1" * 12, "east", "one", datetime(2026, 1, 31, tzinfo=UTC))


class Plain:
    """Chunks of one line, of a byte each in memory."""

    suffix = ".txt"
    ratio = 1.0

    def encode(self, origin: Origin, images: Sequence[Image]) -> str:  # noqa: ARG002  (its protocol's)
        return ",".join(str(image["imageDigest"]) for image in images)

    def size(self, chunk: str) -> int:
        return len(chunk)

    def spill(self, chunks: Sequence[str], file: IO[bytes]) -> None:
        file.writelines(f"{chunk}\n".encode() for chunk in chunks)

    def spilled(self, file: IO[bytes]) -> Iterator[str]:
        return (line.decode().rstrip("\n") for line in file)

    def writer(self, file: IO[bytes]) -> PartWriter[str]:
        raise AssertionError(file)

    def merge(self, parts: object, file: IO[bytes]) -> None:
        raise AssertionError(parts, file)


def page(name: str) -> Sequence[Image]:
    return [{"imageDigest": name, "imageTag": None}]


_made: list[Spool[str]] = []


@pytest.fixture(autouse=True)
def close_all() -> Iterator[None]:
    yield
    for spool in _made:
        spool.close()
    _made.clear()


def opened(memory: Memory) -> Spool[str]:
    spool = Spool(Plain(), _ORIGIN)
    memory.open(spool)
    _made.append(spool)
    return spool


def test_the_largest_are_laid_aside_together_until_half_is_free() -> None:
    async def main() -> None:
        memory = Memory(listing=10, waiting=100)
        small, large, last = opened(memory), opened(memory), opened(memory)
        await memory.add(small, page("a"))
        await memory.add(large, page("123456"))
        await memory.add(last, page("bcde"))
        assert [spool.in_memory for spool in (small, large, last)] == [1, 0, 4]
        assert list(large) == ["123456"]

    anyio.run(main)


def test_what_is_queued_while_a_thread_writes_is_counted() -> None:
    """`self.sum -= await …` takes the sum of before: the bound would soon be none."""

    async def main() -> None:
        memory = Memory(listing=100, waiting=10)
        first, second = opened(memory), opened(memory)
        await memory.add(first, page("12345678"))
        await memory.add(second, page("1234567890a"))
        memory.queue(first)

        def write() -> int:
            anyio.from_thread.run_sync(memory.queue, second)
            return first.in_memory

        await memory.write(write)
        with anyio.move_on_after(0.05) as waited:
            await memory.room()
        assert waited.cancelled_caught
        await memory.write(lambda: second.in_memory)
        await memory.room()

    anyio.run(main)


def test_whoever_is_cancelled_has_laid_aside_the_pages_of_others_all_the_same() -> None:
    async def main() -> None:
        memory = Memory(listing=3, waiting=100)
        mine, other = opened(memory), opened(memory)
        await memory.add(other, page("12"))
        with anyio.CancelScope() as scope:
            scope.cancel()
            await memory.add(mine, page("34"))
        memory.drop(mine)
        memory.queue(other)
        assert list(other) == ["12"]

    anyio.run(main)


def test_a_repository_that_fails_while_a_thread_is_at_its_file_ends_nothing() -> None:
    async def main() -> None:
        memory = Memory(listing=3, waiting=100)

        class Slow(Plain):
            def spill(self, chunks: Sequence[str], file: IO[bytes]) -> None:
                anyio.from_thread.run_sync(memory.drop, failed)
                super().spill(chunks, file)
                left.append(file)

        left: list[IO[bytes]] = []
        failed = Spool(Slow(), _ORIGIN)
        memory.open(failed)
        await memory.add(failed, page("1234"))
        assert [file.closed for file in left] == [True]

    anyio.run(main)


def test_rows_that_a_full_disk_took_are_told_by_whoever_would_write_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """The repository of another, listed to its end meanwhile: it must not be committed with a part of its rows."""
    monkeypatch.setattr("crawler.sinks.spool.local_file", partial(Path("/dev/full").open, "wb"))

    async def main() -> None:
        memory = Memory(listing=3, waiting=100)
        mine, other = opened(memory), opened(memory)
        await memory.add(other, page("12"))
        with pytest.raises(Fatal, match="No space left"):
            await memory.add(mine, page("34"))
        memory.queue(other)
        with pytest.raises(Fatal, match="No space left"):
            list(other)

    anyio.run(main)


class Story:
    """Repositories that are listed at once, some cancelled, some failed; a writer takes those that are whole."""

    def __init__(self, seed: int, listing: int) -> None:
        self.random = Random(seed)  # noqa: S311  (a seed replays it)
        self.memory = Memory(listing=listing, waiting=5)
        self.whole: dict[int, Spool[str]] = {}
        self.sent: dict[int, list[str]] = {}
        self.written: dict[int, list[str]] = {}

    async def run(self, repositories: int) -> None:
        async with anyio.create_task_group() as writer:
            writer.start_soon(self.write)
            async with anyio.create_task_group() as group:
                for number in range(repositories):
                    group.start_soon(self.list_repository, number)
            writer.cancel_scope.cancel()
        await self.memory.write(self.take)

    async def list_repository(self, number: int) -> None:
        sent = list[str]()
        spool = opened(self.memory)
        cancelled_after = self.random.choice([float("inf"), 0.0, 0.0005, 0.002])
        with anyio.move_on_after(cancelled_after):
            for count in range(self.random.randrange(6)):
                await self.memory.room()
                sent.append(f"{number}.{count}")
                await self.memory.add(spool, page(sent[-1]))
                await anyio.lowlevel.checkpoint()
            if self.random.random() < 0.8:
                self.memory.queue(spool)
                self.whole[number], self.sent[number] = spool, sent
                return
        self.memory.drop(spool)

    async def write(self) -> None:
        while True:
            await self.memory.write(self.take)
            await anyio.lowlevel.checkpoint()

    def take(self) -> int:
        freed = 0
        for number in list(self.whole):
            spool = self.whole.pop(number)
            freed += spool.in_memory
            self.written[number] = list(spool)
            spool.close()
        return freed


@given(seed=st.integers(0, 1 << 32), repositories=st.integers(1, 6), listing=st.integers(0, 12))
def test_every_page_of_those_listed_whole_comes_once_and_in_order(seed: int, repositories: int, listing: int) -> None:
    async def main() -> None:
        story = Story(seed, listing)
        await story.run(repositories)
        assert story.written == story.sent
        await story.memory.room()  # all that was counted in was counted out

    anyio.run(main)
