"""`python -m crawler`, and the `crawler` command."""

import sys

from crawler import __version__


def main() -> None:
    """Run the command line and exit with its code."""
    if sys.argv[1:] == ["--version"]:
        # Scripts ask for it before each run, and it needs nothing of all that is imported below.
        sys.stdout.write(f"{__version__}\n")
        return
    try:
        from crawler.cli import main as run  # noqa: PLC0415  (see above)
    except ModuleNotFoundError as missing:
        # The commonest way to begin: in a clone, without its environment.
        sys.exit(
            f"crawler: {missing.name} is not installed here: run `. .venv/bin/activate`, or `python -m pip install .`"
        )
    run()


if __name__ == "__main__":
    main()
