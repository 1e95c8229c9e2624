"""Apache Iceberg, through pyiceberg: the parts become files of the table as they are.

The catalog is the user's own, by its name in `.pyiceberg.yaml` or PYICEBERG_CATALOG__NAME__… variables
(https://py.iceberg.apache.org/configuration/).
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager

from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.table import Table as PyIcebergTable

from crawler.errors import Fatal, UsageError
from crawler.model import RowKind
from crawler.runs.documents import Manifest
from crawler.sinks.columns import COLUMNS
from crawler.store import Store
from crawler.tables import failed, require_columns

#: Snapshot properties, in the table's own history.
RUN_ID, STATUS, MANIFEST = "crawler.run-id", "crawler.status", "crawler.manifest"


class Iceberg:
    """See `Table`. `name` is CATALOG:namespace.table; the table is made with the first run, the namespace is not."""

    copies = False

    def __init__(self, name: str, rows: RowKind = RowKind.IDS) -> None:
        catalog, separator, table = name.partition(":")
        if not (catalog and separator and "." in table):
            raise UsageError(f"--iceberg {name}: write it as catalog:namespace.table")
        self._name = name
        self._catalog_name = catalog
        self._table_name = table
        self._rows = rows

    def check(self) -> None:
        """See `Table`."""
        with self._told():
            namespace = self._table_name.rpartition(".")[0]
            catalog = self._catalog()
            if not catalog.namespace_exists(namespace):
                raise Fatal("TableFailed", f"--iceberg {self._name}: the catalog has no namespace {namespace}")
            try:
                self._require_columns(catalog.load_table(self._table_name))
            except NoSuchTableError:
                return

    def has(self, run_id: str) -> bool:
        """See `Table`."""
        with self._told():
            try:
                table = self._catalog().load_table(self._table_name)
            except NoSuchTableError:
                return False
            return _has(table, run_id)

    def add(self, store: Store, manifest: Manifest, parts: Sequence[str]) -> None:
        """See `Table`. Files that the table has already are refused: also when their snapshot has expired."""
        with self._told():
            table = self._catalog().create_table_if_not_exists(self._table_name, schema=COLUMNS[self._rows].schema)
            self._require_columns(table)
            if _has(table, manifest.run):
                return
            marks = {
                RUN_ID: manifest.run,
                STATUS: manifest.status,
                MANIFEST: store.uri_of(f"runs/{manifest.run}/manifest.json"),
            }
            if parts:
                table.add_files(list(parts), snapshot_properties=marks)

    def _require_columns(self, table: PyIcebergTable) -> None:
        require_columns(f"--iceberg {self._name}", (field.name for field in table.schema().fields), self._rows)

    def _catalog(self) -> Catalog:
        return load_catalog(self._catalog_name)

    @contextmanager
    def _told(self) -> Generator[None]:
        try:
            yield
        except Fatal:
            raise
        # Catalogs and file systems are plugins, and raise what they please.
        except Exception as error:
            raise failed(f"--iceberg {self._name}", error) from error


def _has(table: PyIcebergTable, run_id: str) -> bool:
    return any(
        snapshot.summary is not None and snapshot.summary.additional_properties.get(RUN_ID) == run_id
        for snapshot in table.metadata.snapshots
    )
