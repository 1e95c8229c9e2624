"""`python -m crawler`, and the `crawler` command."""

import errno
import gc
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress

from crawler import __version__

#: What a disk says that cannot take more, and a descriptor that nothing can be written to.
_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)


def main() -> None:
    """Run the command line and exit with its code."""
    # What is opened first would get the number of what is closed, and be written to or closed in its place.
    while (descriptor := os.open(os.devnull, os.O_RDONLY)) <= 2:  # noqa: PLR2004  (standard error)
        pass
    os.close(descriptor)
    try:
        with _printed():
            _run()
    except SystemExit as ended:
        if "obstore" in sys.modules and isinstance(ended.code, int):
            _leave(ended.code)
        raise


def _run() -> None:
    if sys.argv[1:] == ["--version"]:
        # Scripts ask for it before each run, and it needs nothing of all that is imported below.
        sys.stdout.write(f"{__version__}\n")
        return
    # What is imported stays, and a page is a thousand dictionaries that die young and in no cycle: both would have the
    # collector look at everything again and again, and find nothing.
    gc.set_threshold(100_000)
    try:
        from crawler.cli import main as run  # noqa: PLC0415  (see above)
    except ModuleNotFoundError as missing:
        # The commonest way to begin: in a clone, without its environment.
        sys.exit(
            f"crawler: {missing.name} is not installed here: run `. .venv/bin/activate`, or `python -m pip install .`"
        )
    run()


@contextmanager
def _printed() -> Generator[None]:
    """Have standard output take all that the body prints; end the process where it does not."""
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115  (it lasts)
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:  # of `schema | head`
        code = 141
    except OSError as error:
        if error.errno not in _UNWRITABLE or error.filename is not None:
            raise
        why = " is closed" if error.errno == errno.EBADF else f": {error.strerror}"
        with suppress(OSError, AttributeError):  # there may be nobody to tell
            sys.stderr.write(f"standard output{why}\n")
        code = 1
    else:
        return
    sys.stdout = None  # the interpreter would try once more when it ends
    sys.exit(code)


def _leave(code: int) -> None:
    """End the process, unless what is written cannot be.

    A thread of obstore that still lets go of an object while the interpreter ends would abort the process, after all
    went well.
    """
    with suppress(OSError):  # told by the interpreter
        for stream in (sys.stdout, sys.stderr):
            if stream:  # None where its descriptor was closed
                stream.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
