"""Every command that stands in a `console` block of the documentation, run as a reader would run it."""

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

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted(page for page in (ROOT / "docs").rglob("*.md") if "```console" in page.read_text())

_BLOCK = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)
_END = "--- end of a command ---"

pytestmark = pytest.mark.slow


def steps(page: Path) -> Iterator[tuple[str, str]]:
    """Commands of a page, each with what is said to come of it."""
    for block in _BLOCK.findall(page.read_text()):
        for step in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, told = step.partition("\n")
            yield command, told.rstrip("\n")


def fits(told: str, output: str) -> bool:
    """Whether the output is what was told; an ellipsis stands for anything, on a line of its own for any lines."""
    pattern = "".join(
        r"(?:[^\n]*\n)*?" if line == "…" else r"[^\n]*".join(map(re.escape, line.split("…"))) + "\n"
        for line in told.splitlines()
    )
    return re.fullmatch(pattern, output + "\n" if output and not output.endswith("\n") else output) is not None


class Reader:
    """Who works through a page: in two shells, where it says so."""

    def __init__(self, folder: Path, exits: ExitStack) -> None:
        self._folder = folder
        self._exits = exits
        (folder / "bin").mkdir()
        crawler = folder / "bin" / "crawler"
        crawler.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m crawler "$@"\n')
        crawler.chmod(0o700)
        self._environment = {**os.environ, "PATH": f"{crawler.parent}:{os.environ['PATH']}", "COLUMNS": "200"}
        self._shell = exits.enter_context(_started(["bash", "--norc"], folder, self._environment, errors_too=True))
        self._emulator: subprocess.Popen[str] | None = None
        self._said = ""

    def follow(self, command: str) -> str:
        """Run a command; return what a terminal would show."""
        if command.startswith("crawler emulator"):
            return self._emulate(command)
        if command.startswith("export AWS_ENDPOINT_URL="):
            command = self._said.strip()  # the line that was to be pasted
        stdin, stdout = cast("tuple[IO[str], IO[str]]", (self._shell.stdin, self._shell.stdout))
        stdin.write(f"set -o pipefail; {command}\necho '{_END}'$?\n")
        stdin.flush()
        said = ""
        while _END not in (line := stdout.readline()):
            assert line, said
            said += line
        assert line == f"{_END}0\n", f"$ {command}\n{said}{line}"
        return said

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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT / "docs")))
def test_what_a_reader_sees_is_what_stands_there(page: Path, tmp_path: Path) -> None:
    with ExitStack() as exits:
        reader = Reader(tmp_path, exits)
        for command, told in steps(page):
            output = reader.follow(command)
            if not command.startswith("export "):
                assert fits(told, output), f"$ {command}\n{output}\n--- instead of ---\n{told}"
