"""Several processes on one run: the same rows and ledger as one, whichever of them is killed."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import termios
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from crawler.emulator import Emulator, Estate
from tests.lake.conftest import Place, Zygote, company, rows_of
from tests.lake.test_crash import check_published, check_unpublished_or_whole, command
from tests.program.test_signals import IN_TIME

_WORKERS = ["--workers", "2"]

#: Each takes some seconds: one that tells whether it works is part of `make test`.
_OFTEN = pytest.mark.parametrize(
    ("place", "times"),
    [
        ("local", 1),
        *(pytest.param(*where, marks=pytest.mark.slow) for where in (("local", 10), ("s3", 1), ("s3", 10))),
    ],
    indirect=["place"],
)


@pytest.fixture(scope="module")
def estate() -> Estate:
    """Accounts enough for two workers to have several each, one after the other."""
    return company(accounts=12, repositories=5, images=30)


@pytest.fixture
def local(tmp_path: Path) -> Place:
    return Place(f"{tmp_path}/out/", folder=tmp_path / "out")


def places(estate: Estate) -> dict[str, list[str]]:
    return {key: list(account.repositories) for key, account in estate.accounts.items()}


def pids(parent: int) -> list[int]:
    """The workers of a process."""
    try:
        return [int(pid) for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]
    except OSError:
        return []


@contextmanager
def started(program: Zygote, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    with (
        (program.folder / "stderr").open("wb") as errors,
        subprocess.Popen(
            [sys.executable, "-m", "crawler", *arguments],
            env={**os.environ, **program.environment},
            cwd=program.folder,
            stdout=subprocess.PIPE,
            stderr=errors,
        ) as process,
    ):
        try:
            yield process
        finally:
            process.kill()


def comparable(ledger: list[dict[str, Any]]) -> Counter[str]:
    """Lines without what differs from run to run."""
    return Counter(json.dumps({**line, "seconds": 0, "lastTokenHash": None}) for line in ledger)


def check_equal(place: Place, estate: Estate) -> None:
    """The run `two` has the rows, the ledger and the manifest of the run `one`."""
    check_published(place, "two", Counter(estate.rows()))
    assert comparable(place.ledger("two")) == comparable(place.ledger("one"))
    one, two = place.manifest("one"), place.manifest("two")
    assert one
    assert two
    same = ("status", "format", "schema_version", "rows", "missing", "targets", "repositories", "settings", "failures")
    assert {key: one[key] for key in same} == {key: two[key] for key in same}


def requests(emulator: Emulator) -> int:
    return int(emulator.stats()["requests"].get("ecr:ListImages", 0))


def test_rows_ledger_and_manifest_are_those_of_one_process(program: Zygote, local: Place, estate: Estate) -> None:
    options = (
        "--page-size",
        "60",
        "--hints",
    )  # the largest repositories are ten pages then, and worth remembering
    assert program.run(*command(local, "one"), *options, "one.json") == 0, program.said()
    assert program.run(*command(local, "two"), *options, "two.json", *_WORKERS) == 0, program.said()
    hints, other = (json.loads((program.folder / f"{name}.json").read_bytes()) for name in ("one", "two"))
    assert hints == other
    assert set(hints["targets"]) == {f"{key}/{region}" for key, regions in places(estate).items() for region in regions}
    check_equal(local, estate)


def test_one_account_is_cut_by_region(program: Zygote, local: Place, estate: Estate) -> None:
    """Its two regions are a shard each, and what comes of it is what one process finds."""
    (account_id, *_) = estate.accounts
    for run, workers in (("one", []), ("two", _WORKERS)):
        assert program.run(*command(local, run), "--account", account_id, *workers) == 0, program.said()
    check_published(local, "two", Counter(row for row in estate.rows() if row[0] == account_id))
    assert comparable(local.ledger("two")) == comparable(local.ledger("one"))
    manifest = local.manifest("two")
    assert manifest
    assert len(manifest["records"]) == 2


def kill_workers(process: subprocess.Popen[bytes], emulator: Emulator, times: int, every: int) -> int:
    """Kill a worker whenever so many requests more were answered; return how many were killed."""
    killed, at = 0, requests(emulator)
    while killed < times and process.poll() is None:
        if requests(emulator) - at >= every and (workers := pids(process.pid)):
            os.kill(workers[killed % len(workers)], signal.SIGKILL)
            killed, at = killed + 1, requests(emulator)
        time.sleep(0.005)
    return killed


@_OFTEN
def test_a_worker_is_killed(program: Zygote, place: Place, estate: Estate, emulator: Emulator, times: int) -> None:
    with started(program, *command(place, "r"), *_WORKERS, "--max-rps", "15") as process:
        assert kill_workers(process, emulator, times, every=3) == times
        assert process.wait(120) == 0, program.said()
    check_published(place, "r", Counter(estate.rows()))
    assert place.manifest("r")["status"] == "complete"  # type: ignore[index]  # None would fail here, and should


@pytest.mark.parametrize("times", [1, pytest.param(10, marks=pytest.mark.slow)])
def test_a_worker_is_killed_while_rows_go_to_a_stream(
    program: Zygote, estate: Estate, emulator: Emulator, times: int
) -> None:
    arguments = ["--accounts", "accounts.yaml", "--ledger", "ledger", "--quiet", *_WORKERS, "--max-rps", "15"]
    with started(program, *arguments, "--output", "rows.ndjson") as process:
        assert kill_workers(process, emulator, times, every=3) == times
        assert process.wait(120) == 0, program.said()
    rows = rows_of((program.folder / "rows.ndjson").read_bytes(), "rows.ndjson")
    assert Counter(rows) == Counter(estate.rows())
    units = [json.loads(line) for line in (program.folder / "ledger").read_bytes().splitlines()]
    assert len({(unit["registryId"], unit["region"], unit["repositoryName"]) for unit in units}) == len(units)


@_OFTEN
def test_the_driver_is_killed_and_goes_on(
    program: Zygote, place: Place, estate: Estate, emulator: Emulator, times: int
) -> None:
    """Its workers end with it; the next attempt rests on what they had committed."""
    expected = Counter(estate.rows())
    total = sum(1 for account in estate.accounts.values() for region in account.repositories.values() for _ in region)
    for _ in range(times):
        with started(program, *command(place, "r"), *_WORKERS, "--max-rps", "15") as process:
            at = requests(emulator)
            while requests(emulator) - at < total // (2 * times + 1) and process.poll() is None:
                time.sleep(0.005)
            workers = pids(process.pid)
            process.kill()
            process.wait()
        until = time.monotonic() + 10
        while any(Path(f"/proc/{pid}/stat").exists() and alive(pid) for pid in workers):
            assert time.monotonic() < until, "a worker outlives its driver"
            time.sleep(0.01)
        check_unpublished_or_whole(place, "r", expected)
    before = requests(emulator)
    assert program.run(*command(place, "r"), *_WORKERS) == 0, program.said()
    check_published(place, "r", expected)
    if times == 1:
        assert requests(emulator) - before < total + 12, "nothing was rested on"


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (OSError, IndexError):
        return False


@pytest.mark.parametrize("whom", ["the first", pytest.param("all", marks=pytest.mark.slow)])
def test_a_run_that_was_stopped_goes_on(
    program: Zygote, local: Place, estate: Estate, emulator: Emulator, whom: str
) -> None:
    """By Ctrl-C; by a service manager, which tells all of them. What had been fetched is not asked for again."""
    with started(program, *command(local, "r"), *_WORKERS, "--max-rps", "15") as process:
        at = requests(emulator)
        while requests(emulator) - at < 40 and process.poll() is None:
            time.sleep(0.005)
        for pid in pids(process.pid) if whom == "all" else []:
            os.kill(pid, signal.SIGINT)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 128 + signal.SIGINT, program.said()
    check_unpublished_or_whole(local, "r", Counter(estate.rows()))
    before = requests(emulator)
    assert program.run(*command(local, "r"), *_WORKERS) == 0, program.said()
    check_published(local, "r", Counter(estate.rows()))
    total = sum(1 for account in estate.accounts.values() for region in account.repositories.values() for _ in region)
    assert requests(emulator) - before < total + 12, "nothing was rested on"


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_signal_leaves_whole_lines_and_a_line_for_each_account(
    program: Zygote, estate: Estate, emulator: Emulator, number: signal.Signals
) -> None:
    arguments = ["--accounts", "accounts.yaml", "--ledger", "ledger", *_WORKERS, "--max-rps", "10"]
    with started(program, *arguments) as process:
        at = requests(emulator)
        while requests(emulator) - at < 20:
            time.sleep(0.005)
        sent = time.monotonic()
        process.send_signal(number)
        stdout, _ = process.communicate(timeout=30)
        assert time.monotonic() - sent < IN_TIME
    assert process.returncode == 128 + number, program.said()
    assert not (program.folder / "ledger.partial").exists()
    units = [json.loads(line) for line in (program.folder / "ledger").read_bytes().splitlines()]
    assert {unit["registryId"] for unit in units} == set(estate.accounts)
    assert len({(unit["registryId"], unit["region"], unit["repositoryName"]) for unit in units}) == len(units)
    outcomes = {unit["outcome"] for unit in units}
    assert "FAILED" in outcomes
    assert outcomes & {"OK", "EMPTY"}, "nothing had ended yet"
    rows = Counter(rows_of(stdout, "rows.ndjson"))
    assert rows <= Counter(estate.rows())
    assert sum(unit["rows"] for unit in units) == rows.total()


def in_pipe(process: subprocess.Popen[bytes]) -> int:
    """Bytes of its standard output that nobody has read yet."""
    assert process.stdout
    return int.from_bytes(fcntl.ioctl(process.stdout, termios.FIONREAD, bytes(4)), sys.byteorder)


@pytest.mark.slow  # the same of files and pipes is in program/test_pipes.py
def test_a_signal_while_nobody_reads_counts_what_was_written_and_no_more(
    program: Zygote, estate: Estate, emulator: Emulator
) -> None:
    """The pipe holds the rows of an account or two, which take six requests each."""
    some = ["--repository", "team/[234]"]
    with started(program, "--accounts", "accounts.yaml", "--ledger", "ledger", *some, *_WORKERS) as process:
        at = requests(emulator)
        while not in_pipe(process) or requests(emulator) - at < 24:
            time.sleep(0.005)
        sent = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 128 + signal.SIGTERM, program.said()
        assert time.monotonic() - sent < IN_TIME
        assert process.stdout
        *lines, _ = process.stdout.read().splitlines(keepends=True)
    assert "rows that their reader did not take are lost" in program.said()
    assert "Not written: " in program.said()
    assert lines
    rows = Counter(rows_of(b"".join(lines), "rows.ndjson"))
    assert rows <= Counter(estate.rows())
    units = [json.loads(line) for line in (program.folder / "ledger").read_bytes().splitlines()]
    assert {unit["registryId"] for unit in units} == set(estate.accounts)
    assert len({(unit["registryId"], unit["region"], unit["repositoryName"]) for unit in units}) == len(units)
    assert "NotWritten" in {unit["code"] for unit in units}
    read = Counter(row[:3] for row in rows.elements())
    for unit in units:
        if unit["outcome"] == "OK" and unit["repositoryName"]:
            assert read[unit["registryId"], unit["region"], unit["repositoryName"]] == unit["rows"]


#: Python itself runs this in each process: what is sent from one to another is written down.
SPY = """
import os, pickle

def dumps(*arguments, **options):
    sent = pickled(*arguments, **options)
    with open(os.path.join({folder!r}, f"sent-{{os.getpid()}}"), "ab") as file:
        file.write(sent)
    return sent

pickled, pickle.dumps = pickle.dumps, dumps
"""


def test_what_is_sent_between_processes_holds_no_keys(program: Zygote, estate: Estate, emulator: Emulator) -> None:
    """Each finds its own: those of the environment, and those of the roles that it assumes."""
    (program.folder / "sitecustomize.py").write_text(SPY.format(folder=str(program.folder)))
    program.environment["PYTHONPATH"] = f"{program.folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    with started(program, "--accounts", "accounts.yaml", "--output", "rows.ndjson", *_WORKERS) as process:
        assert process.wait(120) == 0, program.said()
    files = list(program.folder.glob("sent-*"))
    sent = b"".join(file.read_bytes() for file in files)
    assert len(files) == 3, "the driver and its workers"
    assert all(account_id.encode() in sent for account_id in estate.accounts)
    assert b"inventory" in sent, "roles are sent, by name"
    issued = [keys for keys in emulator.world.sessions._keys.values() if keys.session_token]
    assert issued
    secrets = [program.environment[f"AWS_{name}"] for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY")]
    secrets += [secret for keys in issued for secret in (keys.secret_key, str(keys.session_token))]
    assert not [secret for secret in secrets if secret.encode() in sent]
