"""Parts of Parquet."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from operator import itemgetter
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

from crawler.model import ImageId
from crawler.sinks.encoding import SCHEMA_VERSION, Origin

#: Rows gathered before they are written: enough for the compressor, and some 15 MB of memory.
_ROW_GROUP = 1 << 17

_repeated = pa.dictionary(pa.int32(), pa.string())

#: As `FIELDS`. Strings that repeat are written as dictionaries; a reader sees plain strings.
SCHEMA = pa.schema(
    [
        pa.field("schema_version", pa.int32(), nullable=False),
        pa.field("run_id", pa.string(), nullable=False),
        pa.field("fetched_at", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("account_name", pa.string()),
        pa.field("registryId", pa.string(), nullable=False),
        pa.field("region", pa.string(), nullable=False),
        pa.field("repositoryName", pa.string(), nullable=False),
        pa.field("imageDigest", pa.string()),
        pa.field("imageTag", pa.string()),
    ]
)

#: Columns of `SCHEMA` that are the same in all rows of a repository.
_REPEATED = ["run_id", "account_name", "registryId", "region", "repositoryName"]

_CHUNK = pa.schema([pa.field("imageDigest", pa.string()), pa.field("imageTag", pa.string())])

_digests, _tags = itemgetter("imageDigest"), itemgetter("imageTag")


class Parquet:
    """Columns as `SCHEMA`; a chunk is a record batch of digests and tags alone."""

    suffix = ".parquet"
    ratio = 2.4

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id
        with suppress(NotImplementedError):  # some platforms have none
            # Gives back what it no longer needs: a quarter less memory than Arrow's default, as fast.
            pa.set_memory_pool(pa.jemalloc_memory_pool())

    def encode(self, origin: Origin, image_ids: Sequence[ImageId]) -> pa.RecordBatch:  # noqa: ARG002
        """See `Encoding`."""
        try:
            digests, tags = list(map(_digests, image_ids)), list(map(_tags, image_ids))
        except KeyError:  # an untagged image may be without the key as well
            digests = [image_id.get("imageDigest") for image_id in image_ids]
            tags = [image_id.get("imageTag") for image_id in image_ids]
        return pa.RecordBatch.from_arrays([_strings(digests), _strings(tags)], schema=_CHUNK)

    def size(self, chunk: pa.RecordBatch) -> int:
        """See `Encoding`."""
        return int(chunk.nbytes)

    def spill(self, chunks: Sequence[pa.RecordBatch], file: IO[bytes]) -> None:
        """See `Encoding`. Each call writes a stream of its own, one after the other."""
        with pa.ipc.new_stream(pa.PythonFile(file, "w"), _CHUNK) as stream:
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
        return ParquetWriter(file, self._run_id)

    def merge(self, parts: Iterable[IO[bytes]], file: IO[bytes]) -> None:
        """See `Encoding`."""
        with _parquet(file) as writer:
            for part in parts:
                with pq.ParquetFile(part, read_dictionary=_REPEATED) as source:
                    for batch in source.iter_batches(_ROW_GROUP, use_threads=False):
                        writer.write_table(pa.Table.from_batches([batch]).cast(_WRITTEN), row_group_size=_ROW_GROUP)


class ParquetWriter:
    """See `PartWriter`."""

    def __init__(self, file: IO[bytes], run_id: str) -> None:
        self._writer = _parquet(file)
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
            pa.repeat(pa.scalar(SCHEMA_VERSION, pa.int32()), self._rows),
            _spread(index, [self._run_id] * len(self._origins)),
            pa.array([_microseconds(origin.fetched_at) for origin in self._origins], SCHEMA.field(2).type).take(index),
            _spread(index, [origin.account_name for origin in self._origins]),
            _spread(index, [origin.registry_id for origin in self._origins]),
            _spread(index, [origin.region for origin in self._origins]),
            _spread(index, [origin.repository for origin in self._origins]),
            *images.columns,
        ]
        self._writer.write_table(pa.Table.from_arrays(columns, schema=_WRITTEN), row_group_size=self._rows)
        self._begin()


#: `SCHEMA` as we hand it over: dictionaries, whose values are few, cost next to nothing for each row.
_WRITTEN = pa.schema([field.with_type(_repeated) if field.name in _REPEATED else field for field in SCHEMA])


def _parquet(file: IO[bytes]) -> pq.ParquetWriter:
    # Digests are random: a dictionary or bounds of them are lost bytes. What they have in common is their beginning,
    # which DELTA_BYTE_ARRAY leaves out. Higher levels find nothing more in random digits, and look long.
    return pq.ParquetWriter(
        file,
        _WRITTEN,
        compression="zstd",
        compression_level=1,
        use_dictionary=[field.name for field in SCHEMA if field.name != "imageDigest"],
        column_encoding={"imageDigest": "DELTA_BYTE_ARRAY"},
        write_statistics=[field.name for field in SCHEMA if field.name != "imageDigest"],
        store_schema=False,  # otherwise readers would be given Arrow's dictionaries instead of strings
    )


def _spread(index: pa.Array, values: Sequence[str | None]) -> pa.DictionaryArray:
    """A column of one value for each row, from one for each origin."""
    encoded = pa.array(values, pa.string()).dictionary_encode()
    return pa.DictionaryArray.from_arrays(encoded.indices.take(index), encoded.dictionary)


def _microseconds(time: datetime) -> int:
    # To the millisecond, as in the lines; in the unit of tables, for Iceberg knows no other.
    return int(time.timestamp() * 1000) * 1000


def _strings(values: list[str | None]) -> pa.Array:
    try:
        return pa.array(values, pa.string())
    except UnicodeEncodeError:  # a lone surrogate, which UTF-8 cannot hold
        return pa.array([value and value.encode(errors="replace").decode() for value in values], pa.string())
