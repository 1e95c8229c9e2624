"""No secret in what is told or left, at any level: log, report, page, traceback, state of a run, process arguments."""

from __future__ import annotations

import gzip
import io
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from crawler.emulator import Account, Emulator, Estate, Options, Repository, running
from crawler.emulator.images import MIXED, Series
from tests.program.conftest import Program

REGION = "eu-west-1"
ACCOUNTS = ("000000000001", "000000000002")
ESTATE = Estate(
    [
        Account(
            id_, repositories={REGION: {name: Repository(name, Series(name, 50, MIXED)) for name in ("api", "web")}}
        )
        for id_ in ACCOUNTS
    ],
    regions=[REGION],
)
CRAWL = ("--accounts", "accounts.yaml", "--hints", "hints")
#: The program, in which the first request of a session meets a bug, with the signed headers at hand.
BUGGY = """
from crawler.aws import http
from crawler.__main__ import main

serialize = http.serialize

def buggy(method, target, headers, body):
    if "X-Amz-Security-Token" in headers:
        raise RuntimeError("a bug")
    return serialize(method, target, headers, body)

http.serialize = buggy
main()
"""

#: How much is told, and how.
TOLD = [(*level, "--log-format", form) for level, form in product([(), ("-v",), ("-vv",)], ["text", "json"])]


def levels(*quick: tuple[str, ...]) -> pytest.MarkDecorator:
    """All of them, of which only these are no slow ones."""
    marks = {told: () if told in quick else pytest.mark.slow for told in TOLD}
    return pytest.mark.parametrize("told", [pytest.param(told, id=" ".join(told), marks=marks[told]) for told in TOLD])


class Held:
    """The clock of an emulator that answers nobody, from the second page of rows on, until `release`."""

    def __init__(self) -> None:
        self.emulator: Emulator | None = None
        self.reached, self._released = threading.Event(), threading.Event()

    def __call__(self) -> float:
        # Each request is held against the clock, in the one thread of the emulator.
        if self.emulator and self.emulator.stats()["requests"]["ecr:ListImages"]:
            self.reached.set()
            self._released.wait(60)
        return time.time()

    def release(self) -> None:
        self._released.set()


@contextmanager
def company(program: Program, options: Options | None = None) -> Iterator[Emulator]:
    with running(ESTATE, options) as emulator:
        program.environment |= emulator.environment()
        program.environment["HTTPS_PROXY"] = "http://proxy:CanaryOfTheProxy0000@127.0.0.1:1"
        roles = "".join(f"- {{account_id: '{id_}', role: inventory, regions: [{REGION}]}}\n" for id_ in ACCOUNTS)
        (program.folder / "accounts.yaml").write_text(f"accounts:\n{roles}")
        yield emulator


def secrets(emulator: Emulator) -> list[bytes]:
    """Beginning and end of each: what is cut off is still a secret."""
    sessions = [keys for keys in emulator.world.sessions._keys.values() if keys.session_token]
    assert sessions, "no role was assumed"
    whole = ["CanaryOfTheProxy0000", emulator.environment()["AWS_SECRET_ACCESS_KEY"]]
    whole += [secret for keys in sessions for secret in (keys.secret_key, str(keys.session_token))]
    return [part.encode() for secret in whole for part in (secret[:16], secret[-16:])] + [b"Signature="]


def left(folder: Path) -> Iterator[tuple[str, bytes]]:
    """All files, hidden ones too, and what is in those that are compressed."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                data = file.read()
            yield str(path), data
            if path.suffix == ".gz":
                yield str(path), gzip.decompress(data)
            elif path.suffix == ".parquet" and data.endswith(b"PAR1"):
                table = pq.read_table(io.BytesIO(data))
                yield str(path), f"{table.schema.metadata} {table.to_pylist()}".encode()


def family(process: int) -> Iterator[Path]:
    """What /proc has of the process, and of all that it has started."""
    yield Path(f"/proc/{process}")
    for thread in Path(f"/proc/{process}/task").iterdir():
        for child in (thread / "children").read_text().split():
            yield from family(int(child))


def assert_none(emulator: Emulator, told: Iterable[tuple[str, bytes]]) -> None:
    canaries = secrets(emulator)
    assert [(where, canary) for where, data in told for canary in canaries if canary in data] == []


@levels(*TOLD)
def test_of_a_run_into_files(program: Program, told: tuple[str, ...]) -> None:
    with company(program, Options(faults=["access-denied:account=000000000002", "unavailable:times=1"])) as emulator:
        done = program.run(*CRAWL, "--output", "rows", "--ledger", "ledger", "--report", "report", *told)
    assert done.returncode == 3, done.stderr
    assert (b"debug" in done.stderr) == ("-vv" in told), "the log of requests"
    files = list(left(program.folder))
    assert {Path(name).name for name, _ in files} == {"accounts.yaml", "hints", "ledger", "report", "rows"}
    assert_none(emulator, [("stdout", done.stdout), ("stderr", done.stderr), *files])


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="arguments are read from /proc")
@levels(("-vv", "--log-format", "json"))
def test_of_a_published_run_by_workers(program: Program, told: tuple[str, ...]) -> None:
    held = Held()
    publishing = ("--output", "out/", "--run-id", "r", "--workers", "2", "--delta", "table")
    with company(program, Options(clock=held)) as emulator, (program.folder / "stderr").open("wb") as stderr:
        held.emulator = emulator
        process = subprocess.Popen(
            program.command(*CRAWL, *publishing, *told), env=program.env(), cwd=program.folder, stderr=stderr
        )
        try:
            assert held.reached.wait(60)
            arguments = [(str(each), (each / "cmdline").read_bytes()) for each in family(process.pid)]
            half_way = list(left(program.folder))
            held.release()
            assert process.wait(60) == 0, (program.folder / "stderr").read_text()
        finally:
            held.release()
            process.kill()
            process.wait()
    assert len([line for _, line in arguments if b"\0worker\0" in line]) == 2
    assert "attempts" in "".join(name for name, _ in half_way), half_way
    page = program.run("report", "r", "--output", "out/", "-o", "page.html")
    assert page.returncode == 0, page.stderr
    files = list(left(program.folder))
    assert {".json", ".gz", ".parquet", ".html"} <= {Path(name).suffix for name, _ in files}
    assert_none(emulator, [("stderr", page.stderr), *arguments, *half_way, *files])


@levels(("-vv", "--log-format", "text"))
def test_of_a_bug(program: Program, told: tuple[str, ...]) -> None:
    with company(program) as emulator:
        done = subprocess.run(
            [sys.executable, "-c", BUGGY, *CRAWL, "--ledger", "ledger", *told],
            env=program.env(), cwd=program.folder, capture_output=True, check=False,
        )  # fmt: skip
        assert b"RuntimeError: a bug" in done.stderr
        assert b"Traceback" in done.stderr
        assert_none(emulator, [("stdout", done.stdout), ("stderr", done.stderr), *left(program.folder)])
