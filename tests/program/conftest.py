"""The whole program, as a process, as a user starts it."""

from __future__ import annotations

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Any

import pytest

from tests.certificates import Certificate, certify

SCHEMES = ("http", "https")
Row = tuple[str, str, str, str, str | None]


@dataclass(frozen=True)
class Crawled:
    code: int
    stdout: bytes
    stderr: str
    ledger: list[dict[str, Any]]
    report: dict[str, Any]

    @property
    def rows(self) -> Counter[Row]:
        return Counter(tuple(json.loads(line).values()) for line in self.stdout.splitlines())

    def outcomes(self) -> dict[tuple[str | None, str | None, str | None], str]:
        lines = {(line["registryId"], line["region"], line["repositoryName"]): line["outcome"] for line in self.ledger}
        assert len(lines) == len(self.ledger), "a unit has two lines in the ledger"
        return lines

    def line(self, repository: str | None) -> dict[str, Any]:
        (line,) = [line for line in self.ledger if line["repositoryName"] == repository]
        return line


class Forks:
    """See `forks.py`. Ends with this process."""

    def __init__(self) -> None:
        self._orders, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._server = subprocess.Popen(
                [sys.executable, "-W", "error", "-m", "tests.program.forks"],
                stdin=theirs,
                cwd=Path(__file__).parents[2],
            )
        atexit.register(self._close)

    def _close(self) -> None:
        self._orders.close()
        self._server.wait()

    def run(
        self,
        arguments: tuple[str, ...],
        environment: dict[str, str],
        folder: Path,
        stdin: bytes,
        stdout: IO[bytes] | None,
    ) -> subprocess.CompletedProcess[bytes]:
        """Run the program to its end, as `subprocess.run` does; without a `stdout` of the caller's it is captured."""
        order = json.dumps({"arguments": arguments, "environment": environment, "folder": str(folder)})
        with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            given.write(stdin)
            given.seek(0)
            socket.send_fds(self._orders, [order.encode()], [file.fileno() for file in (given, stdout or out, err)])
            child = int(self._orders.recv(100))
            with _killed_after(child, 120):
                code = os.waitstatus_to_exitcode(int(self._orders.recv(100)))
            out.seek(0)
            err.seek(0)
            return subprocess.CompletedProcess(arguments, code, out.read(), err.read())


@contextmanager
def _killed_after(process: int, seconds: int) -> Iterator[None]:
    timer = threading.Timer(seconds, os.kill, (process, signal.SIGKILL))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@cache
def forks() -> Forks:
    return Forks()


class Program:
    """Starts `python -m crawler` with an environment of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment: dict[str, str] = {}

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-W", "error", "-m", "crawler", *arguments]

    def env(self) -> dict[str, str]:
        return {**os.environ, **self.environment, "COLUMNS": "100"}

    def run(
        self, *arguments: str, stdin: bytes = b"", stdout: IO[bytes] | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        return forks().run(arguments, self.env(), self.folder, stdin, stdout)

    def crawl(self, accounts: str, *arguments: str) -> Crawled:
        (self.folder / "accounts.yaml").write_text(accounts)
        done = self.run("--accounts", "accounts.yaml", "--ledger", "ledger", "--report", "report", *arguments)
        ledger, report = self.folder / "ledger", self.folder / "report"
        return Crawled(
            done.returncode,
            done.stdout,
            done.stderr.decode(),
            [json.loads(line) for line in ledger.read_bytes().splitlines()] if ledger.exists() else [],
            json.loads(report.read_bytes()) if report.exists() else {},
        )


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return Program(tmp_path)


@pytest.fixture(scope="module", params=SCHEMES)
def certificate(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Certificate | None:
    """That of the emulator where it speaks TLS; a module that asks for it runs over plain HTTP, and once more."""
    return certify(tmp_path_factory.mktemp("certificate")) if request.param == "https" else None
