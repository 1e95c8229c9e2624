"""Local files that have no name: rows that wait for the end of their repository, and parts that wait to be stored."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import IO, Any, Generic, Self, TypeVar, cast

from crawler.local_files import discard, local_file, told
from crawler.model import Image
from crawler.sinks.encoding import Encoding, Origin, PartWriter

ChunkT = TypeVar("ChunkT")


class Spool(Generic[ChunkT]):
    """Chunks of one repository, in their order: the first ones in a file once `spill` was called, the rest in memory.

    `bytes` are of chunks in both places, `in_memory` of those in memory. After a `failure` they are not all there.
    """

    __slots__ = ("_chunks", "_encoding", "_file", "bytes", "failure", "in_memory", "origin", "rows")

    def __init__(self, encoding: Encoding[ChunkT], origin: Origin) -> None:
        self.origin = origin
        self.rows = 0
        self.bytes = 0
        self.in_memory = 0
        self._encoding = encoding
        self._chunks: list[ChunkT] = []
        self._file: IO[bytes] | None = None
        self.failure: Exception | None = None

    def add(self, images: Sequence[Image]) -> int:
        """Keep a page; return its size."""
        chunk = self._encoding.encode(self.origin, images)
        size = self._encoding.size(chunk)
        self._chunks.append(chunk)
        self.rows += len(images)
        self.bytes += size
        self.in_memory += size
        return size

    def lay_aside(self) -> Sequence[ChunkT]:
        """Give away what is in memory, for `spill`; more may be added meanwhile."""
        chunks, self._chunks, self.in_memory = self._chunks, [], 0
        return chunks

    def spill(self, chunks: Sequence[ChunkT]) -> None:
        """Write to the file what was laid aside. Blocks."""
        with told():
            if self._file is None:
                self._file = local_file()
            self._encoding.spill(chunks, self._file)
            self._file.flush()

    def __iter__(self) -> Iterator[ChunkT]:
        """All chunks. Raises `failure`."""
        if self.failure:
            raise self.failure
        if self._file:
            self._file.seek(0)
            yield from self._encoding.spilled(self._file)
        yield from self._chunks

    def clear(self) -> None:
        """Forget all chunks."""
        self.close()
        self._chunks = []
        self.rows = self.bytes = self.in_memory = 0

    def close(self) -> None:
        """Remove the file."""
        if self._file:
            discard(self._file)
            self._file = None


class _Hashed(io.RawIOBase):
    """What is written to a file, with its length and SHA-256."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__()
        self.file = file
        self.hash = hashlib.sha256()
        self.bytes = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:  # noqa: ANN401  (any buffer)
        self.hash.update(data)
        self.bytes += len(data)
        return self.file.write(data)

    def tell(self) -> int:
        return self.bytes

    def close(self) -> None:
        """Stay open: formats close what they write to, and the part is still to be read."""


class PartFile:
    """A part in the making. Not opened until there is a row, for a checkpoint may have none."""

    def __init__(self, suffix: str) -> None:
        self.suffix = suffix
        self.rows = 0
        self._hashed: _Hashed | None = None
        self._writer: PartWriter[Any] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Remove the file."""
        if self._hashed:
            discard(self._hashed.file)

    @property
    def size(self) -> int:
        """Bytes written so far; what the format still gathers is not."""
        return self._hashed.bytes if self._hashed else 0

    @property
    def sha256(self) -> str:
        """Of what was written so far, in hexadecimal digits."""
        return self._hashed.hash.hexdigest() if self._hashed else hashlib.sha256().hexdigest()

    def raw(self) -> IO[bytes]:
        """Open the file, to be written by someone else than `append`."""
        if self._hashed is None:
            self._hashed = _Hashed(local_file(buffering=1 << 20))
        return cast("IO[bytes]", self._hashed)

    def open(self, encoding: Encoding[Any]) -> None:
        """Begin to write, if that has not happened yet."""
        if self._writer is None:
            self._writer = encoding.writer(self.raw())

    def append(self, origin: Origin, spool: Spool[Any]) -> None:
        """Write the rows of a spool. Blocks."""
        if self._writer is None:
            raise AssertionError("append before open")
        with told():
            self._writer.append(origin, spool)
        self.rows += spool.rows

    def merge(self, encoding: Encoding[Any], parts: Sequence[IO[bytes]]) -> None:
        """Write the rows of other parts, and nothing else. Blocks."""
        with told():
            encoding.merge(parts, self.raw())

    def finish(self) -> None:
        """Write what is left. Blocks."""
        with told():
            if self._writer:
                self._writer.close()
            if self._hashed:
                self._hashed.file.flush()

    def reader(self) -> IO[bytes]:
        """The file, from its beginning."""
        if self._hashed is None:
            raise AssertionError("nothing was written")
        self._hashed.file.seek(0)
        return self._hashed.file
