"""What only some users need, and install as an extra of the package."""

from __future__ import annotations

from importlib.util import find_spec

from crawler.errors import UsageError

_WANT = {
    "lake": "published runs, and all that is in a bucket,",
    "report": "the page of a run",
    "emulator": "the emulator",
    "otel": "metrics and traces",
    "ray": "a Ray cluster",
}


def need(extra: str, *modules: str) -> None:
    """Raise `UsageError` if a module that comes with the extra is not installed."""
    if missing := [module for module in modules if not _is_there(module)]:
        raise UsageError(
            f"{_WANT[extra]} cannot do without {' and '.join(missing)}: "
            f"python -m pip install 'ecr-inventory-crawler[{extra}]'"
        )


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # not even the package that it is in
        return False
