"""The processes of `--workers`: how one that ends is told of."""

from __future__ import annotations

import socket
import subprocess

import anyio
import pytest
from anyio.abc import Process

from crawler.engines import processes
from crawler.engines.processes import Processes


@pytest.mark.parametrize(("number", "name"), [(9, "SIGKILL"), (40, "signal 40")])
def test_a_worker_killed_by_whatever_signal_is_replaced(
    number: int, name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Most real-time signals have no name in `signal.Signals`: the crawl ended with a traceback of a ValueError."""

    async def main() -> None:
        replaced = anyio.Event()
        commands = iter([["sh", "-c", f"kill -{number} $$"], ["cat"]])

        async def started(end: socket.socket) -> Process:
            command = next(commands)
            if command == ["cat"]:
                replaced.set()
            return await anyio.open_process(command, stdin=end, stdout=subprocess.DEVNULL)

        monkeypatch.setattr(processes, "_started", started)
        crew = Processes("assignment", workers=1, each=1, pulse=lambda *_: None)
        with anyio.fail_after(20):
            async with crew.running():
                await replaced.wait()

    anyio.run(main)
    assert [record.getMessage().partition(" was ")[2] for record in caplog.records] == [f"killed by {name}"]
