"""Delta Lake, through delta-rs: the rows are copied, for a Delta table keeps its files below its own folder."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, TableNotFoundError

from crawler.errors import Fatal
from crawler.model import RowKind
from crawler.runs.documents import Manifest
from crawler.sinks.columns import COLUMNS
from crawler.store import Store
from crawler.tables import failed, require_columns

_BATCH_ROWS = 1 << 16
#: Each is lost to somebody who has committed meanwhile.
_ATTEMPTS = 5


class Delta:
    """See `Table`. `uri` is a folder or s3://…; `options` are delta-rs's, to reach it. Made with the first run."""

    copies = True

    def __init__(self, uri: str, options: Mapping[str, str], rows: RowKind = RowKind.IDS) -> None:
        self._uri = uri
        self._options = dict(options)
        self._rows = rows

    def check(self) -> None:
        """See `Table`."""
        with self._told():
            if table := self._table():
                require_columns(f"--delta {self._uri}", (field.name for field in table.schema().fields), self._rows)
            _require_writable(self._uri)

    def has(self, run_id: str) -> bool:
        """See `Table`."""
        with self._told():
            table = self._table()
            return table is not None and _has(table, run_id)

    def add(self, store: Store, manifest: Manifest, parts: Sequence[str]) -> None:
        """See `Table`. Once also where several add a run at once: files of those who come too late are left for VACUUM.

        https://github.com/delta-io/delta/blob/master/PROTOCOL.md#transaction-identifiers
        """
        marks = {
            "crawler.run-id": manifest.run,
            "crawler.status": manifest.status,
            "crawler.manifest": store.uri_of(f"runs/{manifest.run}/manifest.json"),
        }
        with self._told():
            for left in reversed(range(_ATTEMPTS)):
                try:
                    self._add(manifest.run, marks, parts)
                except CommitFailedError:
                    if not left:
                        raise
                else:
                    return

    def _add(self, run_id: str, marks: dict[str, str], parts: Sequence[str]) -> None:
        # Made before, and empty: of two who make a table with their rows, delta-rs refuses none.
        table = self._table() or self._made()
        if _has(table, run_id):
            return
        schema = COLUMNS[self._rows].schema
        write_deltalake(
            # Not its address, which would have it opened anew: a run is only refused if it came after the opening.
            table,
            pa.RecordBatchReader.from_batches(schema, _batches(parts, schema)),
            mode="append",
            commit_properties=CommitProperties(
                custom_metadata=marks, app_transactions=[Transaction(_application(run_id), 1)]
            ),
        )

    def _table(self) -> DeltaTable | None:
        try:
            return DeltaTable(self._uri, storage_options=self._options)
        except TableNotFoundError:
            return None

    def _made(self) -> DeltaTable:
        nothing = pa.RecordBatchReader.from_batches(COLUMNS[self._rows].schema, [])
        write_deltalake(self._uri, nothing, mode="ignore", storage_options=self._options)
        return DeltaTable(self._uri, storage_options=self._options)

    @contextmanager
    def _told(self) -> Generator[None]:
        try:
            yield
        except Fatal:
            raise
        # delta-rs raises its own errors, and those of Arrow and of the file system.
        except Exception as error:
            raise failed(f"--delta {self._uri}", error) from error


def _require_writable(uri: str) -> None:
    """Raise `OSError` for a folder in which nothing could be made. Nothing stays there."""
    path = unquote(urlsplit(uri).path) if uri.startswith("file://") else uri
    if "://" in path:
        return
    place = Path(path, "_delta_log")
    while not place.exists():
        place = place.parent
    # Tried, for what access rights say is not true of everybody, nor of every file system.
    with TemporaryDirectory(prefix=".writable-", dir=place):
        pass


def _has(table: DeltaTable, run_id: str) -> bool:
    return table.transaction_version(_application(run_id)) is not None


def _application(run_id: str) -> str:
    return f"crawler/{run_id}"


def _batches(parts: Sequence[str], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    for part in parts:
        with pq.ParquetFile(part) as file:
            for batch in file.iter_batches(_BATCH_ROWS):
                yield from pa.Table.from_batches([batch]).cast(schema).to_batches()
