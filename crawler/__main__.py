"""`python -m crawler`, and the `crawler` command."""

import gc
import os
import sys
from contextlib import suppress

from crawler import __version__


def main() -> None:
    """Run the command line and exit with its code."""
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
    try:
        run()
    except SystemExit as ended:
        if "obstore" in sys.modules and isinstance(ended.code, int):
            _leave(ended.code)
        raise


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
