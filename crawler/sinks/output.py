"""Where bytes end up: standard output, a device or pipe, or a file that appears whole."""

from __future__ import annotations

import errno
import fcntl
import os
import select
import sys
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from crawler.errors import Fatal, ReaderGone, UsageError
from crawler.local_files import told

#: The files name internal systems: theirs is nobody's business but the owner's.
_MODE = 0o600

_BLOCK = 1 << 20

#: Bytes that the kernel is asked to move at a time.
_AT_ONCE = 1 << 30


class Output:
    """A blocking, unbuffered byte stream by name; `-` is standard output.

    A regular file is written beside its place, as `NAME.partial`, and appears under its name by `publish()`, whole
    and synced; until then what stood there stays. A device or a named pipe is written as it is. A run that ends
    before `publish()` leaves the partial file for whoever wants to look, and the next run overwrites it.

    Raises `UsageError` when it cannot be opened, before any request was made; later `ReaderGone` or `Fatal`.
    """

    def __init__(self, name: str) -> None:
        self.name = "<stdout>" if name == "-" else name
        self._path = Path(name)
        self._partial: Path | None = None
        self._failed: Fatal | None = None
        if name == "-" and sys.__stdout__ is None:
            # Descriptor 1 is then whatever was opened first.
            raise UsageError("standard output is closed: name a file with --output")
        try:
            self._fd = os.dup(1) if name == "-" else self._open()
        except IsADirectoryError as error:
            raise UsageError(
                f"{self.name}: is a folder: name a file, or, as --output, {self.name}/ for a run published there"
            ) from error
        except OSError as error:
            raise UsageError(f"{self.name}: cannot be written: {error.strerror}") from error

    def __repr__(self) -> str:
        return f"<Output {self.name!r}{f' in {self._partial.name!r}' if self._partial else ''}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _open(self) -> int:
        if self._path.exists() and not self._path.is_file():
            # By the name given: what /dev/fd/63, a shell's `>(…)`, points to has no name of its own.
            return os.open(self._path, os.O_WRONLY)
        # The name may be a link: what it points to is replaced, not the link. Not Path.resolve(), which raises
        # RuntimeError where links go in a circle.
        self._path = Path(os.path.realpath(self._path))
        self._partial = self._path.with_name(self._path.name + ".partial")
        fd, made = _opened(self._partial)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not _is_open_as(fd, self._partial):
                raise BlockingIOError
            if not made:
                _require_ours(fd)
            os.truncate(fd, 0)
        except OSError as error:
            os.close(fd)
            if isinstance(error, BlockingIOError):
                raise UsageError(f"{self._partial}: another run is writing it; choose another name or wait") from None
            raise
        return fd

    def write(self, data: bytes) -> None:
        """Write all of `data`; may block for as long as its reader does."""
        view = memoryview(data)
        try:
            while view:
                try:
                    view = view[os.write(self._fd, view) :]
                except BlockingIOError:
                    # Who shares our standard output may have made it non-blocking for all who hold it.
                    self._wait_until_writable()
        except OSError as error:
            self._failed = self._failure(error)
            raise self._failed from error

    def copy(self, file: IO[bytes]) -> None:
        """Write all that a file holds, from its beginning; may block as `write` does."""
        with told():
            file.seek(self._sent(file.fileno()))
        while True:
            with told():
                block = file.read(_BLOCK)
            if not block:
                return
            self.write(block)

    def _sent(self, source: int) -> int:
        """Have the kernel move what it can of a file, and return how many bytes those are.

        A pipe is given the file's own pages, and bytes that nobody asks to see cost nothing. Not all outputs take them
        (a file opened to append, other systems than Linux), and an error may be of either side: `copy` meets it again.
        """
        sent = 0
        while True:
            try:
                moved = os.sendfile(self._fd, source, sent, _AT_ONCE)
            except BlockingIOError:
                self._wait_until_writable()
                continue
            except OSError:
                return sent
            if not moved:
                return sent
            sent += moved

    def publish(self) -> None:
        """Let the file appear under its name, with all that was written. Nothing to do for a stream.

        A file that could not take everything never appears: it may end in half a line. Raises that failure again.
        """
        if self._partial is None:
            return
        if self._failed:
            raise self._failed
        try:
            os.fsync(self._fd)
            self._partial.rename(self._path)
            self._partial = None
            _sync_directory(self._path.parent)
        except OSError as error:
            raise self._failure(error) from error

    def close(self) -> None:
        """Close without publishing. Safe to call twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _wait_until_writable(self) -> None:
        poller = select.poll()  # select() refuses descriptors from 1024 on
        poller.register(self._fd, select.POLLOUT)
        poller.poll()

    def _failure(self, error: OSError) -> Fatal:
        if error.errno in (errno.EPIPE, errno.ECONNRESET):
            return ReaderGone("ReaderGone", f"{self.name}: its reader has closed it")
        return Fatal("WriteFailed", f"{self.name}: {error.strerror}")


def _opened(path: Path) -> tuple[int, bool]:
    """A file to write, not through a link, and whether we have made it: some file systems call that another's."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW
    try:
        return os.open(path, flags | os.O_EXCL, _MODE), True
    except FileExistsError:
        return os.open(path, flags, _MODE), False


def _require_ours(fd: int) -> None:
    """Raise `OSError` where the file is somebody else's, who could read it; ours may be for others to read, no more."""
    found = os.fstat(fd)
    if found.st_uid != os.geteuid():
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
    if found.st_mode & 0o077:
        with suppress(PermissionError):  # a file system that knows no modes
            os.fchmod(fd, _MODE)


def _is_open_as(fd: int, path: Path) -> bool:
    """Tell whether `fd` is still that file: whoever held its lock before us may have published it under its name."""
    try:
        return os.path.samestat(os.fstat(fd), path.lstat())
    except FileNotFoundError:
        return False


def _sync_directory(path: Path) -> None:
    """A rename is durable when its directory is."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
