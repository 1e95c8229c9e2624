"""Signals and pipes: the program as a process that others stop, or stop reading."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from crawler.emulator import Account, Emulator, Estate, Options, Repository, Rule, running
from crawler.emulator.images import Series
from tests.program.conftest import Program

ACCOUNT, REGION = "000000000001", "eu-west-1"
STALLED = "stalled"

#: Seconds from a first signal to the end, which are promised to be five, and from a second one: on a busy machine.
IN_TIME, AT_ONCE = 6, 1


def estate(images: int) -> Estate:
    repositories = {name: Repository(name, Series(name, images)) for name in ("first", "second", STALLED)}
    return Estate([Account(ACCOUNT, repositories={REGION: repositories})], regions=[REGION])


def wait_until(condition: Callable[[], bool]) -> None:
    """Look again and again; the condition is an event elsewhere, and twenty seconds mean that it never happens."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "what was waited for did not happen"
        time.sleep(0.01)


def in_memory(process: subprocess.Popen[bytes]) -> int:
    """Bytes of the process that are in memory."""
    return int(Path(f"/proc/{process.pid}/statm").read_text().split()[1]) * resource.getpagesize()


@contextmanager
def started(
    program: Program, emulator: Emulator, *arguments: str, script: str = ""
) -> Iterator[subprocess.Popen[bytes]]:
    """The program; `script` is what a shell does, with `"$@"` for the program itself."""
    program.environment |= emulator.environment()
    accounts = f"accounts: [{{account_id: {ACCOUNT}, role: inventory, regions: [{REGION}]}}]\n"
    (program.folder / "accounts.yaml").write_text(accounts)
    files = [word for flag in ("ledger", "report") if f"--{flag}" not in arguments for word in (f"--{flag}", flag)]
    command = program.command("--accounts", "accounts.yaml", *files, *arguments)
    command = ["/bin/sh", "-c", script, "sh", *command] if script else command
    process = subprocess.Popen(
        command, env=program.env(), cwd=program.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdout, process.stderr):
            if stream:
                stream.close()


def ledger(folder: Path) -> dict[str | None, dict[str, object]]:
    lines = [json.loads(line) for line in (folder / "ledger").read_bytes().splitlines()]
    by_repository = {line["repositoryName"]: line for line in lines}
    assert len(by_repository) == len(lines)
    return by_repository


hangup = pytest.mark.skipif(signal.getsignal(signal.SIGHUP) is signal.SIG_IGN, reason="these tests run under nohup")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, pytest.param(signal.SIGHUP, marks=hangup)])
def test_the_first_signal_stops_cleanly(program: Program, number: signal.Signals) -> None:
    rule = Rule(fault="stall", operation="ListImages", repository=STALLED, times=0)
    with (
        running(estate(10), Options(faults=[rule])) as emulator,
        started(program, emulator, "--output", "rows") as process,
    ):
        # Two repositories are done and only the stalled one is in flight.
        wait_until(lambda: emulator.stats()["requests"]["ecr:ListImages"] == 3 and emulator.stats()["in_flight"] == 1)
        sent = time.monotonic()
        process.send_signal(number)
        _, said = process.communicate()
        assert time.monotonic() - sent < 5
    assert process.returncode == 128 + number
    assert f"{number.name} received".encode() in said
    lines = ledger(program.folder)
    assert {name: line["outcome"] for name, line in lines.items()} == {
        "first": "OK",
        "second": "OK",
        STALLED: "FAILED",
        None: "FAILED",
    }
    assert lines[STALLED]["code"] == "Interrupted"
    report = json.loads((program.folder / "report").read_bytes())
    assert (report["status"], report["exitCode"]) == ("interrupted", 128 + number)
    assert not (program.folder / "rows").exists(), "half a file must not look like a whole one"
    assert len((program.folder / "rows.partial").read_bytes().splitlines()) == 20
    assert b"Traceback" not in said


def test_the_second_signal_stops_at_once(program: Program) -> None:
    rule = Rule(fault="stall", operation="ListImages", repository=STALLED, times=0)
    with (
        # More than a pipe holds, and nobody reads: the clean stop waits for its reader.
        running(estate(5000), Options(faults=[rule])) as emulator,
        started(program, emulator) as process,
    ):
        wait_until(lambda: emulator.stats()["requests"]["ecr:ListImages"] >= 3)
        process.send_signal(signal.SIGINT)
        # The stalled request is given up, so the first has been heard: two at once are one to the kernel.
        wait_until(lambda: emulator.stats()["in_flight"] == 0)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 130
        assert process.stderr
        assert b"received" not in process.stderr.read(), "it stopped cleanly instead"


@pytest.mark.parametrize("arguments", [(), ("--workers", "2")], ids=["one process", "workers"])
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


@contextmanager
def hanging_store() -> Iterator[tuple[str, threading.Event]]:
    """An S3 that has nothing, and takes every write for as long as the body runs; its URL, and whether one began."""
    over, put = threading.Event(), threading.Event()

    class Hanging(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(404 if "hints.json" in self.path else 200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_PUT(self) -> None:
            put.set()
            over.wait()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Hanging) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", put
        finally:
            over.set()
            server.shutdown()


@pytest.mark.slow
def test_a_store_that_hangs_does_not_keep_the_stop(program: Program) -> None:
    """The hints of the run are to be put there, which may be forgotten."""
    rule = Rule(fault="stall", operation="ListImages", repository=STALLED, times=0)
    with hanging_store() as (url, _), running(estate(10), Options(faults=[rule])) as emulator:
        program.environment["AWS_ENDPOINT_URL_S3"] = url
        with started(program, emulator, "--output", "rows", "--hints", "s3://bucket/hints.json") as process:
            wait_until(lambda: emulator.stats()["requests"]["ecr:ListImages"] >= 3)
            sent = time.monotonic()
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=20) == 143
            assert time.monotonic() - sent < 5.5
            assert process.stderr
            assert b"hints are not kept: there was no time to wait for their store" in process.stderr.read()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_the_hints_are_put_leaves_a_run_that_has_ended(program: Program, number: signal.Signals) -> None:
    """All rows are there: neither they nor the ledger may be lost for what may be forgotten."""
    with hanging_store() as (url, put), running(estate(10)) as emulator:
        program.environment["AWS_ENDPOINT_URL_S3"] = url
        with started(program, emulator, "--output", "rows", "--hints", "s3://bucket/hints.json") as process:
            assert put.wait(20)
            sent = time.monotonic()
            process.send_signal(number)
            assert process.wait(timeout=20) == 0
            assert time.monotonic() - sent < 5.5
            assert process.stderr
            assert b"hints are not kept: there was no time to wait for their store" in process.stderr.read()
    assert len((program.folder / "rows").read_bytes().splitlines()) == 30
    assert {line["outcome"] for line in ledger(program.folder).values()} == {"OK"}
    assert json.loads((program.folder / "report").read_bytes())["exitCode"] == 0


def test_a_signal_before_the_crawl_ends_it_as_the_shell_expects(program: Program) -> None:
    """Also of a process that is the first of its container, whom the kernel sends no signal that it does not handle."""
    os.mkfifo(program.folder / "accounts.yaml")
    command = program.command("--accounts", "accounts.yaml")
    with (
        subprocess.Popen(command, env=program.env(), cwd=program.folder) as process,
        (program.folder / "accounts.yaml").open("wb"),  # returns once the program reads
    ):
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 143


def test_a_reader_that_goes_away_ends_it_quietly(program: Program) -> None:
    with running(estate(5000)) as emulator, started(program, emulator) as process:
        assert process.stdout
        assert process.stdout.readline().startswith(b'{"registryId":')
        process.stdout.close()
        assert process.wait(timeout=20) == 141
        assert process.stderr
        assert process.stderr.read() == b""
    report = json.loads((program.folder / "report").read_bytes())
    assert report["status"] == "interrupted"


@pytest.mark.parametrize("seconds", [2, pytest.param(10, marks=pytest.mark.slow)])
def test_a_reader_that_sleeps_costs_no_request_and_no_memory(program: Program, seconds: int) -> None:
    """It sleeps for longer than a request may take; requests in flight end in time, and then no other begins."""
    each = 100_000
    with running(estate(each)) as emulator, started(program, emulator, "--timeout", "1") as process:
        assert process.stdout
        process.stdout.readline()
        seen = []
        for _ in range(2):
            time.sleep(seconds / 2)  # this reader's own: there is no event for nothing happening
            seen.append((emulator.stats()["requests"]["ecr:ListImages"], in_memory(process)))
        (before, memory), (after, memory_after) = seen
        assert before == after < 3 * each / 1000, "pages are still fetched, or all are: nobody held them back"
        assert memory_after - memory < 1 << 20
        rest = process.stdout.read()
        assert process.wait(timeout=20) == 0
    assert len(rest.splitlines()) + 1 == 3 * each
    assert all(line["attempts"] == line["pages"] for line in ledger(program.folder).values())


def test_under_nohup_it_goes_on(program: Program) -> None:
    rule = Rule(fault="stall", operation="ListImages", repository=STALLED, seconds=0.5)
    with (
        running(estate(10), Options(faults=[rule])) as emulator,
        started(program, emulator, "--output", "rows", script='trap "" HUP; exec "$@"') as process,
    ):
        wait_until(lambda: emulator.stats()["requests"]["ecr:ListImages"] == 3)
        process.send_signal(signal.SIGHUP)
        assert process.wait(timeout=20) == 0
    assert len((program.folder / "rows").read_bytes().splitlines()) == 30


@pytest.mark.parametrize(
    "script",
    ['exec "$@" 2>&-', 'exec "$@" 0<&- 1>&- 2>&-', '{ { "$@"; echo $? >code; } 2>&1 | true; }; exit $(cat code)'],
    ids=["standard error is closed", "all three are closed", "nobody reads standard error"],
)
def test_no_one_to_tell_is_no_reason_to_fail(program: Program, script: str) -> None:
    """And nothing that was to be told finds its way into the files that have their descriptors."""
    with (
        running(estate(1000)) as emulator,
        started(program, emulator, "--output", "rows", "-vv", script=script) as process,
    ):
        assert process.wait(timeout=20) == 0
    rows = [json.loads(line) for line in (program.folder / "rows").read_bytes().splitlines()]
    assert len({row["imageDigest"] for row in rows}) == len(rows) == 3000
    assert {line["outcome"] for line in ledger(program.folder).values()} == {"OK"}
    assert json.loads((program.folder / "report").read_bytes())["exitCode"] == 0


@pytest.mark.parametrize("file", ["--output", "--ledger", "--report"])
def test_a_full_disk_is_fatal_and_told(program: Program, file: str) -> None:
    with running(estate(10)) as emulator, started(program, emulator, file, "/dev/full") as process:
        _, said = process.communicate()
    assert process.returncode == 1
    assert b"/dev/full: No space left on device" in said
    assert b"Traceback" not in said
    assert Path("/dev/full").is_char_device(), "a device is written, never replaced"


@pytest.mark.parametrize("arguments", [(), ("--workers", "2")], ids=["one process", "workers"])
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
