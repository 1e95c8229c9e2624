"""Apache Iceberg, through pyiceberg: the parts become files of the table as they are.

The catalog is the user's own, by its name in `.pyiceberg.yaml` or PYICEBERG_CATALOG__NAME__… variables
(https://py.iceberg.apache.org/configuration/).
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, cast

from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.table import Table as PyIcebergTable
from pyiceberg.utils.config import Config

from crawler.errors import Fatal, UsageError
from crawler.model import RowKind
from crawler.runs.documents import Manifest
from crawler.sinks.columns import COLUMNS
from crawler.store import Store
from crawler.tables import failed, require_columns

#: Snapshot properties, in the table's own history.
RUN_ID, STATUS, MANIFEST = "crawler.run-id", "crawler.status", "crawler.manifest"

#: Names of properties that hold secrets, and parts of such a value: a credential is `id:secret`, a header has words.
_SECRET = re.compile(r"(?:auth|credential|header|key|password|secret|token)(?!.*-ur[il]$)")
_PARTS = re.compile(r"[^\s:]{4,}")


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
        self._secrets = frozenset(_secrets(Config().get_catalog_config(catalog) or {}))

    def check(self) -> None:
        """See `Table`."""
        with self._told():
            namespace = self._table_name.rpartition(".")[0]
            catalog = self._catalog()
            if not catalog.namespace_exists(namespace):
                raise Fatal(
                    "TableFailed",
                    f"--iceberg {self._name}: the catalog has no namespace {namespace}: make it there first",
                )
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
        """See `Table`. Once also where several add a run at once; a run without parts leaves no mark."""
        marks = {
            RUN_ID: manifest.run,
            STATUS: manifest.status,
            MANIFEST: store.uri_of(f"runs/{manifest.run}/manifest.json"),
        }
        with self._told():
            table = _Watched(self._made(), manifest.run)
            self._require_columns(table)
            if parts and not _has(table, manifest.run):
                with suppress(_OvertakenError):
                    table.add_files(list(parts), snapshot_properties=marks)

    def _made(self) -> PyIcebergTable:
        catalog = self._catalog()
        try:
            return catalog.load_table(self._table_name)
        except NoSuchTableError:
            return catalog.create_table_if_not_exists(self._table_name, schema=COLUMNS[self._rows].schema)

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
            raise failed(f"--iceberg {self._name}", error, self._secrets) from error


def _secrets(properties: Mapping[str, Any], *, all_are: bool = False) -> Iterator[str]:
    for name, value in properties.items():
        secret = all_are or _SECRET.search(name) is not None
        if isinstance(value, Mapping):
            yield from _secrets(cast("Mapping[str, Any]", value), all_are=secret)
        elif secret:
            yield from _PARTS.findall(str(value))


class _OvertakenError(Exception):
    """Somebody else has added the run."""


class _Watched(PyIcebergTable):
    """A table that a run is added to, unless it turns up there.

    Where somebody else has committed first, pyiceberg looks at the table anew, and then adds whatever has come. Not
    `commit.retry.num-retries` 0 instead: without that look it would remove what it wrote for a commit that a catalog,
    asked twice because an answer got lost, has taken and refused.
    """

    def __init__(self, table: PyIcebergTable, run_id: str) -> None:
        super().__init__(
            table.name(), table.metadata, table.metadata_location, table.io, table.catalog, dict(table.config)
        )
        self._run_id = run_id

    def refresh(self) -> PyIcebergTable:
        """Look at the table anew. Raises `_OvertakenError` if it has the run."""
        super().refresh()
        if _has(self, self._run_id):
            raise _OvertakenError
        return self


def _has(table: PyIcebergTable, run_id: str) -> bool:
    if any(
        snapshot.summary is not None and snapshot.summary.additional_properties.get(RUN_ID) == run_id
        for snapshot in table.metadata.snapshots
    ):
        return True
    # Snapshots expire. Files that cannot hold the run are passed over by what their manifests say of them.
    rows = table.scan(row_filter=f"run_id = '{run_id}'", selected_fields=("run_id",), limit=1)
    return rows.to_arrow().num_rows > 0
