"""Delta Lake, through delta-rs: the rows are copied, for a Delta table keeps its files below its own folder."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import TableNotFoundError

from crawler.errors import Fatal
from crawler.model import RowKind
from crawler.runs.documents import Manifest
from crawler.sinks.columns import COLUMNS
from crawler.store import Store
from crawler.tables import failed, require_columns

_BATCH_ROWS = 1 << 16


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
            try:
                table = _table(self._uri, self._options)
            except TableNotFoundError:
                return
            require_columns(f"--delta {self._uri}", (field.name for field in table.schema().fields), self._rows)

    def has(self, run_id: str) -> bool:
        """See `Table`."""
        with self._told():
            try:
                return _table(self._uri, self._options).transaction_version(_application(run_id)) is not None
            except TableNotFoundError:
                return False

    def add(self, store: Store, manifest: Manifest, parts: Sequence[str]) -> None:
        """See `Table`. The application transaction is what makes it once: delta-rs refuses a second, racing one too.

        https://github.com/delta-io/delta/blob/master/PROTOCOL.md#transaction-identifiers
        """
        with self._told():
            schema = COLUMNS[self._rows].schema
            reader = pa.RecordBatchReader.from_batches(schema, _batches(parts, schema))
            marks = {
                "crawler.run-id": manifest.run,
                "crawler.status": manifest.status,
                "crawler.manifest": store.uri_of(f"runs/{manifest.run}/manifest.json"),
            }
            write_deltalake(
                self._uri,
                reader,
                mode="append",
                storage_options=self._options,
                commit_properties=CommitProperties(
                    custom_metadata=marks, app_transactions=[Transaction(_application(manifest.run), 1)]
                ),
            )

    @contextmanager
    def _told(self) -> Generator[None]:
        try:
            yield
        except (TableNotFoundError, Fatal):
            raise
        # delta-rs raises its own errors, and those of Arrow and of the file system.
        except Exception as error:
            raise failed(f"--delta {self._uri}", error) from error


def _table(uri: str, options: Mapping[str, str]) -> DeltaTable:
    return DeltaTable(uri, storage_options=dict(options))


def _application(run_id: str) -> str:
    return f"crawler/{run_id}"


def _batches(parts: Sequence[str], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    for part in parts:
        with pq.ParquetFile(part) as file:
            for batch in file.iter_batches(_BATCH_ROWS):
                yield from pa.Table.from_batches([batch]).cast(schema).to_batches()
