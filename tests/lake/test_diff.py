"""What changed between two runs, against sets in memory."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import orjson
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crawler.diff import Compared, Side, compare
from crawler.emulator import Options, running
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
    part.write_bytes(b"".join(orjson.dumps(dict(zip(keys, one, strict=True))) + b"\n" for one in rows))
    place = {"registryId": "1" * 12, "region": "east"}
    units = [{**place, "repositoryName": name, "outcome": ended} for name, ended in outcomes.items()]
    target = {**place, "repositoryName": None, "outcome": "OK"}
    ledger.write_bytes(b"".join(orjson.dumps(unit) + b"\n" for unit in [*units, target]))
    return Side([part], ledger, parquet=False)


def differences(
    folder: Path, before: set[Row], after: set[Row], ended_before: Ledger, ended_after: Ledger
) -> tuple[set[tuple[str | None, ...]], Compared]:
    changes = folder / "changes"
    earlier, later = side(folder, "a", before, ended_before), side(folder, "b", after, ended_after)
    compared = compare(earlier, later, changes, "ndjson")
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
