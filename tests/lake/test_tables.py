"""Published runs in real tables, read back by an engine that wrote none of it."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import anyio
import duckdb
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.utils.config import Config

from crawler.emulator import Estate, Options, running
from crawler.errors import Fatal
from crawler.runs.documents import Manifest
from crawler.store import Store
from crawler.tables import Table
from crawler.tables.commit import check, commit
from crawler.tables.delta import Delta
from crawler.tables.iceberg import Iceberg
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
    monkeypatch.setattr("pyiceberg.catalog._ENV_CONFIG", Config())  # it reads them once, when it is imported
    made = load_catalog("nightly", uri=f"sqlite:///{tmp_path}/catalog.db", type="sql")
    made.create_namespace("lake", {"location": f"file://{tmp_path}/warehouse"})
    return made


def rows(files: list[str]) -> Counter[Row]:
    found = duckdb.execute(
        "SELECT registryId, region, repositoryName, imageDigest, imageTag FROM read_parquet(?)", [files]
    ).fetchall()
    return Counter(tuple(row) for row in found)  # type: ignore[misc]  # another shape would fail the comparison


def times(estate: Estate, number: int) -> Counter[Row]:
    return Counter({row: count * number for row, count in Counter(estate.rows()).items()})


def iceberg_rows(catalog: Catalog) -> Counter[Row]:
    files = catalog.load_table("lake.images").inspect.files().column("file_path").to_pylist()
    return rows([str(file).removeprefix("file://") for file in files])


def delta_rows(table: Path) -> Counter[Row]:
    return rows([str(uri).removeprefix("file://") for uri in DeltaTable(str(table)).file_uris()])


@dataclass(frozen=True)
class Committers:
    """Opens a table of either format as another process would, and reads it back."""

    options: list[str]
    open: Callable[[], Table]
    rows: Callable[[], Counter[Row]]


@pytest.fixture(params=["delta", "iceberg"])
def committers(request: pytest.FixtureRequest, catalog: Catalog, tmp_path: Path) -> Committers:
    if request.param == "iceberg":
        name = "nightly:lake.images"
        return Committers(["--iceberg", name], lambda: Iceberg(name), lambda: iceberg_rows(catalog))
    folder = tmp_path / "delta"
    return Committers(["--delta", str(folder)], lambda: Delta(str(folder), {}), lambda: delta_rows(folder))


@dataclass
class Run:
    """A run that is published in a folder, and not added to any table."""

    store: Store
    manifest: Manifest

    @property
    def parts(self) -> list[str]:
        return [self.store.uri_of(part.path) for part in self.manifest.parts]


@pytest.fixture
def runs(program: Zygote, local: Place) -> list[Run]:
    """Two of them, of the same rows but for the run's id."""
    return [published(program, local, run_id) for run_id in ("one", "two")]


def published(program: Zygote, local: Place, run_id: str) -> Run:
    assert program.run(*command(local, run_id)) == 0, program.said()
    name = f"runs/{run_id}/manifest.json"
    return Run(Store.local(local.output), Manifest.decode(name, local.read(name)))


@dataclass
class Late:
    """A table to which nobody adds before all have asked it."""

    table: Table
    asked: threading.Barrier
    copies: bool = True

    def check(self) -> None:
        self.table.check()

    def has(self, run_id: str) -> bool:
        found = self.table.has(run_id)
        self.asked.wait(20)
        return found

    def add(self, store: Store, manifest: Manifest, parts: Sequence[str]) -> None:
        self.table.add(store, manifest, parts)


class Overtaken(list[str]):
    """Parts that are read only when somebody else has come first: by then the table was looked at."""

    def __init__(self, parts: Sequence[str], first: Callable[[], None]) -> None:
        super().__init__(parts)
        self._first = [first]

    def __iter__(self) -> Iterator[str]:
        while self._first:
            # delta-rs reads on a thread of its own, on which it cannot be called again.
            other = threading.Thread(target=self._first.pop())
            other.start()
            other.join()
        return super().__iter__()


@pytest.mark.parametrize("there", [None, "two"])
def test_a_run_that_several_add_at_once_is_there_once(
    committers: Committers, runs: list[Run], estate: Estate, there: str | None
) -> None:
    one, two = runs
    if there:
        committers.open().add(two.store, two.manifest, two.parts)
    asked = threading.Barrier(3)

    async def race() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(3):
                table = Late(committers.open(), asked)
                group.start_soon(lambda late: commit(one.store, one.manifest, [late], partial_too=False), table)

    anyio.run(race)
    assert committers.rows() == times(estate, 1 if there is None else 2)


@pytest.mark.parametrize("there", [None, "two"])
def test_a_run_is_not_added_by_who_was_overtaken(
    committers: Committers, runs: list[Run], estate: Estate, there: str | None
) -> None:
    one, two = runs
    if there:
        committers.open().add(two.store, two.manifest, two.parts)
    parts = Overtaken(one.parts, lambda: committers.open().add(one.store, one.manifest, one.parts))
    committers.open().add(one.store, one.manifest, parts)
    assert committers.open().has("one")
    assert committers.rows() == times(estate, 1 if there is None else 2)


def test_a_run_that_another_run_overtook_is_added_after_it(
    committers: Committers, runs: list[Run], estate: Estate
) -> None:
    one, two = runs
    parts = Overtaken(one.parts, lambda: committers.open().add(two.store, two.manifest, two.parts))
    committers.open().add(one.store, one.manifest, parts)
    assert committers.rows() == times(estate, 2)


def test_a_run_is_known_by_its_rows_where_its_snapshot_has_expired(
    catalog: Catalog, runs: list[Run], estate: Estate
) -> None:
    one, two = runs
    table = Iceberg("nightly:lake.images")
    table.add(one.store, one.manifest, one.parts)
    compacted = catalog.load_table("lake.images")
    compacted.overwrite(compacted.scan().to_arrow())
    compacted.refresh()
    kept = compacted.current_snapshot()
    assert kept
    old = [each.snapshot_id for each in compacted.metadata.snapshots if each.snapshot_id != kept.snapshot_id]
    compacted.maintenance.expire_snapshots().by_ids(old).commit()
    assert table.has("one")
    assert not table.has("two")
    table.add(one.store, one.manifest, one.parts)
    assert iceberg_rows(catalog) == Counter(estate.rows())
    table.add(two.store, two.manifest, two.parts)
    assert iceberg_rows(catalog) == times(estate, 2)


class Hanging:
    """A table that lies behind a network which carries nothing any more."""

    copies = False

    def __init__(self, hangs: str) -> None:
        self._hangs = hangs
        self.reached, self.released = threading.Event(), threading.Event()

    def check(self) -> None:
        self._come_to("check")

    def has(self, *_: object) -> bool:
        self._come_to("has")
        return False

    def add(self, *_: object) -> None:
        self._come_to("add")

    def _come_to(self, name: str) -> None:
        if name == self._hangs:
            self.reached.set()
            self.released.wait()


@pytest.mark.parametrize("hangs", ["check", "has", "add"])
def test_a_table_that_hangs_holds_up_no_stop(tmp_path: Path, hangs: str) -> None:
    table = Hanging(hangs)

    async def stopped() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(use)
            await anyio.to_thread.run_sync(table.reached.wait)
            group.cancel_scope.cancel()
        assert not table.released.is_set()
        table.released.set()

    async def use() -> None:
        await check([table])
        await commit(Store.local(str(tmp_path)), empty("r"), [table], partial_too=False)

    # What fails to stop is released, so that the test ends.
    timer = threading.Timer(10, table.released.set)
    timer.start()
    anyio.run(stopped)
    timer.cancel()


def test_runs_are_added_once(program: Zygote, local: Place, estate: Estate, catalog: Catalog, tmp_path: Path) -> None:
    tables = ["--iceberg", "nightly:lake.images", "--delta", str(tmp_path / "delta")]
    for run_id, number in (("one", 1), ("one", 1), ("two", 2)):
        assert program.run(*command(local, run_id), *tables) == 0, program.said()
        assert iceberg_rows(catalog) == delta_rows(tmp_path / "delta") == times(estate, number)
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


@pytest.mark.slow
def test_a_run_killed_while_it_is_added_is_added_once(
    program: Zygote, local: Place, committers: Committers, estate: Estate, failing_disk: Path | None
) -> None:
    """At each name that a file is given: a part of the table, or what makes it one."""
    if failing_disk is None:
        pytest.skip("no C compiler, or not Linux: tests/lake/failing_disk.c cannot be loaded")
    published(program, local, "r")
    kills, code = 0, KILLED
    while code == KILLED:
        kills += 1
        code = program.run(*command(local, "r"), *committers.options, fault=("name", kills, 0, False))
    assert code == 0, program.said()
    assert kills > 1
    assert committers.rows() == Counter(estate.rows())


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


def empty(run_id: str) -> Manifest:
    return Manifest(
        run=run_id, status="complete", date="", format="parquet", schema_version=1, started="", published="", attempt=1,
        rows=0, missing=0, targets={}, repositories={}, parts=[], ledger="", records=[], settings={}, program="",
    )  # fmt: skip


@pytest.mark.parametrize("scheme", ["", "file://"])
@pytest.mark.parametrize("folder", ["/dev/null/table", "/proc/nowhere/table"])
def test_a_delta_table_that_cannot_be_made_is_told_before_the_crawl(folder: str, scheme: str) -> None:
    with pytest.raises(Fatal, match=f"TableFailed: --delta {scheme}{folder}: "):
        Delta(scheme + folder, {}).check()


def test_a_check_leaves_nothing_behind(tmp_path: Path) -> None:
    Delta(str(tmp_path / "not" / "yet"), {}).check()
    Delta(f"file://{tmp_path}/not%20yet", {}).check()
    assert list(tmp_path.iterdir()) == []


def test_a_run_without_rows_is_added_to_a_delta_table_once(tmp_path: Path) -> None:
    table = Delta(str(tmp_path / "table"), {})
    table.check()
    assert not table.has("r")
    manifest = empty("r")
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
