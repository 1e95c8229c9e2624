"""Who reads the rows, of one process or of several: goes away after the first, stops for a while, or for ever."""

from __future__ import annotations

import json
import re
import resource
import signal
import time
from pathlib import Path

import pytest

from crawler.emulator import Account, Estate, Options, Repository, Rule, running
from crawler.emulator.images import Series
from tests.program.conftest import Program
from tests.program.test_signals import IN_TIME, REGION, STALLED, both, estate, ledger, started, wait_until

WORKERS = ("--workers", "2")
#: Told every few seconds, so only of a machine that is busy with more than this.
PROGRESS = re.compile(rb"\d+ s: .* done, .* throttled\n")


def in_memory(process: int) -> int:
    """Bytes of the process that are in memory."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * resource.getpagesize()


def children(process: int) -> list[int]:
    """The workers of a process."""
    return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


of_one_process_or_workers = pytest.mark.parametrize("options", [(), WORKERS], ids=["one process", "workers"])
for_seconds = pytest.mark.parametrize("seconds", [2, pytest.param(10, marks=pytest.mark.slow)])


@of_one_process_or_workers
def test_a_reader_that_goes_away_ends_it_quietly(program: Program, options: tuple[str, ...]) -> None:
    with running(estate(8000)) as emulator, started(program, emulator, *options) as process:
        assert process.stdout
        assert process.stdout.readline().startswith(b'{"registryId":')
        process.stdout.close()
        assert process.wait(timeout=20) == 141
        assert process.stderr
        assert all(PROGRESS.fullmatch(line) for line in process.stderr), "it says more than how far it is"
    assert json.loads((program.folder / "report").read_bytes())["status"] == "interrupted"


@for_seconds
def test_a_reader_that_sleeps_costs_no_request_and_no_memory(program: Program, seconds: int) -> None:
    """It sleeps for longer than a request may take; requests in flight end in time, and then no other begins."""
    each = 100_000
    with running(estate(each)) as emulator, started(program, emulator, "--timeout", "1") as process:
        assert process.stdout
        process.stdout.readline()
        seen = []
        for _ in range(2):
            time.sleep(seconds / 2)  # this reader's own: there is no event for nothing happening
            seen.append((emulator.stats()["requests"]["ecr:ListImages"], in_memory(process.pid)))
        (before, memory), (after, memory_after) = seen
        assert before == after < 3 * each / 1000, "pages are still fetched, or all are: nobody held them back"
        assert memory_after - memory < 1 << 20
        rest = process.stdout.read()
        assert process.wait(timeout=20) == 0
    assert len(rest.splitlines()) + 1 == 3 * each
    assert all(line["attempts"] == line["pages"] for line in ledger(program.folder).values())


@for_seconds
def test_a_reader_that_sleeps_loses_no_row_of_workers(program: Program, seconds: int) -> None:
    """Each worker has as many accounts as it may, and no other until the rows of one of them were taken."""
    each, accounts, at_once = 8_000, 8, 4
    company = Estate(
        [
            Account(f"{number:012}", repositories={REGION: {"app": Repository("app", Series(str(number), each))}})
            for number in range(1, accounts + 1)
        ],
        regions=[REGION],
    )
    options = ("--timeout", "1", "--targets-at-once", "2", *WORKERS)
    with (
        running(company) as emulator,
        started(program, emulator, *options, accounts=company.accounts_yaml()) as process,
    ):
        assert process.stdout
        first = process.stdout.readline()
        full = at_once * each / 1000
        wait_until(lambda: emulator.stats()["requests"]["ecr:ListImages"] == full)
        before = [in_memory(pid) for pid in (process.pid, *children(process.pid))]
        assert len(before) == 3
        time.sleep(seconds)  # this reader's own: there is no event for nothing happening
        after = [in_memory(pid) for pid in (process.pid, *children(process.pid))]
        assert emulator.stats()["requests"]["ecr:ListImages"] == full, "pages are still fetched: nobody held them back"
        assert all(late - early < 1 << 20 for early, late in zip(before, after, strict=True))
        rows = [first, *process.stdout.readlines()]
        assert process.wait(timeout=20) == 0
    assert len({tuple(json.loads(row).values()) for row in rows}) == len(rows) == accounts * each
    units = [json.loads(line) for line in (program.folder / "ledger").read_bytes().splitlines()]
    assert {unit["outcome"] for unit in units if unit["repositoryName"]} == {"OK"}
    assert all(unit["attempts"] == unit["pages"] for unit in units)


@both
def test_a_reader_that_stops_reading_does_not_keep_the_stop(program: Program, arguments: tuple[str, ...]) -> None:
    """It has whole lines, but for the last, and nothing is OK of which it may not have every row."""
    rule = Rule(fault="stall", operation="ListImages", repository=STALLED, times=0)
    with (
        running(estate(5000), Options(faults=[rule])) as emulator,
        started(program, emulator, *arguments) as process,
    ):
        wait_until(lambda: emulator.stats()["requests"]["ecr:ListImages"] == 11 and emulator.stats()["in_flight"] == 1)
        sent = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 143
        assert time.monotonic() - sent < IN_TIME
        assert process.stderr
        assert process.stdout
        said = process.stderr.read()
        *lines, _ = process.stdout.read().split(b"\n")
    assert b"rows that their reader did not take are lost" in said
    assert b"Not written: " in said
    assert 0 < len({tuple(json.loads(line).values()) for line in lines}) == len(lines) < 5000
    units = ledger(program.folder)
    assert {name: (unit["outcome"], unit["code"], unit["rows"]) for name, unit in units.items()} == {
        "first": ("FAILED", "NotWritten", 5000),
        "second": ("FAILED", "NotWritten", 5000),
        STALLED: ("FAILED", "Interrupted", 0),
        None: ("FAILED", "Interrupted", 0),
    }
    report = json.loads((program.folder / "report").read_bytes())
    assert (report["status"], report["exitCode"], report["rows"], report["pages"]) == ("interrupted", 143, 10_000, 11)
    assert report["repositories"]["FAILED"] == 3
    assert report["targets"]["FAILED"] == 1


@both
def test_nothing_is_ok_that_a_full_disk_did_not_take(program: Program, arguments: tuple[str, ...]) -> None:
    with running(estate(10)) as emulator, started(program, emulator, *arguments, "--output", "/dev/full") as process:
        _, said = process.communicate()
    assert process.returncode == 1
    assert b"and 2 more: NotWritten: " in said
    assert b"Not written: " in said
    repositories = [unit for name, unit in ledger(program.folder).items() if name]
    assert {(unit["outcome"], unit["code"], unit["rows"]) for unit in repositories} == {("FAILED", "NotWritten", 10)}
    assert len(repositories) == 3
    report = json.loads((program.folder / "report").read_bytes())
    assert (report["status"], report["repositories"]["OK"], report["repositories"]["FAILED"]) == ("failed", 0, 3)
