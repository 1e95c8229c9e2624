"""The task that owns an output: whole pieces in order, a loop that never blocks, and no end that hides an error."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import suppress
from math import inf

import anyio
import pytest
from anyio.lowlevel import checkpoint
from trio.testing import MockClock

from crawler.crawl import Crawl, Limits
from crawler.errors import Fatal
from crawler.ledger import Ledger
from crawler.model import Account, Target
from crawler.sinks.ndjson import NdjsonSink
from crawler.sinks.writer import BATCH_BYTES, LINGER, writing
from crawler.wanted import Filter
from tests.fakes import LONGEST, ListSink, World, image, leaves, small_tree

# Threads take real time, so these run on real clocks: a virtual one would jump while a write is under way.
both = pytest.mark.parametrize("backend", ["trio", "asyncio"])

#: As much as is gathered for one write.
FULL = b"x" * BATCH_BYTES

DISK_FULL = Fatal("WriteFailed", "No space left on device")


class Reader:
    """A blocking `write` that takes nothing until it is told to read on."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self.reached = threading.Event()
        self.reads_on = threading.Event()

    def write(self, data: bytes) -> None:
        self.reached.set()
        self.reads_on.wait(30)
        self.taken.append(data)


@pytest.fixture
def reader() -> Iterator[Reader]:
    stalled = Reader()
    yield stalled
    stalled.reads_on.set()


async def until(event: threading.Event) -> None:
    while not event.is_set():
        await checkpoint()


@both
def test_pieces_arrive_whole_and_in_order(backend: str) -> None:
    taken: list[bytes] = []

    async def main() -> None:
        async with writing(taken.append) as send:
            for number in range(300):
                await send(b"%d\n" % number)

    anyio.run(main, backend=backend)
    assert b"".join(taken) == b"".join(b"%d\n" % number for number in range(300))


@pytest.mark.parametrize(("linger", "writes"), [(LINGER, 2), (inf, 1)])
def test_a_batch_waits_for_more_as_long_as_it_may(linger: float, writes: int) -> None:
    taken: list[bytes] = []

    async def main() -> None:
        async with writing(taken.append, linger=linger) as send:
            await send(b"one\n")
            await anyio.sleep(3600)
            await send(b"two\n")

    anyio.run(main, backend="trio", backend_options={"clock": MockClock(autojump_threshold=0)})
    assert b"".join(taken) == b"one\ntwo\n"
    assert len(taken) == writes


@both
def test_many_senders_never_mix_their_pieces(backend: str) -> None:
    taken: list[bytes] = []

    async def main() -> None:
        async with writing(taken.append) as send, anyio.create_task_group() as group:
            for number in range(200):
                group.start_soon(send, b"%d " % number * 50 + b"\n")

    anyio.run(main, backend=backend)
    lines = b"".join(taken).splitlines()
    assert len(lines) == 200
    assert all(len(set(line.split())) == 1 and len(line.split()) == 50 for line in lines)


@both
def test_a_write_that_blocks_holds_the_senders_back_and_nobody_else(backend: str, reader: Reader) -> None:
    async def main() -> None:
        sent: list[bytes] = []

        async def send_and_tell(data: bytes) -> None:
            await send(data)
            sent.append(data)

        async with writing(reader.write) as send, anyio.create_task_group() as group:
            group.start_soon(send_and_tell, b"one\n")
            await until(reader.reached)  # the loop turns while the write blocks
            for data in (FULL, b"two\n", b"three\n"):
                group.start_soon(send_and_tell, data)
                for _ in range(20):
                    await checkpoint()
            assert sent == [b"one\n", FULL]  # one batch gathers beside the one that is written, and no more
            reader.reads_on.set()
        assert len(sent) == 4

    anyio.run(main, backend=backend)
    # What waited went with one write.
    assert [sorted(batch.splitlines()) for batch in reader.taken] == [[b"one"], [FULL], [b"three", b"two"]]


@both
def test_small_pieces_that_come_one_after_the_other_share_a_write(backend: str) -> None:
    taken: list[bytes] = []

    async def main() -> None:
        async with writing(taken.append) as send:
            for number in range(100):
                await send(b"%d\n" % number)
                await checkpoint()

    anyio.run(main, backend=backend)
    assert len(taken) < 10


def test_a_batch_is_bounded(reader: Reader) -> None:
    piece = b"x" * (BATCH_BYTES // 2)

    async def main() -> None:
        async with writing(reader.write) as send, anyio.create_task_group() as group:
            for _ in range(8):
                group.start_soon(send, piece)
            await until(reader.reached)
            await anyio.wait_all_tasks_blocked()
            reader.reads_on.set()

    anyio.run(main)
    assert sum(map(len, reader.taken)) == 8 * len(piece)
    assert max(map(len, reader.taken)) <= BATCH_BYTES


@both
def test_a_body_that_fails_has_what_it_sent_written(backend: str, reader: Reader) -> None:
    async def main() -> None:
        async with writing(reader.write) as send:
            await send(b"one\n")
            await until(reader.reached)
            reader.reads_on.set()
            await send(b"two\n")
            raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        anyio.run(main, backend=backend)
    assert b"".join(reader.taken) == b"one\ntwo\n"


@both
def test_an_error_of_the_write_cancels_the_body_and_is_the_only_one_to_leave(backend: str) -> None:
    cancelled = []

    async def main() -> None:
        def fail(_: bytes) -> None:
            raise DISK_FULL

        async def send_without_end() -> None:
            try:
                while True:
                    await send(b"row\n")
            except BaseException as error:
                cancelled.append(isinstance(error, anyio.get_cancelled_exc_class()))
                raise

        async with writing(fail) as send, anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(send_without_end)

    with pytest.raises(ExceptionGroup) as caught:
        anyio.run(main, backend=backend)
    assert list(leaves(caught.value)) == [DISK_FULL]
    assert cancelled == [True] * 20


@both
@pytest.mark.parametrize("shielded", [False, True])
def test_a_write_that_never_returns_is_abandoned_on_cancellation(
    backend: str, reader: Reader, *, shielded: bool
) -> None:
    async def main() -> bool:
        with anyio.CancelScope() as scope:
            async with writing(reader.write) as send:
                await send(b"one\n")
                await until(reader.reached)
                scope.cancel()
                with anyio.move_on_after(0.01, shield=shielded):
                    await send(b"two\n")
                await checkpoint()
        return scope.cancelled_caught

    assert anyio.run(main, backend=backend)
    assert reader.taken == []


@both
@pytest.mark.parametrize("broken", ["rows", "ledger"])
def test_a_crawl_whose_writer_fails_ends_with_that_error_alone(backend: str, broken: str) -> None:
    written: list[bytes] = []

    def fails(_: bytes) -> None:
        raise DISK_FULL

    async def main() -> None:
        accounts = [Account(f"{number:012}") for number in range(20)]
        world = World({(account.account_id, "east"): small_tree("a", "b", "c") for account in accounts})
        async with (
            writing(written.append if broken == "rows" else fails) as to_ledger,
            writing(written.append if broken == "ledger" else fails) as to_rows,
        ):
            crawl = Crawl(
                world, NdjsonSink(to_rows), Ledger(to_ledger), limits=Limits(), policy=LONGEST, wanted=Filter()
            )
            await crawl.accounts(accounts)

    with pytest.raises(ExceptionGroup) as caught:
        anyio.run(main, backend=backend)
    assert list(leaves(caught.value)) == [DISK_FULL]
    if broken == "rows":
        lines = [json.loads(line) for line in b"".join(written).splitlines()]
        assert len({(line["registryId"], line["region"], line["repositoryName"]) for line in lines}) == len(lines)
        assert {line["registryId"] for line in lines} == {f"{number:012}" for number in range(20)}


def test_pages_without_rows_are_not_sent() -> None:
    sent: list[bytes] = []

    async def send(data: bytes) -> None:
        await checkpoint()
        sent.append(data)

    async def main() -> None:
        sink = NdjsonSink(send)
        target = Target(Account("1" * 12), "east", "2" * 12)
        with sink.repository(target, "a") as rows:
            await rows.send([])
            await rows.send([image("0", "latest"), image("1")])

    anyio.run(main)
    (piece,) = sent
    assert [json.loads(line) for line in piece.splitlines()] == [
        {"registryId": "2" * 12, "region": "east", "repositoryName": "a", "imageDigest": f"sha256:{n}", "imageTag": tag}
        for n, tag in enumerate(["latest", None])
    ]


def test_a_sink_that_fails_with_a_bug_stops_the_run() -> None:
    with suppress(ExceptionGroup):
        world = World({("1" * 12, "east"): small_tree("a")})
        sink = ListSink(OSError("unexpected"))
        ledger = Ledger()
        crawl = Crawl(world, sink, ledger, limits=Limits(), policy=LONGEST, wanted=Filter())
        anyio.run(crawl.accounts, [Account("1" * 12)])
        pytest.fail("the error was swallowed")
    assert ledger.incomplete() == 2
