"""Rows of shards on their way to a stream whose reader is slow."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import IO

import anyio
from anyio import to_thread
from anyio.lowlevel import checkpoint

from crawler.destination import StreamDestination
from crawler.ledger import Totals
from crawler.model import RowKind
from crawler.shard import Report
from crawler.sinks.output import Output

#: More than a pipe holds.
ROWS = b"0123456789abcde\n" * 20_000


def report(number: int) -> Report:
    rows: IO[bytes] = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115  (whoever takes the report closes it)
    rows.write(ROWS)
    return Report(number, b"", b"", Totals(), rows=rows)


def test_a_copy_that_is_given_up_keeps_its_file_until_it_ends(tmp_path: Path) -> None:
    """Its thread goes on: closed beneath it, the number of the file might be another's, whose bytes would be copied."""
    os.mkfifo(tmp_path / "rows")
    reader = os.open(tmp_path / "rows", os.O_RDONLY | os.O_NONBLOCK)
    os.set_blocking(reader, True)
    copied, waiting = report(1), report(2)
    assert copied.rows
    assert waiting.rows

    async def main() -> None:
        with Output(str(tmp_path / "rows")) as output, anyio.fail_after(20):
            destination = StreamDestination(output, "rows", RowKind.IDS)
            async with destination.gathering() as take, anyio.create_task_group() as group:
                group.start_soon(take, copied)
                group.start_soon(take, waiting)
                assert await to_thread.run_sync(os.read, reader, 16) == ROWS[:16]
                group.cancel_scope.cancel()
            assert not copied.rows.closed
            assert waiting.rows.closed
            left = len(ROWS) - 16
            while left:
                left -= len(await to_thread.run_sync(os.read, reader, left))
            while not copied.rows.closed:
                await checkpoint()

    try:
        anyio.run(main)
    finally:
        os.close(reader)
