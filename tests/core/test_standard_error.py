"""Standard error that nobody reads, or reads late."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import TextIO

import anyio
import pytest

from crawler.standard_error import ROOM, StandardError, unblocked

LINE = "x" * 1023 + "\n"


@pytest.fixture
def pipe() -> Iterator[tuple[int, TextIO]]:
    reader, writer = os.pipe()
    with os.fdopen(writer, "w", encoding="utf-8") as stream:
        yield reader, stream
    with suppress(OSError):
        os.close(reader)


def read_until(reader: int, ending: bytes) -> str:
    said = b""
    while not said.endswith(ending):
        said += os.read(reader, 1 << 16)
    return said.decode()


def test_what_is_read_is_all_there_and_in_order(pipe: tuple[int, TextIO]) -> None:
    reader, stream = pipe
    error = StandardError(stream)
    assert (error.fileno(), error.isatty()) == (stream.fileno(), False)
    for number in range(100):
        assert error.write(f"{number} é\ud800\n") == len(f"{number} é?\n")
        error.flush()
    assert read_until(reader, b"99 \xc3\xa9\\ud800\n").splitlines() == [f"{n} é\\ud800" for n in range(100)]


def test_a_write_never_waits_and_what_finds_no_room_is_counted(pipe: tuple[int, TextIO]) -> None:
    reader, stream = pipe
    error = StandardError(stream)
    fit = ROOM // len(LINE)
    for _ in range(2 * fit):
        error.write(LINE)  # nobody reads: a stream that waits would wait here for ever
    lines = read_until(reader, b"standard error)\n").splitlines()
    dropped = int(lines[-1].split()[0].removeprefix("("))
    assert len(lines) - 1 + dropped == 2 * fit
    assert fit // 2 < dropped <= fit, "the pipe itself holds some, as much as the system likes"
    error.write("after\n")
    assert read_until(reader, b"after\n") == "after\n"


def test_draining_waits_for_the_reader(pipe: tuple[int, TextIO]) -> None:
    reader, stream = pipe
    error = StandardError(stream)
    for _ in range(200):
        error.write(LINE)

    async def main() -> tuple[bool, bool]:
        with anyio.move_on_after(0.05) as unread:
            await error.drain()
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.to_thread.run_sync, lambda: [os.read(reader, 1024) for _ in range(200)])
            with anyio.fail_after(20) as read:
                await error.drain()
        return unread.cancelled_caught, read.cancelled_caught

    assert anyio.run(main) == (True, False)


def test_a_reader_that_has_gone_is_no_error(pipe: tuple[int, TextIO]) -> None:
    reader, stream = pipe
    os.close(reader)
    error = StandardError(stream)
    for _ in range(3):
        error.write(LINE * 100)
        anyio.run(error.drain)


def test_it_stands_for_standard_error_only_inside(monkeypatch: pytest.MonkeyPatch, pipe: tuple[int, TextIO]) -> None:
    reader, stream = pipe
    monkeypatch.setattr(sys, "stderr", stream)
    with unblocked() as error:
        assert sys.stderr is error
        sys.stderr.write("said\n")
    assert sys.stderr is stream
    assert os.read(reader, 100) == b"said\n"


@pytest.mark.parametrize("stream", [None, io.StringIO()])
def test_without_a_descriptor_nothing_changes(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO | None) -> None:
    monkeypatch.setattr(sys, "stderr", stream)
    with unblocked() as error:
        assert error is None
        assert sys.stderr is stream
