"""List every image ID of every Amazon ECR repository of a company."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from crawler.errors import CrawlError, Fatal, UsageError
    from crawler.ledger import Failure
    from crawler.library import ImagePage, Pages, crawl
    from crawler.model import ImageStatus, Outcome, Result, TagStatus

__version__ = "0.1.0"

__all__ = [
    "CrawlError",
    "Failure",
    "Fatal",
    "ImagePage",
    "ImageStatus",
    "Outcome",
    "Pages",
    "Result",
    "TagStatus",
    "UsageError",
    "crawl",
]

_FROM = {
    **dict.fromkeys(("CrawlError", "Fatal", "UsageError"), "errors"),
    **dict.fromkeys(("ImagePage", "Pages", "crawl"), "library"),
    **dict.fromkeys(("ImageStatus", "Outcome", "Result", "TagStatus"), "model"),
    "Failure": "ledger",
}


def __getattr__(name: str) -> object:
    # Imported when asked for: AWS's libraries take half a second, which `crawler --help` shall not.
    if name not in _FROM:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"crawler.{_FROM[name]}"), name)
