"""Signals and pipes: the program as a process that others stop, or stop reading."""

from __future__ import annotations

import json
import os
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
ACCOUNTS = f"accounts: [{{account_id: {ACCOUNT}, role: inventory, regions: [{REGION}]}}]\n"
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


@contextmanager
def started(
    program: Program, emulator: Emulator, *arguments: str, script: str = "", accounts: str = ACCOUNTS
) -> Iterator[subprocess.Popen[bytes]]:
    """The program; `script` is what a shell does, with `"$@"` for the program itself."""
    program.environment |= emulator.environment()
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


both = pytest.mark.parametrize("arguments", [(), ("--workers", "2")], ids=["one process", "workers"])
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


@both
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_second_signal_stops_at_once(program: Program, number: signal.Signals, arguments: tuple[str, ...]) -> None:
    rule = Rule(fault="stall", operation="ListImages", repository=STALLED, times=0)
    with (
        # More than a pipe holds, and nobody reads: the clean stop waits for its reader.
        running(estate(5000), Options(faults=[rule])) as emulator,
        started(program, emulator, *arguments) as process,
    ):
        wait_until(lambda: emulator.stats()["requests"]["ecr:ListImages"] == 11 and emulator.stats()["in_flight"] == 1)
        process.send_signal(number)
        # The stalled request is given up, so the first has been heard: two at once are one to the kernel.
        wait_until(lambda: emulator.stats()["in_flight"] == 0)
        sent = time.monotonic()
        process.send_signal(number)
        assert process.wait(timeout=20) == 128 + number
        assert time.monotonic() - sent < AT_ONCE
        assert process.stderr
        assert b"received" not in process.stderr.read(), "it stopped cleanly instead"


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
            assert time.monotonic() - sent < IN_TIME
            assert process.stderr
            assert b"hints are not kept: there was no time to wait for their store" in process.stderr.read()


@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGTERM])
def test_a_signal_while_the_hints_are_put_leaves_a_run_that_has_ended(program: Program, number: signal.Signals) -> None:
    """All rows are there: neither they nor the ledger may be lost for what may be forgotten."""
    with hanging_store() as (url, put), running(estate(10)) as emulator:
        program.environment["AWS_ENDPOINT_URL_S3"] = url
        with started(program, emulator, "--output", "rows", "--hints", "s3://bucket/hints.json") as process:
            assert put.wait(20)
            sent = time.monotonic()
            process.send_signal(number)
            assert process.wait(timeout=20) == 0
            assert time.monotonic() - sent < IN_TIME
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
