"""Who reads the rows of several processes: goes away after the first, or stops for a while."""

from __future__ import annotations

import json
import time

from crawler.emulator import running
from tests.program.conftest import Program
from tests.program.test_signals import estate, ledger, started

WORKERS = ("--workers", "2")


def test_a_reader_that_goes_away_ends_workers_quietly(program: Program) -> None:
    with running(estate(8_000)) as emulator, started(program, emulator, *WORKERS) as process:
        assert process.stdout
        assert process.stdout.readline().startswith(b'{"registryId":')
        process.stdout.close()
        assert process.wait(timeout=20) == 141
        assert process.stderr
        assert process.stderr.read() == b""
    assert json.loads((program.folder / "report").read_bytes())["status"] == "interrupted"


def test_a_reader_that_sleeps_loses_no_row_of_workers(program: Program) -> None:
    """More rows than the pipe holds, and for longer than a request may take."""
    each = 8_000
    with running(estate(each)) as emulator, started(program, emulator, *WORKERS, "--timeout", "1") as process:
        assert process.stdout
        first = process.stdout.readline()
        time.sleep(1.5)  # this reader's own: there is no event for nothing happening
        assert process.poll() is None
        rows = [first, *process.stdout.readlines()]
        assert process.wait(timeout=20) == 0
    assert len({tuple(json.loads(row).values()) for row in rows}) == len(rows) == 3 * each
    lines = ledger(program.folder).values()
    assert {line["outcome"] for line in lines} == {"OK"}
    assert all(line["attempts"] == line["pages"] for line in lines)
