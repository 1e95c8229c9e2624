"""Where a run's files live: a folder or a bucket's prefix, behind the few operations that publishing needs.

What rests on them: `create` is atomic and never replaces, `list` sees every write that has ended (S3 promises both:
https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html, and .../Welcome.html#ConsistencyModel).
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import AsyncGenerator, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import chain
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self, cast

import anyio
import obstore
from anyio import to_thread
from obstore.exceptions import AlreadyExistsError, BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import LocalStore

from crawler.bucket import Bucket, reason
from crawler.errors import Fatal, UsageError
from crawler.local_files import discard, local_file, told

if TYPE_CHECKING:
    from obstore.store import ObjectStore

#: Bytes of one request of an upload, and how many at a time: their product is held in memory.
_CHUNK_BYTES, _CHUNKS_AT_ONCE = 8 << 20, 3

#: Bytes that are copied at a time into a folder. More bring nothing there: three times eight MiB took twice as long for
#: a part of 64, and lay in memory.
_COPIED_BYTES = 1 << 20

#: Bytes that are read at a time, where a file is read in little pieces.
_READ_BYTES = 1 << 16

#: What obstore leaves of a local write that was killed: the name, and a number.
_UNFINISHED = re.compile(r"\.new-[0-9a-f]+(#\d+)?$|#\d+$")

#: Times that a store which has not decided yet is asked, and seconds between them.
_CONFLICTS, _UNDECIDED = 10, 0.5

_PROBE = ".writable.new-"


class Exists(Exception):
    """There is something under the name that was to be created; `path` is relative to the store."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of a listing; `path` is relative to the store, `modified` by the store's clock."""

    path: str
    size: int
    modified: datetime


class Store:
    """Files by relative path. Every method raises `Fatal` when the store fails, its retries included."""

    def __init__(self, uri: str, backing: ObjectStore, folder: Path | None = None) -> None:
        self.uri = uri
        self._backing = backing
        self._folder = folder

    def __repr__(self) -> str:
        return f"<Store {self.uri!r}>"

    @classmethod
    def local(cls, name: str) -> Self:
        """A folder, made if need be. Raises `UsageError` if it cannot be written.

        Modes are by the process's umask, which the command line sets, and the task on a cluster.
        """
        folder = Path(os.path.realpath(name))
        try:
            folder.mkdir(parents=True, exist_ok=True)
            probe = folder / f"{_PROBE}{os.urandom(4).hex()}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise UsageError(f"{name}: cannot be written: {error.strerror}") from error
        return cls(f"{folder}/", LocalStore(prefix=folder), folder)

    @classmethod
    def existing(cls, name: str) -> Self:
        """A folder to read. Raises `UsageError` if there is none."""
        folder = Path(os.path.realpath(name))
        if not folder.is_dir():
            raise UsageError(f"{name}: there is no such folder")
        return cls(f"{folder}/", LocalStore(prefix=folder), folder)

    @classmethod
    def s3(cls, bucket: Bucket, prefix: str) -> Self:
        """What lies under a prefix of a bucket. Asks nothing yet."""
        return cls(f"s3://{bucket.name}/{prefix}", bucket.under(prefix))

    @property
    def folder(self) -> Path | None:
        """The folder, of a local store."""
        return self._folder

    def uri_of(self, path: str) -> str:
        """The name by which other programs find the file."""
        return self.uri + path

    async def create(self, path: str, data: bytes) -> None:
        """Write a file that must not exist, whole or not at all. Raises `Exists`.

        A write that was heard of too late, and repeated, finds itself: equal bytes are no conflict. Where nothing is
        there, S3 has only not decided yet between two who write (409, ConditionalRequestConflict): it is asked again.
        """
        for _ in range(_CONFLICTS):
            try:
                with _told(self.uri_of(path), AlreadyExistsError):
                    if self._folder:
                        await to_thread.run_sync(partial(self._write_local, self._folder, path, data, overwrite=False))
                    else:
                        await obstore.put_async(self._backing, path, data, mode="create")
            except AlreadyExistsError:
                there = await self.read(path)
                if there is None:
                    await anyio.sleep(_UNDECIDED)
                    continue
                if there != data:
                    raise Exists(path) from None
            return
        raise Fatal("StoreFailed", f"{self.uri_of(path)}: is refused as if it were there, and is not")

    def _write_local(self, top: Path, path: str, file: IO[bytes] | bytes, *, overwrite: bool) -> None:
        # Not obstore's own put: that syncs nothing, so that after a power failure the file might be there, empty; and a
        # process that is killed leaves NAME#1 behind, in which Hive and Spark would find half a file to read.
        # All in one thread: each return to an event loop that is busy with pages takes as long as a page.
        folder, slash, name = path.rpartition("/")
        new = f"{folder}{slash}.{name}.new-{os.urandom(4).hex()}"
        obstore.put(self._backing, new, file, chunk_size=_COPIED_BYTES, max_concurrency=1)
        _sync([top / new])
        try:
            obstore.rename(self._backing, new, path, overwrite=overwrite)
        except AlreadyExistsError:
            obstore.delete(self._backing, new)
            raise
        # A new folder is a name in its parent's.
        parents = (top / path).parents
        _sync(parents[: parents.index(top) + 1])

    async def refuses_to_replace(self, path: str) -> bool:
        """Tell whether creating this file, which exists, is refused, as all that is exact here rests on."""
        try:
            with _told(self.uri_of(path), AlreadyExistsError):
                await obstore.put_async(self._backing, path, await self.read(path) or b"", mode="create")
        except AlreadyExistsError:
            return True
        return False

    async def put(self, path: str, file: IO[bytes] | bytes) -> None:
        """Write a file whole, replacing what was there. A large one is an upload of several requests on S3."""
        with _told(self.uri_of(path)):
            if self._folder:
                write = partial(self._write_local, self._folder, path, file, overwrite=True)
                # A file may be closed by whoever gave it once this returns; bytes stay, however long a disk hangs.
                await to_thread.run_sync(write, abandon_on_cancel=isinstance(file, bytes))
                return
            await obstore.put_async(self._backing, path, file, chunk_size=_CHUNK_BYTES, max_concurrency=_CHUNKS_AT_ONCE)

    async def read(self, path: str, at_most: int | None = None) -> bytes | None:
        """All of a small file, or its first `at_most` bytes; None if there is none."""
        try:
            with _told(self.uri_of(path), FileNotFoundError):
                answer = await obstore.get_async(self._backing, path)
                if at_most is None or answer.meta["size"] <= at_most:
                    return bytes(await answer.bytes_async())
                return bytes(await obstore.get_range_async(self._backing, path, start=0, length=at_most))
        except FileNotFoundError:
            return None

    async def fetch(self, path: str, file: IO[bytes]) -> None:
        """Copy a file that must be there into a local one, whose own failures are not the store's."""
        try:
            with _told(self.uri_of(path), FileNotFoundError):
                answer = await obstore.get_async(self._backing, path)
                async for piece in answer.stream(min_chunk_size=1 << 20):
                    with told():
                        file.write(piece)
        except FileNotFoundError:
            raise Fatal("StoreFailed", f"{self.uri_of(path)}: is named by this run, and is not there") from None

    async def opened(self, path: str) -> IO[bytes]:
        """A file that must be there, at its beginning: the one in the folder, or else a copy. Close with `discard`."""
        if self._folder:
            with _told(self.uri_of(path)):
                return io.BufferedReader(_Stored(self._folder / path, self.uri_of(path)), _READ_BYTES)
        file = local_file()
        try:
            await self.fetch(path, file)
            with told():
                file.seek(0)
        except BaseException:
            discard(file)
            raise
        return file

    async def exists(self, path: str) -> bool:
        """Tell whether there is such a file."""
        try:
            with _told(self.uri_of(path), FileNotFoundError):
                await obstore.head_async(self._backing, path)
        except FileNotFoundError:
            return False
        return True

    async def list(self, folder: str) -> AsyncGenerator[Entry]:
        """All whole files below a folder, in any order; consume under `aclosing`. A folder ends with a slash, or is "".

        What a killed process left is none: the second name of a file that was just created would be a second file.
        """
        with _told(self.uri_of(folder)):
            async for entries in obstore.list(self._backing, folder.rstrip("/") or None):
                for entry in entries:
                    if self._folder and _UNFINISHED.search(entry["path"]):
                        continue
                    yield Entry(entry["path"], entry["size"], entry["last_modified"])

    async def names(self, folder: str) -> Sequence[str]:
        """Paths below a folder, sorted."""
        return sorted([entry.path async for entry in self.list(folder)])

    async def folders(self, folder: str) -> Sequence[str]:
        """Names of the folders directly below a folder, sorted."""
        with _told(self.uri_of(folder)):
            listed = await obstore.list_with_delimiter_async(self._backing, folder.rstrip("/"))
        return sorted(path.rstrip("/").rpartition("/")[2] for path in listed["common_prefixes"])

    async def delete(self, path: str) -> None:
        """Remove a file; one that is not there is none the less removed."""
        try:
            with _told(self.uri_of(path), FileNotFoundError):
                await obstore.delete_async(self._backing, path)
        except FileNotFoundError:
            return

    def unfinished(self, folders: Iterable[str], older_than: timedelta) -> Iterator[Path]:
        """Files that a killed process left half written in a local store below `folders`, untouched for that long."""
        if self._folder is None:
            return
        latest = (datetime.now(UTC) - older_than).timestamp()
        for path in chain(self._folder.glob(f"{_PROBE}*"), *((self._folder / folder).rglob("*") for folder in folders)):
            if _UNFINISHED.search(path.name) and path.is_file() and path.stat().st_mtime < latest:
                yield path


class _Stored(io.FileIO):
    """A file of the store that is read where it lies: its failures are the store's, whoever reads."""

    def __init__(self, path: Path, uri: str) -> None:
        super().__init__(path)
        self._uri = uri

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401  (any buffer)
        with _told(self._uri):
            return cast("int", super().readinto(buffer))


def _sync(names: Sequence[Path]) -> None:
    """Make files durable, or the names in folders."""
    for name in names:
        fd = os.open(name, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


@contextmanager
def _told(uri: str, *expected: type[Exception]) -> Generator[None]:
    """Failures of the store as `Fatal`, in one line; what is `expected` passes.

    Only where it is: a file that vanishes under whoever writes it is no file that is not there.
    """
    try:
        yield
    except (PermissionDeniedError, UnauthenticatedError) as error:
        raise Fatal("StoreDenied", f"{uri}: not allowed: {reason(error)}") from error
    except (BaseError, OSError) as error:
        # A file may be missing, a bucket may not.
        if isinstance(error, expected) and "NoSuchBucket" not in str(error):
            raise
        raise Fatal("StoreFailed", f"{uri}: {reason(error)}; nothing more is published") from error
