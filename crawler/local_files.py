"""Files of this machine that no one else reads, and words for when its disk is what fails.

What fails here must never be blamed on a store, nor leave as an error that nobody expects: also where a file is only
closed, since what it still gathers is written then.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, cast

from crawler.errors import Fatal


@contextmanager
def told() -> Generator[None]:
    """Failures of local files as `Fatal`, in one line."""
    try:
        yield
    except OSError as error:
        raise unwritable(tempfile.tempdir or "no temporary folder can be written", error.strerror or error) from error


def unwritable(where: str, why: object) -> Fatal:
    """The error for a temporary file in the folder `where`."""
    return Fatal("SpoolFailed", f"{where}: {why}: make room there, or set TMPDIR; the run is not complete")


def local_file(buffering: int = -1) -> IO[bytes]:
    """A file without a name. Close it with `discard`."""
    with told():
        return cast("IO[bytes]", tempfile.TemporaryFile(buffering=buffering))


def discard(file: IO[bytes] | io.BufferedIOBase) -> None:
    """Close a local file that nobody will read. What it still gathers may find no room, and that has been told."""
    with suppress(OSError):
        file.close()


@contextmanager
def local_folder() -> Generator[Path]:
    """A folder that is gone afterwards."""
    with told():
        made = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
    with made as name:
        yield Path(name)
