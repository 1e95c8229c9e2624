"""Published runs, as a user of the command line sees them: what appears, what is refused, what a second run does."""

from __future__ import annotations

import hashlib
import io
import json
import signal
import stat
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from crawler.emulator import Account, Emulator, Estate, Options, Repository, running
from crawler.emulator.images import Series
from crawler.sinks.encoding import Origin
from crawler.sinks.formats import encoding_of
from tests.lake.conftest import KILLED, Place, Zygote, company, rows_of
from tests.lake.servers import BUCKET, S3
from tests.lake.test_crash import check_published, command, requests


@pytest.fixture
def local(tmp_path: Path) -> Place:
    return Place(f"{tmp_path}/out/", folder=tmp_path / "out")


@pytest.mark.parametrize("format_", ["parquet", "ndjson", "ndjson.gz", "ndjson.zst"])
def test_every_format_holds_every_row(program: Zygote, local: Place, estate: Estate, format_: str) -> None:
    assert program.run(*command(local, "r"), "--format", format_) == 0, program.said()
    check_published(local, "r", Counter(estate.rows()))
    manifest = local.manifest("r")
    assert manifest
    for part in manifest["parts"]:
        data = local.read(part["path"])
        assert (len(data), hashlib.sha256(data).hexdigest()) == (part["bytes"], part["sha256"])
        assert part["path"].endswith(f".{format_}")
    assert local.folder
    modes = {stat.S_IMODE(path.stat().st_mode) for path in local.folder.rglob("*") if path.is_file()}
    assert modes == {0o600}


def test_tables_in_a_folder_are_their_owners_alone_also_beside_a_bucket(program: Zygote, weed: S3) -> None:
    program.environment |= weed.environment()
    place = Place(f"s3://{BUCKET}/{program.folder.name}/", s3=weed)
    table = program.folder / "table"
    assert program.run(*command(place, "r"), "--delta", str(table)) == 0, program.said()
    paths = [table, *table.rglob("*")]
    assert {stat.S_IMODE(path.stat().st_mode) for path in paths if path.is_file()} == {0o600}
    assert {stat.S_IMODE(path.stat().st_mode) for path in paths if path.is_dir()} == {0o700}


def test_a_name_that_utf8_cannot_hold_does_not_stop_a_run(forks: Zygote, tmp_path: Path) -> None:
    """JSON can say half a surrogate pair, and so could a server, which then knows no such repository."""
    repositories = {"eu-west-1": {name: Repository(name, Series(name, 3)) for name in ("whole", "half\ud800")}}
    estate = Estate([Account("1" * 12, repositories=repositories)], regions=["eu-west-1"])
    (tmp_path / "accounts.yaml").write_text(estate.accounts_yaml())
    place = Place(f"{tmp_path}/out/", folder=tmp_path / "out")
    with running(estate, Options()) as served:
        program = Zygote(tmp_path, forks.process, {**served.environment(), "TMPDIR": str(tmp_path)})
        assert program.run(*command(place, "r")) == 3, program.said()
    assert [row[2] for row in place.rows("r").elements()] == ["whole"] * 3
    manifest = place.manifest("r")
    assert manifest
    assert [failure["repositoryName"] for failure in manifest["failures"]] == ["half\ud800"]


@pytest.mark.parametrize(
    ("format_", "shown"), [("parquet", "?"), ("ndjson", "\ud800"), ("ndjson.gz", "\ud800"), ("ndjson.zst", "\ud800")]
)
def test_rows_may_hold_what_utf8_cannot(format_: str, shown: str) -> None:
    """In Parquet, which has no way to say it, it is a question mark."""
    encoding: Any = encoding_of(format_, "r")
    origin = Origin("account \ud800", "1" * 12, "east", "name \ud800", datetime.now(UTC))
    chunk = encoding.encode(origin, [{"imageDigest": "sha256:0", "imageTag": "tag \ud800"}])
    file = io.BytesIO()
    writer = encoding.writer(file)
    writer.append(origin, [chunk])
    writer.close()
    (row,) = rows_of(file.getvalue(), f"part.{format_}")
    assert row == ("1" * 12, "east", f"name {shown}", "sha256:0", f"tag {shown}")


def test_rows_of_a_run_have_its_columns(program: Zygote, local: Place) -> None:
    assert program.run(*command(local, "r"), "--format", "ndjson") == 0
    manifest = local.manifest("r")
    assert manifest
    row = json.loads(local.read(manifest["parts"][0]["path"]).splitlines()[0])
    assert list(row) == [
        "schema_version", "run_id", "fetched_at", "account_name",
        "registryId", "region", "repositoryName", "imageDigest", "imageTag",
    ]  # fmt: skip
    assert (row["schema_version"], row["run_id"]) == (1, "r")
    assert row["fetched_at"].endswith("Z")


def test_huge_repositories_have_parts_of_their_own(program: Zygote, local: Place, estate: Estate) -> None:
    """And their last rows share a part with others; memory spills into files on the way."""
    assert program.run(*command(local, "r"), "--format", "ndjson", part=100_000, checkpoint=100) == 0
    manifest = local.manifest("r")
    assert manifest
    assert manifest["rows"] == estate_rows(estate)
    check_published(local, "r", Counter(estate.rows()))


def estate_rows(estate: Estate) -> int:
    return sum(1 for _ in estate.rows())


def test_the_same_run_again_crawls_nothing(program: Zygote, place: Place, emulator: Emulator) -> None:
    assert program.run(*command(place, "r")) == 0
    before, names = requests(emulator), place.names()
    assert program.run(*command(place, "r")) == 0
    assert "run r is already published" in program.said()
    assert (requests(emulator), place.names()) == (before, names)


def test_a_run_goes_on_with_the_same_settings_only(program: Zygote, local: Place) -> None:
    assert program.run(*command(local, "r"), kill_at_write=12) == KILLED
    assert program.run(*command(local, "r"), "--region", "eu-*") == 2
    assert "this run was begun with another --region" in program.said()
    assert program.run(*command(local, "r"), "--format", "ndjson") == 2
    assert "another --format" in program.said()


def test_resume_takes_the_newest_unfinished_run(program: Zygote, local: Place, estate: Estate) -> None:
    base = ["--accounts", "accounts.yaml", "--output", local.output, "--quiet"]
    assert program.run(*base, "--resume") == 2
    assert "no unfinished run" in program.said()
    assert program.run(*base, "--run-id", "b-first") == 0
    assert program.run(*base, "--run-id", "a-second", kill_at_write=12) == KILLED
    assert program.run(*base, "--resume") == 0
    check_published(local, "a-second", Counter(estate.rows()))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--run-id", "../up"], "letters, digits"),
        (["--run-id", "a", "--resume"], "choose one of them"),
        (["--iceberg", "nonsense"], "catalog:namespace.table"),
        (["--delta", "table", "--format", "ndjson"], "tables are made of parquet"),
    ],
)
def test_what_cannot_be_is_refused(
    program: Zygote, local: Place, emulator: Emulator, arguments: list[str], told: str
) -> None:
    before = requests(emulator)
    base = ["--accounts", "accounts.yaml", "--output", local.output]
    assert program.run(*base, *arguments) == 2, program.said()
    assert told in program.said()
    assert requests(emulator) == before


@pytest.mark.parametrize("option", ["--resume", "--run-id=r", "--format=parquet", "--delta=t", "--publish-partial"])
def test_options_of_runs_want_a_store(program: Zygote, option: str) -> None:
    assert program.run("--accounts", "accounts.yaml", "--output", "file", option) == 2
    assert "for runs that are published" in program.said()


def test_outputs_that_cannot_be_written(program: Zygote, tmp_path: Path, emulator: Emulator) -> None:
    (tmp_path / "file").touch()
    before = requests(emulator)
    assert program.run(*command(Place("file/"), "r")) == 2
    assert "file/: cannot be written: File exists" in program.said()
    assert requests(emulator) == before


def test_a_bucket_that_does_not_exist(program: Zygote, moto_s3: S3, weed: S3, emulator: Emulator) -> None:
    before = requests(emulator)
    program.environment |= moto_s3.environment()
    assert program.run(*command(Place("s3://nowhere/x/"), "r")) == 2
    assert "s3://nowhere: there is no such bucket" in program.said()
    # This server tells strangers nothing; the first signed request is answered.
    program.environment |= weed.environment()
    assert program.run(*command(Place("s3://nowhere/x/"), "r")) == 1
    assert "NoSuchBucket" in program.said()
    assert requests(emulator) == before


def test_a_manifest_of_a_newer_version(program: Zygote, local: Place) -> None:
    assert program.run(*command(local, "r")) == 0
    assert local.folder
    path = local.folder / "runs/r/manifest.json"
    path.write_text(path.read_text().replace('"version": 1', '"version": 2'))
    assert program.run(*command(local, "r")) == 2
    assert "is of version 2, and this program knows 1 at most" in program.said()


@pytest.mark.parametrize("edit", [('"version":1', '"version":2'), ('{"', "{]")])
def test_a_record_that_is_damaged_or_of_a_later_program(program: Zygote, local: Place, edit: tuple[str, str]) -> None:
    assert program.run(*command(local, "r"), kill_at_write=30) == KILLED
    assert local.folder
    record = next((local.folder / "runs/r/records").glob("*.ndjson"))
    record.write_text(record.read_text().replace(*edit, 1))
    assert program.run(*command(local, "r")) == 1
    assert f"FAILED: RecordUnfit: {record}" in program.said()
    assert "Traceback" not in program.said()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_it_publishes_leaves_the_ledger_whole(
    program: Zygote, local: Place, estate: Estate, tmp_path: Path, number: int
) -> None:
    loud = [word for word in command(local, "r") if word != "--quiet"]
    told = ["--ledger", "ledger.ndjson", "--report", "report.json"]
    assert program.run(*loud, *told, signal_while_publishing=number) == 128 + number, program.said()
    assert "received; run r is not published" in program.said()
    lines = (tmp_path / "ledger.ndjson").read_bytes().splitlines()
    report = json.loads((tmp_path / "report.json").read_bytes())
    assert (report["status"], report["rows"]) == ("interrupted", estate_rows(estate))
    assert len(lines) == sum(report["targets"].values()) + sum(report["repositories"].values())
    assert program.run(*command(local, "r")) == 0
    check_published(local, "r", Counter(estate.rows()))


def test_a_full_disk_publishes_nothing_and_loses_nothing(program: Zygote, local: Place, estate: Estate) -> None:
    loud = [word for word in command(local, "r") if word != "--quiet"]
    assert program.run(*loud, "--format", "ndjson", file_bytes=60_000) == 1, program.said()
    assert "File too large" in program.said()
    assert not [name for name in local.names() if name.endswith(("manifest.json", "_SUCCESS", "symlink.txt"))]
    assert program.run(*command(local, "r"), "--format", "ndjson") == 0, program.said()
    check_published(local, "r", Counter(estate.rows()))


def test_a_run_in_which_something_is_missing_is_marked(program: Zygote, local: Place) -> None:
    options = Options(faults=["access-denied:account=000000000003,times=always"])
    with running(company(), options) as emulator:
        program.environment |= emulator.environment()
        assert program.run(*command(local, "r")) == 3
        assert program.run(*command(local, "r")) == 3
    manifest = local.manifest("r")
    assert manifest
    assert manifest["status"] == "incomplete"
    assert manifest["missing"] > 0
    assert not [name for name in local.names() if name.endswith("_SUCCESS")]
    assert all(row[0] != "000000000003" for row in local.rows("r"))
    assert {line["registryId"] for line in local.ledger("r")} >= {"000000000003"}


def test_runs_and_show(program: Zygote, local: Place) -> None:
    assert program.run(*command(local, "done")) == 0
    assert program.run(*command(local, "open"), kill_at_write=8) == KILLED
    (program.folder / "stderr").unlink()
    assert program.run("runs", "--output", local.output) == 0
    done, unfinished = [json.loads(line) for line in program.said().splitlines()]
    assert (done["run"], done["status"], done["missing"]) == ("done", "complete", 0)
    assert (unfinished["run"], unfinished["status"], unfinished["rows"]) == ("open", "unfinished", None)
    (program.folder / "stderr").unlink()
    assert program.run("show", "done", "--output", local.output) == 0
    assert json.loads(program.said())["status"] == "complete"
    assert program.run("show", "none", "--output", local.output) == 2
    assert program.run("runs", "--output", "elsewhere/") == 2
    assert "there is no such folder" in program.said()


def test_what_a_manifest_holds_is_no_command_to_the_terminal(program: Zygote, local: Place) -> None:
    assert program.run(*command(local, "r")) == 0, program.said()
    assert local.folder
    path = local.folder / "runs" / "r" / "manifest.json"
    manifest = json.loads(path.read_bytes())
    path.write_text(json.dumps(manifest | {"settings": {"account": "\x9b2J"}}, ensure_ascii=False))
    (program.folder / "stderr").unlink()
    assert program.run("show", "r", "--output", local.output) == 0
    assert json.loads(program.said())["settings"] == {"account": "\x9b2J"}
    assert program.said().isascii()
    path.write_text(json.dumps(manifest | {"targets": {"\x1b[2J\x9b": "many"}}, ensure_ascii=False))
    (program.folder / "stderr").unlink()
    assert program.run("show", "r", "--output", local.output) == 2
    assert "is damaged at targets.\\x1b[2J\\x9b: " in program.said()
    folder = local.folder / "runs" / "\x1b[2J"
    folder.mkdir()
    (program.folder / "stderr").unlink()
    assert program.run("runs", "--output", local.output) == 1
    assert program.said().removesuffix("\n").isprintable()


#: Ends as the program does, and not as `zygote` has it; a thread that waits for the interpreter gets it late.
ENDS = """
import os, sys
import crawler.cli, crawler.publication
from crawler.__main__ import main

sys.setswitchinterval(5)
for _ in range(12):
    if not (child := os.fork()):
        main()
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), file=sys.stderr)
"""


def test_a_thread_of_the_store_does_not_abort_the_end_of_the_program(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / "runs" / name).mkdir(parents=True)
    ended = subprocess.run(
        [sys.executable, "-c", ENDS, "runs", "--output", f"{tmp_path}/"], capture_output=True, check=True
    )
    assert ended.stderr.split() == [b"0"] * 12
    assert len(ended.stdout.splitlines()) == 12 * 3


def test_clean_removes_what_no_run_rests_on(program: Zygote, place: Place, estate: Estate) -> None:
    for _ in range(3):
        assert program.run(*command(place, "r"), kill_at_write=9) == KILLED
    orphans = [name for name in place.names() if name.startswith("data/")]
    assert program.run("clean", "--output", place.output) == 0
    assert [name for name in place.names() if name.startswith("data/")] == orphans, "all too young to be sure"
    assert program.run("clean", "--output", place.output, "--older-than", "0") == 0
    rests_on: set[str] = set()
    for name in place.names():
        if "/records/" in name:
            rests_on |= {part["path"] for part in json.loads(place.read(name).splitlines()[0])["parts"]}
    left = {name for name in place.names() if name.startswith("data/")}
    assert left <= rests_on
    assert not [name for name in place.names() if "#" in name or ".new-" in name]
    assert program.run(*command(place, "r")) == 0
    check_published(place, "r", Counter(estate.rows()))


def test_clean_makes_no_folder(program: Zygote, tmp_path: Path) -> None:
    assert program.run("clean", "--output", "typo/") == 2
    assert "typo/: there is no such folder" in program.said()
    assert not (tmp_path / "typo").exists()


def test_clean_ends_stale_uploads(program: Zygote, moto_s3: S3) -> None:
    program.environment |= moto_s3.environment()
    for key in ("mine/data/part", "other/data/part"):
        moto_s3.client.create_multipart_upload(Bucket=BUCKET, Key=key)
    assert program.run("clean", "--output", f"s3://{BUCKET}/mine/", "--older-than", "0") == 0, program.said()
    assert "1 stale upload\n" in program.said()
    left = moto_s3.client.list_multipart_uploads(Bucket=BUCKET)["Uploads"]
    assert [upload["Key"] for upload in left] == ["other/data/part"]
