"""Published runs of details: columns of their own, tables of their own, and never mixed with runs of image IDs."""

from __future__ import annotations

import gzip
import io
import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from pyiceberg.catalog import Catalog, load_catalog

from crawler.emulator import Account, Estate, Options, Repository, Series, running
from crawler.emulator.images import MIXED
from crawler.errors import Fatal
from crawler.model import RowKind
from crawler.sinks.columns import COLUMNS
from crawler.sinks.encoding import FIELDS
from crawler.tables.iceberg import Iceberg
from tests.lake.conftest import KILLED, Place, Zygote
from tests.lake.test_crash import command

DETAILS = ["--rows", "details"]
REGIONS = ["eu-west-1", "us-east-1"]


@pytest.fixture(scope="module")
def estate() -> Estate:
    repositories = {f"team/{n}": Repository(f"team/{n}", Series(f"r{n}", n * 50, MIXED)) for n in range(8)}
    return Estate([Account("000000000001", repositories=dict.fromkeys(REGIONS, repositories))], regions=REGIONS)


@pytest.fixture
def local(tmp_path: Path) -> Place:
    return Place(f"{tmp_path}/out/", folder=tmp_path / "out")


def records(place: Place, run_id: str) -> list[dict[str, Any]]:
    manifest = place.manifest(run_id)
    assert manifest, "not published"
    found: list[dict[str, Any]] = []
    for part in manifest["parts"]:
        data = place.read(part["path"])
        if part["path"].endswith(".parquet"):
            rows = pq.read_table(io.BytesIO(data)).to_pylist()
        else:
            rows = [json.loads(line) for line in gzip.decompress(data).splitlines()]
        assert len(rows) == part["rows"]
        found += rows
    return found


def values(record: dict[str, Any]) -> str:
    """The record without what differs from run to run, times as rows have them."""
    ours = {key: value for key, value in record.items() if key not in ("run_id", "fetched_at")}
    return json.dumps(ours, default=lambda time: time.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z")


@pytest.mark.slow
def test_formats_agree_and_hold_every_image(program: Zygote, local: Place, estate: Estate) -> None:
    assert program.run(*command(local, "p"), *DETAILS, "--format", "parquet") == 0, program.said()
    assert program.run(*command(local, "n"), *DETAILS, "--format", "ndjson.gz", part=20_000) == 0, program.said()
    columns, lines = records(local, "p"), records(local, "n")
    assert sorted(map(values, columns)) == sorted(map(values, lines))
    truth = {(region, told["repositoryName"], told["imageDigest"]): told for region, told in estate.details()}
    assert len(columns) == len(truth)
    for row in columns:
        told = truth[row["region"], row["repositoryName"], row["imageDigest"]]
        assert row["imageTags"] == sorted(told.get("imageTags", []))  # type: ignore[call-overload]  # None would fail here, and should
        assert row["imageSizeInBytes"] == told["imageSizeInBytes"]
        assert isinstance(row["imagePushedAt"], datetime)
        assert row["imagePushedAt"].timestamp() == pytest.approx(told["imagePushedAt"], abs=0.001)
        assert (row["lastRecordedPullTime"] is None) == ("lastRecordedPullTime" not in told)
    manifest = local.manifest("p")
    assert manifest
    assert (manifest["schema_version"], manifest["settings"]["rows"]) == (1, "details")
    written = pq.read_schema(io.BytesIO(local.read(manifest["parts"][0]["path"])))
    assert written.names == COLUMNS[RowKind.DETAILS].schema.names
    assert written.types == COLUMNS[RowKind.DETAILS].schema.types
    links = [name for name in local.names() if name.endswith("symlink.txt")]
    assert sorted(name.split("/")[1] for name in links) == ["details-ndjson.gz", "details-parquet"]


def test_columns_are_those_of_the_documentation() -> None:
    kinds = {"int": pa.int32(), "bigint": pa.int64(), "string": pa.string(), "array<string>": pa.list_(pa.string()),
             "timestamp": pa.timestamp("us", tz="UTC")}  # fmt: skip
    for rows in RowKind:
        fields = {name: kinds[kind] for name, kind, _ in FIELDS[rows]}
        assert {field.name: field.type for field in COLUMNS[rows].schema} == fields


def test_a_run_goes_on_with_the_same_rows_only(program: Zygote, local: Place, estate: Estate) -> None:
    assert program.run(*command(local, "r"), *DETAILS, kill_at_write=12) == KILLED
    for _ in range(2):  # unfinished, and published
        assert program.run(*command(local, "r")) == 2
        assert "this run was begun with another --rows" in program.said()
        assert program.run(*command(local, "r"), *DETAILS) == 0, program.said()
    assert len(records(local, "r")) == sum(1 for _ in estate.details())


def test_a_run_of_a_program_that_knew_no_kinds_is_one_of_ids(program: Zygote, local: Place) -> None:
    assert program.run(*command(local, "r")) == 0
    assert local.folder
    path = local.folder / "runs/r/manifest.json"
    manifest = json.loads(path.read_bytes())
    assert manifest["settings"].pop("rows") == "ids"
    path.write_text(json.dumps(manifest))
    assert program.run(*command(local, "r"), *DETAILS) == 2
    assert program.run(*command(local, "r")) == 0


@pytest.fixture
def catalog(program: Zygote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Catalog:
    settings = {"PYICEBERG_CATALOG__NIGHTLY__TYPE": "sql", "PYICEBERG_CATALOG__NIGHTLY__URI": f"sqlite:///{tmp_path}/c"}
    program.environment |= settings | {"PYICEBERG_CATALOG__NIGHTLY__WAREHOUSE": f"file://{tmp_path}/warehouse"}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    made = load_catalog("nightly", uri=f"sqlite:///{tmp_path}/c", type="sql")
    made.create_namespace("lake", {"location": f"file://{tmp_path}/warehouse"})
    return made


@pytest.mark.slow
def test_tables_take_rows_of_one_kind(
    program: Zygote,
    local: Place,
    estate: Estate,
    catalog: Catalog,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tables = ["--iceberg", "nightly:lake.details", "--delta", str(program.folder / "delta")]
    assert program.run(*command(local, "d"), *DETAILS, *tables) == 0, program.said()
    scanned = catalog.load_table("lake.details").scan().to_arrow().to_pylist()
    copied = DeltaTable(str(program.folder / "delta")).to_pyarrow_table().to_pylist()
    assert sorted(map(values, scanned)) == sorted(map(values, copied)) == sorted(map(values, records(local, "d")))
    assert len(scanned) == sum(1 for _ in estate.details())
    before = local.names()
    assert program.run(*command(local, "x"), *tables[2:]) == 1
    assert f"--delta {tables[3]}: has no column imageTag, so it is not a table of --rows ids" in program.said()
    assert local.names() == before, "told before the crawl"
    # In this process pyiceberg has read its settings before.
    monkeypatch.setattr("crawler.tables.iceberg.load_catalog", lambda _: catalog)
    with pytest.raises(Fatal, match=r"lake\.details: has no column imageTag, so it is not a table of --rows ids"):
        Iceberg("nightly:lake.details", RowKind.IDS).check()
    catalog.create_table("lake.ids", schema=COLUMNS[RowKind.IDS].schema)
    Iceberg("nightly:lake.ids", RowKind.IDS).check()
    with pytest.raises(Fatal, match=r"lake\.ids: has no column imageTags, so it is not a table of --rows details"):
        Iceberg("nightly:lake.ids", RowKind.DETAILS).check()


@pytest.mark.slow
def test_changes_are_those_of_image_ids_whatever_the_rows(program: Zygote, local: Place, tmp_path: Path) -> None:
    runs = {"ids": [], "details": [*DETAILS, "--format", "ndjson.zst"]}
    for run_id, rows in runs.items():
        assert program.run(*command(local, run_id), *rows) == 0, program.said()
    assert program.run("runs", "--output", local.output) == 0
    listed = [json.loads(line) for line in program.said().splitlines() if line.startswith('{"run":')]
    assert {run["run"]: run["rowKind"] for run in listed} == {"ids": "ids", "details": "details"}
    assert program.run("diff", "ids", "details", "--output", local.output, "--to", str(tmp_path / "changes")) == 0
    assert "no change in 16 repositories; 0 not compared" in program.said()
    fewer = {f"team/{n}": Repository(f"team/{n}", Series(f"r{n}", n * 50 - 1, MIXED)) for n in range(1, 8)}
    made = Estate([Account("000000000001", repositories=dict.fromkeys(REGIONS, fewer))], regions=REGIONS)
    with running(made, Options()) as emulator:
        program.environment |= emulator.environment()
        assert program.run(*command(local, "next"), *DETAILS) == 0, program.said()
    changes = tmp_path / "changes"
    assert program.run("diff", "ids", "next", "--output", local.output, "--to", str(changes)) == 0, program.said()
    found = [json.loads(line) for line in changes.read_bytes().splitlines()]
    assert {line["change"] for line in found} == {"removed"}
    assert len({(line["region"], line["repositoryName"], line["imageDigest"]) for line in found}) == 14
