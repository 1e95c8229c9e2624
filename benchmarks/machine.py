"""The two cores: the emulator on the first, the client that is measured on the last."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

_MEASURE = str(Path(__file__).with_name("measure.py"))


def cores() -> tuple[int, int]:
    """(server, client). With one core they are the same, and figures mean nothing; -1 where cores cannot be chosen."""
    if sys.platform != "linux":
        return -1, -1
    usable = sorted(os.sched_getaffinity(0))
    return usable[0], usable[-1]


SERVER, CLIENT = cores()


@dataclass(frozen=True)
class Cost:
    """Seconds of wall clock and of CPU (user and system), peak resident bytes, seconds to the first byte of output."""

    wall: float
    cpu: float
    rss: float
    first: float | None = None


class Failed(Exception):
    """A command of a benchmark failed, and what it said."""


def run(
    command: Sequence[str],
    env: Mapping[str, str],
    *,
    read: Callable[[IO[bytes]], None] | None = None,
    core: int = CLIENT,
) -> Cost:
    """Run to the end on the client's core, or another one (-1 for any); output to the null device, or to `read`.

    `read` is given the pipe. Raises `Failed` for any exit code but 0.
    """
    return _run(command, env, "all", read, core)


def first_byte(command: Sequence[str], env: Mapping[str, str]) -> Cost:
    """Run until the first byte of output."""
    return _run(command, env, "first", None, CLIENT)


def _run(
    command: Sequence[str], env: Mapping[str, str], until: str, read: Callable[[IO[bytes]], None] | None, core: int
) -> Cost:
    with TemporaryDirectory() as folder, Path(folder, "errors").open("w+b") as errors:
        result = Path(folder, "result.json")
        runner = [sys.executable, "-I", "-S", _MEASURE, str(result), str(core), until, *command]
        output = subprocess.PIPE if read else subprocess.DEVNULL
        with subprocess.Popen(runner, env=env, stdout=output, stderr=errors) as process:
            if read and process.stdout:
                read(process.stdout)
        errors.seek(0)
        if process.returncode:
            said = errors.read().decode(errors="replace").strip()
            raise Failed(f"{' '.join(command)} ended with {process.returncode}:\n{said}")
        return Cost(**json.loads(result.read_text()))


def multiset(lines: Iterable[bytes]) -> tuple[int, int]:
    """Count and order-free hash: equal for the same lines in any order, within this process.

    A sum, not an exclusive or: a line that is there twice must not cancel itself.
    """
    count = total = 0
    for line in lines:
        count += 1
        total += hash(line)
    return count, total
