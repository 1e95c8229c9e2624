"""Commands whose standard output cannot take what they print, or is not there: a line, and exit code 1."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.program.conftest import Program
from tests.program.test_secrets import CRAWL, ESTATE, company

ACCOUNTS = CRAWL[:2]
OUTPUT = ("--output", "out/")
#: All that print; the crawl itself has its own words for it, in `test_signals.py`.
PRINTING = [
    ("--help",),
    ("--version",),
    ("schema",),
    ("completion", "bash"),
    ("policy", *ACCOUNTS),
    ("import", "profiles"),
    ("import", "organization"),
    ("doctor", *ACCOUNTS),
    ("doctor", *ACCOUNTS, "--format", "json"),
    ("plan", *ACCOUNTS),
    ("plan", *ACCOUNTS, "--format", "json"),
    ("runs", *OUTPUT),
    ("show", "r", *OUTPUT),
    ("emulator", "--fault", "list"),
]


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """With a run to tell of."""
    program = Program(tmp_path_factory.mktemp("printing"))
    (program.folder / "config").write_text("[profile one]\nrole_arn = arn:aws:iam::000000000001:role/inventory\n")
    with company(program):
        done = program.run(*ACCOUNTS, *OUTPUT, "--run-id", "r")
        assert done.returncode == 0, done.stderr
        program.environment["AWS_CONFIG_FILE"] = str(program.folder / "config")
        yield program


def told(done: subprocess.CompletedProcess[bytes]) -> str:
    said = done.stderr.decode()
    assert "Traceback" not in said
    assert "Exception ignored" not in said
    assert done.returncode == 1, said
    return said.splitlines()[-1]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
@pytest.mark.parametrize("command", PRINTING, ids=" ".join)
def test_a_full_disk_is_told(ours: Program, command: tuple[str, ...]) -> None:
    with Path("/dev/full").open("wb") as full:
        assert "No space left on device" in told(ours.run(*command, stdout=full))


@pytest.mark.parametrize("command", PRINTING, ids=" ".join)
def test_a_closed_standard_output_is_told(ours: Program, command: tuple[str, ...]) -> None:
    closed = ("/bin/sh", "-c", '"$@" >&-', "sh", *ours.command(*command))
    done = subprocess.run(closed, env=ours.env(), cwd=ours.folder, stderr=subprocess.PIPE, timeout=60, check=False)
    assert "closed" in told(done)


@pytest.mark.parametrize("closed", [">&-", "<&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("workers", [(), ("--workers", "2")], ids=["alone", "workers"])
def test_a_crawl_into_a_file_does_without(ours: Program, closed: str, workers: tuple[str, ...]) -> None:
    """Were its number free, the rows would have it, with all that is said to it; or a socket, and libuv would abort."""
    (ours.folder / "rows").unlink(missing_ok=True)
    command = ours.command(*ACCOUNTS, "--output", "rows", *workers)
    shell = ("/bin/sh", "-c", f'"$@" {closed}', "sh", *command)
    done = subprocess.run(shell, env=ours.env(), cwd=ours.folder, stderr=subprocess.PIPE, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert len((ours.folder / "rows").read_bytes().splitlines()) == len(list(ESTATE.rows()))
