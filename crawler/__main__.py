"""`python -m crawler`."""

import sys

try:
    from crawler.cli import main
except ModuleNotFoundError as missing:
    # The commonest way to begin: in a clone, without its environment.
    sys.exit(f"crawler: {missing.name} is not installed here: run `. .venv/bin/activate`, or `python -m pip install .`")

main()
