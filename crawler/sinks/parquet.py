"""Parts of Parquet."""

from __future__ import annotations

import ctypes
import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from io import BytesIO
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

from crawler.model import Image, RowKind
from crawler.sinks.columns import COLUMNS, ORIGIN, Columns, strings
from crawler.sinks.encoding import SCHEMA_VERSIONS, Origin
from crawler.sinks.row_groups import Merged, footer, row_groups

#: Rows gathered before they are written: enough for the compressor, and some 15 MB of memory.
_ROW_GROUP = 1 << 17

#: Rows of a group that readers like well enough.
_LARGE = _ROW_GROUP // 8

_M_MMAP_THRESHOLD = -3

_repeated = pa.dictionary(pa.int32(), pa.string())

#: Columns that are strings and the same in all rows of a repository.
_REPEATED = [field.name for field in ORIGIN if field.type == pa.string()]

#: Random, so that bounds of them are lost bytes. Higher levels of compression find nothing more in random digits, and
#: look long.
_DIGESTS = ("imageDigest", "subjectManifestDigest")

#: Most differ from row to row, so a dictionary is lost bytes. What neighbours have in common is their beginning, which
#: DELTA_BYTE_ARRAY leaves out.
_DISTINCT = (*_DIGESTS, "imageTag")


class Parquet:
    """Columns as `COLUMNS` has them for the kind of rows; a chunk is a record batch of what differs between images."""

    suffix = ".parquet"
    ratio = 2.4

    def __init__(self, run_id: str, rows: RowKind = RowKind.IDS) -> None:
        self._run_id = run_id
        self._rows = rows
        self._columns = COLUMNS[rows]
        _give_memory_back()

    def encode(self, origin: Origin, images: Sequence[Image]) -> pa.RecordBatch:  # noqa: ARG002  (its protocol's)
        """See `Encoding`."""
        return self._columns.batch(images)

    def size(self, chunk: pa.RecordBatch) -> int:
        """See `Encoding`."""
        return int(chunk.nbytes)

    def spill(self, chunks: Sequence[pa.RecordBatch], file: IO[bytes]) -> None:
        """See `Encoding`. Each call writes a stream of its own, one after the other."""
        with pa.ipc.new_stream(pa.PythonFile(file, "w"), self._columns.images) as stream:
            for chunk in chunks:
                stream.write_batch(chunk)

    def spilled(self, file: IO[bytes]) -> Iterator[pa.RecordBatch]:
        """See `Encoding`."""
        here = file.tell()
        end = file.seek(0, os.SEEK_END)
        file.seek(here)
        source = pa.PythonFile(file, "r")
        while file.tell() < end:
            yield from pa.ipc.open_stream(source)

    def writer(self, file: IO[bytes]) -> ParquetWriter:
        """See `Encoding`."""
        return ParquetWriter(file, self._run_id, self._rows)

    def merge(self, parts: Iterable[IO[bytes]], file: IO[bytes]) -> None:
        """See `Encoding`. Row groups that are large enough are copied as they are; the rows of others make new ones."""
        merged = Merged(file)
        few: list[pa.Table] = []

        def pack() -> None:
            table = pa.concat_tables(few).unify_dictionaries()
            few.clear()
            packed = BytesIO()
            with _parquet(packed, table.schema) as writer:
                writer.write_table(table, row_group_size=table.num_rows)
            said = footer(packed)
            for group in row_groups(said):
                merged.add(packed, said, group)

        for part in parts:
            said = footer(part)
            for number, group in enumerate(row_groups(said)):
                if group.rows >= _LARGE:
                    merged.add(part, said, group)
                    continue
                few.append(self._table(part, number))
                if sum(table.num_rows for table in few) >= _ROW_GROUP:
                    pack()
        if few:
            pack()
        merged.close()

    def _table(self, part: IO[bytes], group: int) -> pa.Table:
        with pq.ParquetFile(part, read_dictionary=_REPEATED) as source:
            return source.read_row_group(group, use_threads=False).cast(_written(self._columns))


def _give_memory_back() -> None:
    """Have allocators keep less of what is free: as fast, and a quarter less memory with each of the two."""
    with suppress(NotImplementedError):  # some platforms have none
        pa.set_memory_pool(pa.jemalloc_memory_pool())
    with suppress(AttributeError, OSError):  # neither musl nor macOS has it
        # Left alone, glibc raises this limit to the largest block that was freed, and keeps what is below; mallopt(3).
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, 1 << 17)


class ParquetWriter:
    """See `PartWriter`."""

    def __init__(self, file: IO[bytes], run_id: str, rows: RowKind = RowKind.IDS) -> None:
        self._written = _written(COLUMNS[rows])
        self._schema_version = SCHEMA_VERSIONS[rows]
        self._writer = _parquet(file, self._written)
        self._run_id = run_id
        self._begin()

    def _begin(self) -> None:
        self._chunks: list[pa.RecordBatch] = []
        self._rows = 0
        self._origins: list[Origin] = []
        self._origin_of_row = array("i")

    def append(self, origin: Origin, chunks: Iterable[pa.RecordBatch]) -> None:
        """See `PartWriter`."""
        for chunk in chunks:
            if not self._origins or self._origins[-1] is not origin:
                self._origins.append(origin)
            self._chunks.append(chunk)
            self._rows += chunk.num_rows
            self._origin_of_row += array("i", [len(self._origins) - 1]) * chunk.num_rows
            if self._rows >= _ROW_GROUP:
                self._flush()

    def close(self) -> None:
        """See `PartWriter`."""
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        if not self._rows:
            return
        images = pa.Table.from_batches(self._chunks)
        index = pa.Array.from_buffers(pa.int32(), self._rows, [None, pa.py_buffer(self._origin_of_row)])
        columns: list[pa.Array | pa.ChunkedArray] = [
            pa.repeat(pa.scalar(self._schema_version, pa.int32()), self._rows),
            _spread(index, [self._run_id] * len(self._origins)),
            pa.array([_microseconds(origin.fetched_at) for origin in self._origins], ORIGIN.field(2).type).take(index),
            _spread(index, [origin.account_name for origin in self._origins]),
            _spread(index, [origin.registry_id for origin in self._origins]),
            _spread(index, [origin.region for origin in self._origins]),
            _spread(index, [origin.repository for origin in self._origins]),
            *images.columns,
        ]
        self._writer.write_table(pa.Table.from_arrays(columns, schema=self._written), row_group_size=self._rows)
        self._begin()


def _written(columns: Columns) -> pa.Schema:
    """The schema as we hand it over: dictionaries, whose values are few, cost next to nothing for each row."""
    return pa.schema([field.with_type(_repeated) if field.name in _REPEATED else field for field in columns.schema])


def _parquet(file: IO[bytes], written: pa.Schema) -> pq.ParquetWriter:
    return pq.ParquetWriter(
        file,
        written,
        compression="zstd",
        compression_level=1,
        use_dictionary=[_leaf(field) for field in written if field.name not in _DISTINCT],
        column_encoding={name: "DELTA_BYTE_ARRAY" for name in _DISTINCT if name in written.names},
        write_statistics=[_leaf(field) for field in written if field.name not in _DIGESTS],
        store_schema=False,  # otherwise readers would be given Arrow's dictionaries instead of strings
    )


def _leaf(field: pa.Field) -> str:
    """The path of a column within the file."""
    return f"{field.name}.list.element" if pa.types.is_list(field.type) else str(field.name)


def _spread(index: pa.Array, values: Sequence[str | None]) -> pa.DictionaryArray:
    """A column of one value for each row, from one for each origin."""
    encoded = strings(values, pa.string()).dictionary_encode()
    return pa.DictionaryArray.from_arrays(encoded.indices.take(index), encoded.dictionary)


def _microseconds(time: datetime) -> int:
    # To the millisecond, as in the lines; in the unit of tables, for Iceberg knows no other.
    return int(time.timestamp() * 1000) * 1000
