"""A terminal that nobody reads: as with Ctrl-S, or a pager that is not scrolled."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from crawler.emulator import Account, Emulator, Estate, Options, Repository, Rule, running
from crawler.emulator.images import Series
from tests.program.conftest import Program
from tests.program.test_signals import IN_TIME, hangup, wait_until

ACCOUNT, REGION = "000000000001", "eu-west-1"
#: With -vv each is two lines of log: many times what a terminal holds.
NAMES = [f"app-{number}" for number in range(500)]


def estate() -> Estate:
    repositories = {name: Repository(name, Series(name, 3)) for name in NAMES}
    return Estate([Account(ACCOUNT, repositories={REGION: repositories})], regions=[REGION])


@contextmanager
def crawling(
    program: Program, emulator: Emulator, *, logged_in: bool = False
) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """The program on a terminal of its own, and the end of it that a person would read.

    Once `logged_in` the terminal controls it, and sends it SIGHUP when it goes away.
    """
    program.environment |= {**emulator.environment(), "TERM": "xterm"}
    accounts = f"accounts: [{{account_id: {ACCOUNT}, role: inventory, regions: [{REGION}]}}]\n"
    (program.folder / "accounts.yaml").write_text(accounts)
    command = program.command("--accounts", "accounts.yaml", "--output", "rows", "--report", "report", "-vv")
    reader, terminal = pty.openpty()
    if logged_in:  # the first terminal that the leader of a session opens
        command = ["/bin/sh", "-c", 'name=$1; shift; exec "$@" 2<>"$name"', "sh", os.ttyname(terminal), *command]
    process = subprocess.Popen(
        command, env=program.env(), cwd=program.folder, stderr=terminal, start_new_session=logged_in
    )
    os.close(terminal)
    try:
        yield process, reader
    finally:
        process.kill()
        process.wait()
        os.close(reader)


def read_all(reader: int) -> str:
    said = b""
    with suppress(OSError):  # EIO: the other end is closed
        while data := os.read(reader, 1 << 16):
            said += data
    return said.decode()


def go_away(reader: int) -> None:
    """Close the terminal's other end; the descriptor stays, for something else."""
    hole = os.open(os.devnull, os.O_RDONLY)
    os.dup2(hole, reader)
    os.close(hole)


@pytest.mark.slow
def test_the_crawl_ends_though_nobody_reads_and_its_summary_waits(program: Program) -> None:
    with running(estate()) as emulator, crawling(program, emulator) as (process, reader):
        wait_until((program.folder / "rows").exists)
        assert len((program.folder / "rows").read_bytes().splitlines()) == 3 * len(NAMES)
        wait_until((program.folder / "report").exists)
        assert process.poll() is None
        said = read_all(reader)
        assert process.wait(timeout=20) == 0
    assert "COMPLETE" in said.splitlines()[-1]
    assert "1,500 rows from 500 repositories" in said


def test_a_signal_ends_it_though_nobody_reads(program: Program) -> None:
    stall = Rule(fault="stall", operation="ListImages", repository=NAMES[-1], times=0)
    with (
        running(estate(), Options(faults=[stall])) as emulator,
        crawling(program, emulator) as (process, _),
    ):
        wait_until(lambda: emulator.stats()["requests"]["ecr:ListImages"] == len(NAMES))
        sent = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 143
        assert time.monotonic() - sent < IN_TIME


@hangup
def test_a_terminal_that_hangs_up_stops_it_cleanly(program: Program) -> None:
    stall = Rule(fault="stall", operation="ListImages", repository=NAMES[-1], times=0)
    with (
        running(estate(), Options(faults=[stall])) as emulator,
        crawling(program, emulator, logged_in=True) as (process, reader),
    ):
        wait_until(lambda: emulator.stats()["requests"]["ecr:ListImages"] == len(NAMES))
        wait_until(lambda: emulator.stats()["in_flight"] == 1)
        sent = time.monotonic()
        go_away(reader)
        assert process.wait(timeout=20) == 129
        assert time.monotonic() - sent < IN_TIME
    report = json.loads((program.folder / "report").read_bytes())
    assert (report["status"], report["exitCode"]) == ("interrupted", 129)
    assert len((program.folder / "rows.partial").read_bytes().splitlines()) == 3 * (len(NAMES) - 1)


@pytest.mark.parametrize("kept", [0, 1 << 12])
def test_a_terminal_that_goes_away_ends_nothing(program: Program, kept: int) -> None:
    with running(estate()) as emulator, crawling(program, emulator) as (process, reader):
        if kept:
            os.read(reader, kept)
        go_away(reader)
        assert process.wait(timeout=30) == 0
    assert len((program.folder / "rows").read_bytes().splitlines()) == 3 * len(NAMES)
