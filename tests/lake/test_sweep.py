"""The Nth write, sync, rename or creation of a file fails, or is the last thing that the process does; N = 1, 2, …

Then the same command again. Nothing is lost, nothing comes twice, and at no moment is anything there that is not whole.
`make test` takes one N of some sweeps; `make sweep` (SWEEP=all) every N of all, until a run meets none, and prints how
far each came.
"""

from __future__ import annotations

import errno
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from crawler.emulator import Estate
from tests.lake.conftest import KILLED, Place, Zygote, company
from tests.lake.test_crash import check_published, check_unpublished_or_whole, command, rows_of_table

ALL = os.environ.get("SWEEP") == "all"
#: More than any run here has operations of one kind: a sweep that comes so far does not end by itself.
FAR = 2000


@dataclass(frozen=True)
class Sweep:
    """An operation, and what happens at the Nth: an error, which lasts or not, or SIGKILL for 0."""

    operation: str
    error: int
    lasts: bool = False

    def __str__(self) -> str:
        what = errno.errorcode[self.error] if self.error else "SIGKILL"
        return f"{self.operation}-{what}{'-for-ever' if self.lasts else ''}"


SWEEPS = [
    Sweep("write", errno.ENOSPC),
    Sweep("write", errno.ENOSPC, lasts=True),
    Sweep("write", errno.EIO),
    Sweep("write", 0),
    Sweep("sync", errno.EIO),
    Sweep("sync", errno.ENOSPC),
    Sweep("sync", 0),
    Sweep("name", errno.ENOSPC),
    Sweep("name", errno.EIO),
    Sweep("name", 0),
    Sweep("create", errno.ENOSPC),
    Sweep("create", errno.EIO),
    Sweep("create", 0),
    Sweep("remove", errno.EIO),
    Sweep("remove", 0),
]
#: Those of `make test`, at one N each: in the middle of a run that is published, of one into files, and of one whose
#: table or hints are written.
SAMPLE = {"write-ENOSPC-for-ever": (9, 2, 30), "name-SIGKILL": (6, 1, 10)}


@pytest.fixture(scope="module")
def estate() -> Estate:
    return company(accounts=2, repositories=4, images=60)


@pytest.fixture
def local(tmp_path: Path) -> Place:
    return Place(f"{tmp_path}/out/", folder=tmp_path / "out")


@pytest.fixture(params=SWEEPS if ALL else [sweep for sweep in SWEEPS if str(sweep) in SAMPLE], ids=str)
def sweep(request: pytest.FixtureRequest, failing_disk: Path | None) -> Sweep:
    if failing_disk is None:
        pytest.skip("no C compiler, or not Linux: tests/lake/failing_disk.c cannot be loaded")
    found: Sweep = request.param
    return found


def numbers(sweep: Sweep, sample: int) -> Iterator[int]:
    yield from range(1, FAR) if ALL else [SAMPLE[str(sweep)][sample]]


def swept(
    program: Zygote, sweep: Sweep, numbers: Iterator[int], attempt: Callable[[int], list[str]]
) -> Iterator[tuple[int, int]]:
    """Run until the Nth operation is one too many; yield each N with how the program ended."""
    at = 0
    for at in numbers:
        code = program.run(*attempt(at), fault=(sweep.operation, at, sweep.error, sweep.lasts), checkpoint=0.1)
        if not (program.folder / "struck").read_text():
            assert code == 0, program.said()
            break
        yield at, code
        (program.folder / "stderr").unlink(missing_ok=True)
    else:
        assert not ALL, "there is always one more"
    print(f"{sweep}: N = 1 … {at - 1}" if ALL else f"{sweep}: N = {at}")


def told(program: Zygote, sweep: Sweep, code: int) -> None:
    """A process that was not killed says what happened, in its own words."""
    if sweep.error == 0:
        assert code == KILLED
        return
    if code == 0 and sweep.operation in ("create", "remove"):
        # Python makes a temporary file in another way if the first fails. What cannot be removed is hidden.
        return
    said = f"{(program.folder / 'struck').read_text()}{program.said()}"
    assert code in (1, 2), said
    assert os.strerror(sweep.error) in said, said
    for bug in ("Traceback", "panicked", "BaseExceptionGroup"):
        assert bug not in said, said


def test_a_published_run(program: Zygote, local: Place, estate: Estate, sweep: Sweep) -> None:
    expected = Counter(estate.rows())

    def loud(at: int) -> list[str]:
        return [word for word in command(local, f"r{at}") if word != "--quiet"]

    for at, code in swept(program, sweep, numbers(sweep, 0), loud):
        told(program, sweep, code)
        run_id = f"r{at}"
        check_unpublished_or_whole(local, run_id, expected)
        assert program.run(*command(local, run_id)) == 0, program.said()
        check_published(local, run_id, expected)


def test_a_table_and_hints(program: Zygote, local: Place, estate: Estate, sweep: Sweep) -> None:
    """Hints that cannot be kept are a warning alone: the rows are whole, and the next night is no faster than this.

    delta-rs does not always say why it failed, and its own threads may panic beside that.
    """
    expected, hints = Counter(estate.rows()), program.folder / "hints.json"

    def loud(at: int) -> list[str]:
        words = [word for word in command(local, f"r{at}") if word != "--quiet"]
        return [*words, "--hints", hints.name, "--delta", f"table-{at}"]

    for at, code in swept(program, sweep, numbers(sweep, 2), loud):
        table, said = f"table-{at}", program.said()
        if code == 0 and "hints are not kept: " in said:
            assert f"{hints.name}: {os.strerror(sweep.error)}" in said
            assert "not complete" not in said
        elif code == 1 and table in (program.folder / "struck").read_text():
            assert f"FAILED: TableFailed: --delta {table}: " in said
            assert "Traceback" not in said
        else:
            told(program, sweep, code)
        if hints.exists():
            json.loads(hints.read_bytes())
        check_unpublished_or_whole(local, f"r{at}", expected)
        assert program.run(*loud(at)) == 0, program.said()
        check_published(local, f"r{at}", expected)
        assert rows_of_table(program.folder / table) == expected


def test_files(program: Zygote, estate: Estate, sweep: Sweep) -> None:
    expected = Counter(estate.rows())
    names = ["rows", "ledger", "report"]
    for name in names:
        (program.folder / name).write_text("of yesterday")
    arguments = ["--accounts", "accounts.yaml", *(word for name in names for word in (f"--{name}", name))]
    arguments[arguments.index("--rows")] = "--output"
    for _, code in swept(program, sweep, numbers(sweep, 1), lambda _: arguments):
        told(program, sweep, code)
        if "rows" not in check_old_or_whole(program.folder, expected) and sweep.operation != "create":
            assert (program.folder / "rows.partial").exists()
        assert program.run(*arguments) == 0, program.said()
        assert check_old_or_whole(program.folder, expected) == set(names)
        for name in names:
            (program.folder / name).write_text("of yesterday")


def check_old_or_whole(folder: Path, expected: Counter[object]) -> set[str]:
    """What is under a name is that of yesterday, or all of today's; return the names of today's."""
    new = {name for name in ("rows", "ledger", "report") if (folder / name).read_text() != "of yesterday"}
    if "rows" in new:
        rows = Counter(tuple(json.loads(line).values()) for line in (folder / "rows").read_bytes().splitlines())
        assert rows == expected
    if "ledger" in new:
        # Also that of a run that failed appears, and tells how far it came.
        lines = [json.loads(line) for line in (folder / "ledger").read_bytes().splitlines()]
        assert (sum(line["rows"] for line in lines) == expected.total()) or "rows" not in new
    if "report" in new:
        json.loads((folder / "report").read_bytes())
    return new
