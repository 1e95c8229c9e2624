"""Parts of NDJSON lines, plain or compressed."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, Literal

import pyarrow as pa

from crawler.model import Image, RowKind
from crawler.rows import ENCODERS, to_line
from crawler.sinks.encoding import SCHEMA_VERSIONS, Origin

Compression = Literal["", "gz", "zst"]

_BLOCK = 1 << 20

#: Where a row begins. No value can hold it: in JSON a quote inside a string follows a backslash.
_BEGINNING = b'{"registryId":'


class Lines:
    """Rows as on standard output, with the columns of the run before; a chunk is bytes of whole lines."""

    def __init__(self, run_id: str, compression: Compression, rows: RowKind = RowKind.IDS) -> None:
        self.suffix = ".ndjson" + (f".{compression}" if compression else "")
        self.ratio = 6.0 if compression else 1.0
        self._run_id = run_id
        self._compression: Compression = compression
        self._schema_version = SCHEMA_VERSIONS[rows]
        self._encode = ENCODERS[rows]

    def encode(self, origin: Origin, images: Sequence[Image]) -> bytes:
        """See `Encoding`."""
        head = to_line(
            {
                "schema_version": self._schema_version,
                "run_id": self._run_id,
                "fetched_at": origin.fetched_at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
                "account_name": origin.account_name,
            }
        )
        lines = self._encode(origin.registry_id, origin.region, origin.repository, images)
        return lines.replace(_BEGINNING, head[:-2] + b"," + _BEGINNING[1:])

    def size(self, chunk: bytes) -> int:
        """See `Encoding`."""
        return len(chunk)

    def spill(self, chunks: Sequence[bytes], file: IO[bytes]) -> None:
        """See `Encoding`."""
        file.writelines(chunks)

    def spilled(self, file: IO[bytes]) -> Iterator[bytes]:
        """See `Encoding`."""
        while block := file.read(_BLOCK):
            yield block

    def writer(self, file: IO[bytes]) -> LinesWriter:
        """See `Encoding`."""
        return LinesWriter(file, self._compression)

    def merge(self, parts: Iterable[IO[bytes]], file: IO[bytes]) -> None:
        """See `Encoding`. Compressed files one after the other are one (RFC 1952 §2.2, RFC 8878 §3)."""
        for part in parts:
            shutil.copyfileobj(part, file, _BLOCK)


class LinesWriter:
    """See `PartWriter`."""

    def __init__(self, file: IO[bytes], compression: Compression) -> None:
        self._stream = _compressed(file, compression)

    def append(self, origin: Origin, chunks: Iterable[bytes]) -> None:  # noqa: ARG002  (its protocol's)
        """See `PartWriter`."""
        for chunk in chunks:
            self._stream.write(chunk)

    def close(self) -> None:
        """See `PartWriter`."""
        self._stream.close()


class _Kept:
    """A file that its compressor shall not close."""

    closed = False

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def write(self, data: bytes) -> int:
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.flush()


def _compressed(file: IO[bytes], compression: Compression) -> _Kept | gzip.GzipFile | pa.CompressedOutputStream:
    if compression == "zst":
        return pa.CompressedOutputStream(pa.PythonFile(_Kept(file), "w"), "zstd")
    if compression == "gz":
        return gzip.GzipFile(filename="", mode="wb", fileobj=_Kept(file), compresslevel=6, mtime=0)
    return _Kept(file)
