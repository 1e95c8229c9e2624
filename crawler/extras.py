"""What only some users need, and install as an extra of the package."""

from __future__ import annotations

from importlib.util import find_spec

from crawler.errors import UsageError

_WANT = {
    "lake": "published runs, and all that is in a bucket,",
    "report": "the page of a run",
    "emulator": "the emulator",
}


def need(extra: str, *modules: str) -> None:
    """Raise `UsageError` if a module that comes with the extra is not installed."""
    if missing := [module for module in modules if find_spec(module) is None]:
        raise UsageError(
            f"{_WANT[extra]} cannot do without {' and '.join(missing)}: "
            f"python -m pip install 'ecr-inventory-crawler[{extra}]'"
        )
