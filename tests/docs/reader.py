"""Who works through a page of the documentation: in two shells, where it says so."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, cast

_END = "--- end of a command ---"
_EMULATES = re.compile(r"(python -m )?crawler emulator ")


class Reader:
    """Types commands in a folder of their own, which is the home as well."""

    def __init__(self, folder: Path, exits: ExitStack, environment: dict[str, str]) -> None:
        self._folder = folder
        self._exits = exits
        mine = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "CRAWLER_"))}
        # The environment that the tests run in has the program installed, as a reader has.
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self._environment = mine | {"PATH": path, "HOME": str(folder), "COLUMNS": "200"} | environment
        self._shell = exits.enter_context(_started(["bash", "--norc"], folder, self._environment, errors_too=True))
        self._emulator: subprocess.Popen[str] | None = None
        self._said = ""

    def follow(self, command: str) -> tuple[int, str]:
        """Run a command; return its exit code, and what a terminal would show."""
        if _EMULATES.match(command):
            return 0, self._emulate(command)
        if command.startswith("export AWS_ENDPOINT_URL="):
            command = self._said.strip()  # the line that was to be pasted
        stdin, stdout = cast("tuple[IO[str], IO[str]]", (self._shell.stdin, self._shell.stdout))
        stdin.write(f"set -o pipefail; {command}\necho '{_END}'$?\n")
        stdin.flush()
        said = ""
        while _END not in (line := stdout.readline()):
            assert line, said
            said += line
        last, _, code = line.partition(_END)
        return int(code), said + last

    def _emulate(self, command: str) -> str:
        if self._emulator:
            self._emulator.send_signal(signal.SIGINT)
            self._emulator.wait(10)
        started = _started(["bash", "-c", f"exec {command}"], self._folder, self._environment)
        self._emulator = self._exits.enter_context(started)
        assert self._emulator.stdout
        self._said = self._emulator.stdout.readline()
        return self._said


@contextmanager
def _started(
    command: list[str], folder: Path, environment: dict[str, str], *, errors_too: bool = False
) -> Iterator[subprocess.Popen[str]]:
    errors = subprocess.STDOUT if errors_too else subprocess.DEVNULL
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()
