"""Processes that are started for `--workers`: real ones, and what becomes of the run where one ends or cannot start."""

from __future__ import annotations

import errno
import gc
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import pytest
from anyio.abc import Process

from crawler import worker
from crawler.engines import Lost, child
from crawler.engines.processes import Processes
from crawler.errors import Fatal, UsageError
from crawler.model import Account
from crawler.shard import Shard


def one_after_the_other(first: list[str], replaced: anyio.Event) -> Callable[[socket.socket], Awaitable[Process]]:
    """A way to start `first`, and in its place, `replaced`, one that ends with its channel."""
    commands = iter([first, ["cat"]])

    async def started(end: socket.socket) -> Process:
        command = next(commands)
        process = await anyio.open_process(command, stdin=end, stdout=subprocess.DEVNULL, stderr=None)
        if command == ["cat"]:
            replaced.set()
        return process

    return started


@pytest.mark.parametrize(("number", "name"), [(9, "SIGKILL"), (40, "signal 40")])
def test_a_worker_killed_by_whatever_signal_is_replaced(
    number: int, name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Most real-time signals have no name in `signal.Signals`: the crawl ended with a traceback of a ValueError."""

    async def main() -> None:
        replaced = anyio.Event()
        monkeypatch.setattr(child, "_started", one_after_the_other(["sh", "-c", f"kill -{number} $$"], replaced))
        crew = Processes("assignment", workers=1, each=1, pulse=lambda *_: None)
        with anyio.fail_after(20):
            async with crew.running():
                await replaced.wait()

    anyio.run(main)
    assert [record.getMessage().partition(" was ")[2] for record in caplog.records] == [f"killed by {name}"]


def test_a_worker_that_is_stopped_is_killed_and_replaced(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A real one, which no clock of ours reaches: what it had would never have come."""

    async def main() -> None:
        replaced = anyio.Event()
        monkeypatch.setattr(child, "_started", one_after_the_other(["sh", "-c", "kill -STOP $$"], replaced))
        crew = Processes("assignment", workers=1, each=1, pulse=lambda *_: None, silence=1)
        with anyio.fail_after(20):
            async with crew.running(), anyio.create_task_group() as group:

                async def crawl() -> None:
                    with pytest.raises(Lost):
                        await crew.crawl(Shard(1, (Account("1" * 12),)))

                group.start_soon(crawl)
                await replaced.wait()

    anyio.run(main)
    said = [record.getMessage().partition(") ")[2] for record in caplog.records]
    assert said == ["has said nothing for 1 s", "was killed by SIGKILL"]


def test_a_worker_is_told_what_our_interpreter_was_told() -> None:
    """Warnings that are errors here were none there, and assertions that are left out here were made."""
    options = ["-X", "dev", "-X", "int_max_str_digits=5000", "-W", "error::ResourceWarning", "-OO", "-B", "-s"]
    program = "from crawler.engines.child import command; print(*command(0), sep='\\n')"
    told = subprocess.run([sys.executable, *options, "-c", program], capture_output=True, text=True, check=True)
    _, *flags, c, _, worker, descriptor = told.stdout.splitlines()
    assert (c, worker, descriptor) == ("-c", "worker", "0")
    program = "import sys; print(sys.flags, sys.warnoptions, sorted(sys._xoptions.items()))"
    theirs = subprocess.run([sys.executable, *flags, "-c", program], capture_output=True, text=True, check=True)
    ours = subprocess.run([sys.executable, "-P", *options, "-c", program], capture_output=True, text=True, check=True)
    assert theirs.stdout.replace("'default', ", "") == ours.stdout.replace("'default', ", "")


def test_a_worker_is_this_program_whatever_lies_in_the_current_folder(tmp_path: Path) -> None:
    """`python -m crawler` there would run what is called so, with the keys of the run."""
    (tmp_path / "crawler").mkdir()
    for name in ("__init__", "__main__"):
        (tmp_path / "crawler" / f"{name}.py").write_text("raise SystemExit('planted')")
    reader, writer = os.pipe()
    try:
        said = subprocess.run(
            child.command(reader), cwd=tmp_path, pass_fds=[reader], capture_output=True, text=True, check=False
        )
    finally:
        os.close(reader)
        os.close(writer)
    assert "crawler worker is what --workers starts" in said.stderr


def test_a_worker_that_cannot_be_started_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was a traceback."""
    said: dict[int, str] = {}

    async def main(number: int) -> None:
        async def started(_: socket.socket) -> Process:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(child, "_started", started)
        crew = Processes("assignment", workers=2, each=1, pulse=lambda *_: None)
        with anyio.fail_after(20):
            async with crew.running():
                with pytest.raises(Fatal) as failure:
                    await crew.crawl(Shard(1, (Account("1" * 12),)))
                assert failure.value.code == "WorkerNotStarted"
                said[number] = failure.value.message

    for number in (errno.EMFILE, errno.ENOENT):
        anyio.run(main, number)
    assert said[errno.EMFILE] == (
        "worker 1 cannot be started: [Errno 24] Too many open files: give fewer --workers, or room for more processes "
        "and open files (memory, ulimit -u, ulimit -n)"
    )
    assert said[errno.ENOENT].endswith(f"is {sys.executable} as it was when this run began?")


def test_signals_are_for_who_started_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service manager sends them to all processes of a service: what the workers had fetched was lost."""
    heeded = {number: signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)}

    async def ended(_: int) -> int:
        for number in heeded:
            signal.raise_signal(number)
        return 0

    monkeypatch.setattr(worker, "_serve", ended)
    monkeypatch.setattr(gc, "freeze", lambda: None)
    try:
        assert worker.serve(0) == 0
    finally:
        for number, handler in heeded.items():
            signal.signal(number, handler)


def test_it_is_not_for_the_command_line() -> None:
    reader, writer = os.pipe()
    os.close(writer)
    try:
        with pytest.raises(UsageError, match="is what --workers starts, and not for the command line"):
            anyio.run(worker._serve, reader)
    finally:
        os.close(reader)
