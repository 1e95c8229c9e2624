"""Published runs in real tables, read back by an engine that wrote none of it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from pyiceberg.catalog import Catalog, load_catalog

from crawler.emulator import Estate, Options, running
from crawler.errors import Fatal
from crawler.runs.documents import Manifest
from crawler.store import Store
from crawler.tables.delta import Delta
from tests.lake.conftest import KILLED, Place, Row, Zygote, company
from tests.lake.test_crash import command


@pytest.fixture
def local(tmp_path: Path) -> Place:
    return Place(f"{tmp_path}/out/", folder=tmp_path / "out")


@pytest.fixture
def catalog(program: Zygote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Catalog:
    settings = {
        "PYICEBERG_CATALOG__NIGHTLY__TYPE": "sql",
        "PYICEBERG_CATALOG__NIGHTLY__URI": f"sqlite:///{tmp_path}/catalog.db",
    }
    program.environment |= settings | {"PYICEBERG_CATALOG__NIGHTLY__WAREHOUSE": f"file://{tmp_path}/warehouse"}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    made = load_catalog("nightly", uri=f"sqlite:///{tmp_path}/catalog.db", type="sql")
    made.create_namespace("lake", {"location": f"file://{tmp_path}/warehouse"})
    return made


def rows(files: list[str]) -> Counter[Row]:
    found = duckdb.execute(
        "SELECT registryId, region, repositoryName, imageDigest, imageTag FROM read_parquet(?)", [files]
    ).fetchall()
    return Counter(tuple(row) for row in found)  # type: ignore[misc]


def iceberg_rows(catalog: Catalog) -> Counter[Row]:
    files = catalog.load_table("lake.images").inspect.files().column("file_path").to_pylist()
    return rows([str(file).removeprefix("file://") for file in files])


def delta_rows(table: Path) -> Counter[Row]:
    return rows([str(uri).removeprefix("file://") for uri in DeltaTable(str(table)).file_uris()])


def test_runs_are_added_once(program: Zygote, local: Place, estate: Estate, catalog: Catalog, tmp_path: Path) -> None:
    tables = ["--iceberg", "nightly:lake.images", "--delta", str(tmp_path / "delta")]
    expected = Counter(estate.rows())
    for run_id, times in (("one", 1), ("one", 1), ("two", 2)):
        assert program.run(*command(local, run_id), *tables) == 0, program.said()
        twice = Counter({row: count * times for row, count in expected.items()})
        assert iceberg_rows(catalog) == twice
        assert delta_rows(tmp_path / "delta") == twice
    snapshot = catalog.load_table("lake.images").current_snapshot()
    assert snapshot
    assert snapshot.summary
    marks = snapshot.summary.additional_properties
    assert (marks["crawler.run-id"], marks["crawler.status"]) == ("two", "complete")
    delta = DeltaTable(str(tmp_path / "delta"))
    assert delta.transaction_version("crawler/two") == 1
    assert delta.history(1)[0]["crawler.run-id"] == "two"


@pytest.mark.slow
def test_a_run_killed_before_its_tables_is_added_by_the_next(
    program: Zygote, local: Place, estate: Estate, catalog: Catalog, tmp_path: Path
) -> None:
    tables = ["--iceberg", "nightly:lake.images", "--delta", str(tmp_path / "delta")]
    at = 18
    while not local.names() or local.manifest("r") is None:
        code = program.run(*command(local, "r"), *tables, kill_at_write=at, checkpoint=10)
        assert code == KILLED, program.said()
        at += 2
    assert program.run(*command(local, "r"), *tables) == 0, program.said()
    assert iceberg_rows(catalog) == delta_rows(tmp_path / "delta") == Counter(estate.rows())


def test_a_partial_run_is_added_only_if_asked_for(
    program: Zygote, local: Place, catalog: Catalog, tmp_path: Path
) -> None:
    tables = ["--iceberg", "nightly:lake.images", "--delta", str(tmp_path / "delta")]
    with running(company(), Options(faults=["access-denied:account=000000000002,times=always"])) as emulator:
        program.environment |= emulator.environment()
        assert program.run(*command(local, "r"), *tables) == 3
        assert not catalog.table_exists("lake.images")
        assert not (tmp_path / "delta").exists()
        assert program.run(*command(local, "r"), *tables, "--publish-partial") == 3
    assert iceberg_rows(catalog) == delta_rows(tmp_path / "delta") == local.rows("r")
    snapshot = catalog.load_table("lake.images").current_snapshot()
    assert snapshot
    assert snapshot.summary
    assert snapshot.summary.additional_properties["crawler.status"] == "incomplete"
    assert DeltaTable(str(tmp_path / "delta")).history(1)[0]["crawler.status"] == "incomplete"


def test_a_delta_table_of_other_columns_is_refused(tmp_path: Path) -> None:
    uri = str(tmp_path / "sales")
    write_deltalake(uri, pa.table({"amount": [1]}))
    with pytest.raises(
        Fatal, match=rf"--delta {uri}: has no column schema_version, so it is not a table of --rows ids"
    ):
        Delta(uri, {}).check()


def test_a_delta_table_that_is_damaged_is_told_in_a_line(tmp_path: Path) -> None:
    log = tmp_path / "table" / "_delta_log"
    log.mkdir(parents=True)
    (log / f"{0:020}.json").write_text("{]")
    table = Delta(str(tmp_path / "table"), {})
    for use in (table.check, lambda: table.has("r")):
        with pytest.raises(Fatal, match=f"TableFailed: --delta {tmp_path}/table: ") as told:
            use()
        assert "\n" not in told.value.message


def test_a_run_without_rows_is_added_to_a_delta_table_once(tmp_path: Path) -> None:
    table = Delta(str(tmp_path / "table"), {})
    table.check()
    assert not table.has("r")
    manifest = Manifest(
        run="r", status="complete", date="", format="parquet", schema_version=1, started="", published="", attempt=1,
        rows=0, missing=0, targets={}, repositories={}, parts=[], ledger="", records=[], settings={}, program="",
    )  # fmt: skip
    store = Store.local(str(tmp_path / "out"))
    table.add(store, manifest, [])
    assert table.has("r")
    assert not table.has("another")
    table.check()
    assert DeltaTable(str(tmp_path / "table")).history(1)[0]["crawler.manifest"] == f"{store.uri}runs/r/manifest.json"


def test_a_table_that_cannot_be_is_told_before_the_crawl(program: Zygote, local: Place, catalog: Catalog) -> None:
    assert catalog
    assert program.run(*command(local, "r"), "--iceberg", "nightly:nowhere.images") == 1
    assert "the catalog has no namespace nowhere" in program.said()
    assert program.run(*command(local, "r"), "--iceberg", "unknown:lake.images") == 1
    assert "--iceberg unknown:lake.images" in program.said()
    assert local.names() == []
