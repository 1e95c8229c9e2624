"""What changed between two runs, against sets in memory."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crawler.accounts import load
from crawler.comparison import readable
from crawler.diff import Compared, Side, Unreadable, compare
from crawler.emulator import Options, running
from crawler.errors import Fatal, UsageError
from crawler.model import TagStatus
from crawler.rows import to_line
from crawler.settings import Settings
from tests.lake.conftest import Place, Row, Zygote, company
from tests.lake.test_crash import command

Ledger = dict[str, str]

REPOSITORIES = ["a", "b", "c"]
DIGESTS = [f"sha256:{digit * 64}" for digit in "0123"]


def row(repository: str, digest: str, tag: str | None) -> Row:
    return "1" * 12, "east", repository, digest, tag


def side(folder: Path, name: str, rows: Iterable[Row], outcomes: Ledger) -> Side:
    part, ledger = folder / f"{name}.ndjson", folder / f"{name}.ledger"
    keys = ("registryId", "region", "repositoryName", "imageDigest", "imageTag")
    part.write_bytes(b"".join(to_line(dict(zip(keys, one, strict=True))) for one in rows))
    place = {"registryId": "1" * 12, "region": "east"}
    units = [{**place, "repositoryName": name, "outcome": ended} for name, ended in outcomes.items()]
    target = {**place, "repositoryName": None, "outcome": "OK"}
    ledger.write_bytes(b"".join(to_line(unit) for unit in [*units, target]))
    return Side([part], ledger, parquet=False, run=name)


def differences(
    folder: Path, before: set[Row], after: set[Row], ended_before: Ledger, ended_after: Ledger
) -> tuple[set[tuple[str | None, ...]], Compared]:
    changes = folder / "changes"
    earlier, later = side(folder, "a", before, ended_before), side(folder, "b", after, ended_after)
    compared = readable(lambda *sides: compare(*sides, changes, "ndjson"), [earlier, later], folder)
    lines = [json.loads(line) for line in changes.read_bytes().splitlines()]
    found = {(line["change"], line["repositoryName"], line["imageDigest"], line["imageTag"], line["previousDigest"])
             for line in lines}  # fmt: skip
    assert len(found) == len(lines)
    return found, compared


def expected(before: set[Row], after: set[Row], compared: set[str]) -> set[tuple[str | None, ...]]:
    gone = {one for one in before - after if one[2] in compared}
    new = {one for one in after - before if one[2] in compared}
    moved = {(*late[:3], late[4]): (early[3], late[3]) for early in gone for late in new
             if early[4] is not None and (*early[:3], early[4]) == (*late[:3], late[4])}  # fmt: skip
    kinds: set[tuple[str | None, ...]] = {
        ("retagged", repository, digest, tag, previous) for (_, _, repository, tag), (previous, digest) in moved.items()
    }
    for kind, ones in (("removed", gone), ("added", new)):
        kinds |= {(kind, one[2], one[3], one[4], None) for one in ones if (*one[:3], one[4]) not in moved}
    return kinds


# A tag names one digest in a repository; an untagged image is one row.
_images = st.dictionaries(
    st.tuples(st.sampled_from(REPOSITORIES), st.sampled_from(["v1", "v2", "latest"])), st.sampled_from(DIGESTS)
).map(lambda tags: {row(repository, digest, tag) for (repository, tag), digest in tags.items()})
_untagged = st.sets(st.builds(row, st.sampled_from(REPOSITORIES), st.sampled_from(DIGESTS), st.none()))
_rows = st.builds(lambda one, other: one | other, _images, _untagged)
_outcomes = st.dictionaries(st.sampled_from(REPOSITORIES), st.sampled_from(["OK", "EMPTY", "DENIED", "FAILED"]))


@settings(max_examples=25)
@given(before=_rows, after=_rows, ended_before=_outcomes, ended_after=_outcomes)
def test_against_sets(
    tmp_path_factory: pytest.TempPathFactory,
    before: set[Row],
    after: set[Row],
    ended_before: Ledger,
    ended_after: Ledger,
) -> None:
    listed = [{name for name, ended in outcomes.items() if ended in ("OK", "EMPTY")}
              for outcomes in (ended_before, ended_after)]  # fmt: skip
    both = listed[0] & listed[1]
    found, compared = differences(tmp_path_factory.mktemp("diff"), before, after, ended_before, ended_after)
    assert found == expected(before, after, both)
    assert compared.both == len(both)
    assert compared.neither == len({*ended_before, *ended_after} - both)


def test_names_that_utf8_cannot_hold_are_compared_as_parquet_has_them(tmp_path: Path) -> None:
    half, kept = "half\ud800", row("whole", DIGESTS[0], "\\ud800 of six letters")
    before = {row(half, DIGESTS[0], "old\udc00"), row(half, DIGESTS[1], "kept\ud83d"), kept}
    after = {row(half, DIGESTS[0], "new\udc00"), row(half, DIGESTS[1], "kept\ud83d"), kept}
    outcomes = {half: "OK", "whole": "OK"}
    found, compared = differences(tmp_path, before, after, outcomes, outcomes)
    assert found == {("removed", "half?", DIGESTS[0], "old?", None), ("added", "half?", DIGESTS[0], "new?", None)}
    assert (compared.both, compared.neither) == (2, 0)


@pytest.mark.parametrize("suffix", [".ndjson", ".ndjson.gz", ".ndjson.zst"])
def test_parts_are_copied_for_it_from_every_format(tmp_path: Path, suffix: str) -> None:
    part, ledger = tmp_path / f"part{suffix}", tmp_path / "ledger.ndjson.gz"
    lines = to_line({"repositoryName": "half\ud800"}) * 300_000  # of many blocks
    with pa.output_stream(str(part), compression="detect") as file:
        file.write(lines)
    ledger.write_bytes(gzip.compress(to_line({"repositoryName": "\udfff"})))
    read: list[Side] = []

    def read_the_second_time(side: Side) -> Side:
        read.append(side)
        if len(read) == 1:
            raise Unreadable("DiffFailed", "as duckdb would say")
        return side

    copied = readable(read_the_second_time, [Side([part], ledger, parquet=False)], tmp_path)
    assert copied.parts[0].read_bytes() == lines.replace(b"\\ud800", b"?")
    assert copied.ledger.read_bytes() == b'{"repositoryName":"?"}\n'


def test_a_file_that_is_no_json_is_told(tmp_path: Path) -> None:
    one = side(tmp_path, "a", {row("a", DIGESTS[0], None)}, {"a": "OK"})
    one.ledger.write_bytes(b'{"registryId": \n')
    with pytest.raises(Fatal, match="DiffFailed"):
        readable(lambda *sides: compare(*sides, tmp_path / "changes", "ndjson"), [one, one], tmp_path)


@pytest.mark.parametrize("name", ["out[1]", "out*", "ou?1", "it's", "a{b,c}", "[!x]"])
def test_a_folder_is_its_name_and_no_pattern(tmp_path: Path, name: str) -> None:
    """DuckDB reads all files that fit: beside `out[1]` lies `out1`, which is another."""
    for folder in (name, "out1"):
        (tmp_path / folder).mkdir()
    here, there = {row("a", DIGESTS[0], "v1")}, {row("a", DIGESTS[1], "v1")}
    side(tmp_path / "out1", "earlier", there, {"a": "OK"})
    earlier = side(tmp_path / name, "earlier", here, {"a": "OK"})
    later = side(tmp_path, "later", here, {"a": "OK"})
    assert compare(earlier, later, tmp_path / name / "changes", "ndjson") == Compared(1, 0, {})


def test_a_ledger_that_was_cut_off_is_told(tmp_path: Path) -> None:
    one = side(tmp_path, "a", {row("a", DIGESTS[0], None)}, {"a": "OK"})
    cut = tmp_path / "ledger.ndjson.gz"
    cut.write_bytes(gzip.compress(one.ledger.read_bytes() * 1000)[:-20])
    one = replace(one, ledger=cut)
    with pytest.raises(Fatal, match="DiffFailed"):
        readable(lambda *sides: compare(*sides, tmp_path / "changes", "ndjson"), [one, one], tmp_path)


def test_a_registry_that_two_accounts_read_is_compared_once(tmp_path: Path) -> None:
    """It has two lines in the ledger for each repository, and its rows twice."""
    earlier, later = (
        side(tmp_path, name, {row("a", digest, "v1")}, {"a": "OK"}) for name, digest in zip("ab", DIGESTS, strict=False)
    )
    for one in (earlier, later):
        for file in (one.parts[0], one.ledger):
            file.write_bytes(file.read_bytes() * 2)
    compared = compare(earlier, later, tmp_path / "changes", "ndjson")
    assert (compared.both, compared.neither, compared.changes) == (1, 0, {"retagged": 1})


ANY, TAGGED = "ANY ANY", "TAGGED ANY"


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ({"*": ANY}, {"*": ANY}, False),
        ({"*": ANY}, {"*": ANY, "2" * 12: TAGGED}, False),  # which is not among what is compared
        ({"*": TAGGED, "1" * 12: ANY}, {"*": ANY}, False),
        ({"*": ANY}, {"*": TAGGED}, True),
        ({"*": ANY, "1" * 12: TAGGED}, {"*": ANY}, True),
        ({"*": TAGGED}, {"*": TAGGED, "1" * 12: ANY}, True),
    ],
)
def test_what_one_run_was_not_asked_for_is_no_deletion(
    tmp_path: Path, before: dict[str, str], after: dict[str, str], *, told: bool
) -> None:
    rows = {row("a", DIGESTS[0], None)}
    earlier = replace(side(tmp_path, "earlier", rows, {"a": "OK"}), filters=before)
    later = replace(side(tmp_path, "later", set(), {"a": "OK"}), filters=after)
    if told:
        with pytest.raises(UsageError, match=r"diff: of 1{12} earlier has the images .*, later those"):
            compare(earlier, later, tmp_path / "changes", "ndjson")
    else:
        assert compare(earlier, later, tmp_path / "changes", "ndjson").changes == {"removed": 1}


def test_the_filters_of_a_run_are_those_of_its_accounts_and_options() -> None:
    def filters(written: str, **options: Any) -> object:
        return Settings("accounts.yaml", **options).selecting(b"", load("accounts.yaml", written.encode()))["filters"]

    one, two, three = (f"{{account_id: '{digit * 12}'%s}}" for digit in "123")
    tagged = ", crawler: {tag_status: tagged}"
    assert filters(f"accounts: [{one % ''}]") == {"*": ANY}
    assert filters(f"accounts: [{one % ''}]", tag_status=TagStatus.TAGGED) == {"*": TAGGED}
    assert filters(f"accounts: [{one % tagged}, {two % ''}, {three % ''}]") == {"*": ANY, "1" * 12: TAGGED}
    reads = ", regions: [us-east-1], crawler: {registries: ['333333333333'], public: true, image_status: active}"
    apart = ", regions: [eu-west-1]"  # or its rows would be repeated
    assert filters(f"accounts: [{one % ''}, {two % reads}, {three % apart}]") == {
        "*": "ANY ACTIVE", "1" * 12: ANY, "3" * 12: "ANY ACTIVE and ANY ANY",
    }  # fmt: skip
    assert filters("organization: {member_role: inventory, crawler: {tag_status: tagged}}") == {"*": TAGGED}


@pytest.mark.parametrize("format_", ["parquet", pytest.param("ndjson.zst", marks=pytest.mark.slow)])
def test_a_denied_account_is_no_deletion(program: Zygote, place: Place, tmp_path: Path, format_: str) -> None:
    assert program.run(*command(place, "monday"), "--format", format_) == 0
    with running(company(), Options(faults=["access-denied:account=000000000001,times=always"])) as emulator:
        program.environment |= {**emulator.environment(), **(place.s3.environment() if place.s3 else {})}
        assert program.run(*command(place, "tuesday"), "--format", format_) == 3
    changes = tmp_path / "changes"
    assert program.run("diff", "monday", "tuesday", "--output", place.output, "--to", str(changes)) == 0, program.said()
    assert changes.read_bytes() == b""
    assert "no change in 40 repositories; 20 not compared" in program.said()
    parquet = tmp_path / "changes.parquet"
    more = ["--output", place.output, "--to", str(parquet), "--format", "parquet"]
    assert program.run("diff", "monday", "tuesday", *more) == 0
    assert pq.read_table(parquet).num_rows == 0
    assert program.run("diff", "monday", "sunday", "--output", place.output) == 1
    assert "run sunday is not published" in program.said()


def test_runs_of_other_filters_are_not_compared(program: Zygote, tmp_path: Path) -> None:
    local = Place(f"{tmp_path}/out/", folder=tmp_path / "out")
    assert program.run(*command(local, "any")) == 0
    assert program.run(*command(local, "tagged"), "--tag-status", "tagged") == 0
    assert program.run("diff", "any", "tagged", "--output", local.output) == 2
    assert "any was crawled with --tag-status ANY, tagged with TAGGED" in program.said()
    accounts = tmp_path / "accounts.yaml"
    accounts.write_text(f"vars: {{crawler: {{tag_status: tagged}}}}\n{accounts.read_text()}")
    assert program.run(*command(local, "file")) == 0, program.said()
    assert program.run("diff", "any", "file", "--output", local.output) == 2
    assert "any has the images ANY ANY, file those TAGGED ANY" in program.said()
