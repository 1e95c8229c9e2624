"""Which run is gone on with, and what is done about runs and names that cannot be."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from crawler.emulator import Emulator, Estate
from tests.lake.conftest import KILLED, Place, Zygote
from tests.lake.test_crash import check_published, requests


@pytest.fixture
def local(tmp_path: Path) -> Place:
    return Place(f"{tmp_path}/out/", folder=tmp_path / "out")


@pytest.fixture
def base(local: Place) -> list[str]:
    return ["--accounts", "accounts.yaml", "--output", local.output, "--quiet"]


def test_a_slip_of_the_pen_is_not_what_is_gone_on_with(
    program: Zygote, local: Place, base: list[str], estate: Estate
) -> None:
    assert program.run(*base, "--run-id", "b", kill_at_write=12) == KILLED
    assert program.run(*base, "--run-id", "c", "--repository", "nope") == 2
    assert program.run(*base, "--resume", "--region", "eu-*") == 2
    assert "no unfinished run in" in program.said()
    assert "b was begun with another --region; c was begun with another --region, --repository" in program.said()
    assert program.run(*base, "--resume") == 0, program.said()
    check_published(local, "b", Counter(estate.rows()))


def test_what_was_to_follow_from_a_published_run_is_made_up_for(
    program: Zygote, local: Place, base: list[str], emulator: Emulator, tmp_path: Path
) -> None:
    """As where its process was killed next."""
    assert program.run(*base, "--run-id", "r") == 0
    assert program.run(*base, "--resume") == 2
    assert "no unfinished run" in program.said()
    before = requests(emulator)
    assert local.folder
    (symlink,) = local.folder.rglob("symlink.txt")
    names = symlink.read_bytes()
    symlink.unlink()
    assert program.run(*base, "--resume") == 0, program.said()
    assert symlink.read_bytes() == names
    assert program.run(*base, "--resume", "--delta", "table") == 0, program.said()
    assert (tmp_path / "table" / "_delta_log").exists()
    assert "run r is already published" in program.said()
    assert program.run(*base, "--resume", "--delta", "table") == 2
    assert requests(emulator) == before


def test_a_run_that_cannot_be_read_is_told_and_the_others_are_listed_and_cleaned(
    program: Zygote, local: Place, base: list[str]
) -> None:
    for name in ("a", "b"):
        assert program.run(*base, "--run-id", name) == 0
    assert program.run(*base, "--run-id", "c", kill_at_write=30) == KILLED
    assert local.folder
    manifest = local.folder / "runs/a/manifest.json"
    manifest.write_text(manifest.read_text().replace('"version": 1', '"version": 2'))
    record = next((local.folder / "runs/c/records").glob("*.ndjson"))
    record.write_text("{]")
    orphans = [next(local.folder.glob(f"data/*/run={name}")) / "part-orphan" for name in "abc"]
    for orphan in orphans:
        orphan.touch()
    (program.folder / "stderr").unlink()
    assert program.run("runs", "--output", local.output) == 1
    *lines, told = program.said().splitlines()
    assert [json.loads(line)["status"] for line in lines] == ["unreadable", "complete", "unfinished"]
    assert told.startswith(f"RunUnfit: 1 run cannot be read: {manifest}: is of version 2")
    assert program.run("clean", "--output", local.output, "--older-than", "0") == 1
    assert "removed 1 part that no run names" in program.said()
    assert f"RunUnfit: 2 runs cannot be read: {manifest}: is of version 2" in program.said()
    assert f"{record}: is not a file of this program" in program.said()
    assert [orphan.exists() for orphan in orphans] == [True, False, True]


@pytest.mark.parametrize(
    "output", ["s3://", "s3:///x/", "s3://la ke/x/", "s3://bucket/team//inventory/", "s3://bucket/../x/", "s3://b/./x/"]
)
def test_what_names_no_place_in_a_bucket_is_told(program: Zygote, output: str) -> None:
    for arguments in (["--accounts", "accounts.yaml"], ["runs"], ["clean"]):
        assert program.run(*arguments, "--output", output) == 2
    assert len(program.said().splitlines()) == 3
    assert program.said().splitlines()[0].startswith(f"{output}: ")


@pytest.mark.parametrize("hours", ["inf", "1e12", "nan", "-1"])
def test_hours_that_no_calendar_has_are_told(program: Zygote, local: Place, hours: str) -> None:
    assert program.run("clean", "--output", local.output, f"--older-than={hours}") == 2
    assert "write hours, from 0 to 1,000,000" in program.said()
