"""What is written is its owner's alone, whatever umask the program is started with."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import pytest
from pyiceberg.catalog import load_catalog

from crawler.emulator import Options
from tests.program.conftest import Program
from tests.program.test_secrets import CRAWL, Held, company, family

OTHERS = 0o077
FILES = ("--ledger", "ledger", "--report", "report")
PUBLISHED = ("--output", "out/", "--run-id")

#: A task on a cluster, whose processes have the umask of whoever has started that.
TASK = """
from crawler.runs.documents import Claim
from crawler.settings import Settings
from crawler.shard import Shard
from crawler.shard_crawl import Assignment, crawl_alone

settings = Settings(accounts="", output="out/")
assignment = Assignment(settings, "r", Claim("r", 1, "2026-01-01", "parquet", "", "", {}, {}), ("text", 0))
assert crawl_alone(assignment, Shard(1, ())).code == "OutputNotShared"
"""


def run(program: Program, *command: str) -> None:
    done = subprocess.run(command, env=program.env(), cwd=program.folder, stderr=subprocess.PIPE, umask=0, check=False)
    assert done.returncode == 0, done.stderr.decode()


def for_others(folder: Path) -> set[str]:
    """What others may look at, whether the folder around it lets them or not."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.lstat().st_mode & OTHERS}


def held_half_way(program: Program, *arguments: str) -> tuple[set[str], set[str], set[str]]:
    """Run it to its end; names that were there half-way, those of them for others, and the umasks of its processes."""
    held = Held()
    with company(program, Options(clock=held)) as emulator:
        held.emulator = emulator
        process = subprocess.Popen(
            program.command(*arguments), env=program.env(), cwd=program.folder, stderr=subprocess.PIPE, umask=0
        )
        try:
            assert held.reached.wait(60)
            there, theirs = {path.name for path in program.folder.rglob("*")}, for_others(program.folder)
            status = "".join((each / "status").read_text() for each in family(process.pid))
            held.release()
            _, said = process.communicate()
        finally:
            held.release()
            process.kill()
    assert process.returncode == 0, said.decode()
    return there, theirs, {line.split()[1] for line in status.splitlines() if line.startswith("Umask:")}


@pytest.fixture
def given(program: Program) -> set[str]:
    """What the test itself puts there."""
    catalog = f"sqlite:///{program.folder}/catalog.db"
    program.environment |= {
        "PYICEBERG_CATALOG__LOC__TYPE": "sql",
        "PYICEBERG_CATALOG__LOC__URI": catalog,
        "TMPDIR": str(program.folder),
    }
    made = load_catalog("loc", type="sql", uri=catalog)
    made.create_namespace("ns", {"location": f"file://{program.folder}/warehouse"})
    made.engine.dispose()  # type: ignore[attr-defined]  # this kind of catalog has one
    return {"catalog.db", "accounts.yaml"}


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the umask of others is read from /proc")
def test_of_a_run_into_files(program: Program, given: set[str]) -> None:
    there, theirs, umasks = held_half_way(program, *CRAWL, *FILES, "--output", "rows")
    assert {"rows.partial", "ledger.partial", "report.partial"} <= there
    assert theirs <= given
    assert umasks == {"0077"}, "what lives for a moment only has it from there"
    assert {"rows", "ledger", "report", "hints"} <= {path.name for path in program.folder.iterdir()}
    assert for_others(program.folder) <= given


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the umask of others is read from /proc")
def test_of_published_runs_and_what_is_made_of_them(program: Program, given: set[str]) -> None:
    tables = ("--delta", "table", "--iceberg", "loc:ns.t")
    there, theirs, umasks = held_half_way(program, *CRAWL, *FILES, *PUBLISHED, "r", "--workers", "2", *tables)
    assert "attempts" in there
    assert theirs <= given
    assert umasks == {"0077"}
    with company(program):
        run(program, *program.command("shard", "1/1", *CRAWL, *PUBLISHED, "s"))
    run(program, *program.command("report", "s", "--output", "out/", "-o", "page.html"))
    run(program, *program.command("diff", "r", "s", "--output", "out/", "--to", "changes"))
    names = {path.name for path in program.folder.iterdir()}
    assert {"out", "table", "warehouse", "ledger", "report", "hints", "page.html", "changes"} <= names
    assert for_others(program.folder) <= given


def test_of_a_task_on_a_cluster(program: Program) -> None:
    run(program, sys.executable, "-c", TASK)
    assert stat.S_IMODE((program.folder / "out").stat().st_mode) == 0o700


#: Each option that names a file to write, after what goes before it.
NAMED = [
    ("--output",),
    ("--output", "-", "--ledger"),
    ("--output", "-", "--report"),
    ("--output", "-", "--hints"),
]


@pytest.mark.parametrize("options", NAMED, ids=" ".join)
def test_a_link_that_is_named_stays_and_one_that_was_left_beside_is_not_followed(
    program: Program, options: tuple[str, ...]
) -> None:
    """Who starts the program chooses the name; what is in the way of `NAME.partial` may be another's choice."""
    named, real, victim = (program.folder / name for name in ("named", "real", "victim"))
    named.symlink_to(real)
    real.write_bytes(b"of last night")
    victim.write_bytes(b"precious")
    left = program.folder / "real.partial"
    with company(program):
        left.symlink_to(victim)
        refused = program.run(*CRAWL[:2], *options, "named")
        assert (refused.returncode, victim.read_bytes(), real.read_bytes()) == (2, b"precious", b"of last night")
        assert b"cannot be written: Too many levels of symbolic links" in refused.stderr
        left.unlink()
        assert program.run(*CRAWL[:2], *options, "named").returncode == 0
    assert named.is_symlink()
    assert real.read_bytes().startswith(b"{")
    assert stat.S_IMODE(real.stat().st_mode) == 0o600
