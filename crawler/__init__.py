"""List every image ID of every Amazon ECR repository of a company."""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from crawler.errors import CrawlError, Fatal, UsageError
    from crawler.ledger import Failure
    from crawler.library import ImageDetails, ImagePage, Pages, crawl
    from crawler.model import ImageStatus, Outcome, Result, TagStatus

__version__ = "0.1.0"

__all__ = [
    "CrawlError",
    "Failure",
    "Fatal",
    "ImageDetails",
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
    **dict.fromkeys(("ImageDetails", "ImagePage", "Pages"), "library"),
    **dict.fromkeys(("ImageStatus", "Outcome", "Result", "TagStatus"), "model"),
    "Failure": "ledger",
}


def __getattr__(name: str) -> object:
    # Imported when asked for: AWS's libraries take half a second, which `crawler --help` shall not.
    if name not in _FROM:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"crawler.{_FROM[name]}"), name)


class _Package(ModuleType):
    """The package, whose `crawl` is the function for users of the library, and never the module of that name.

    Python makes a module that was imported an attribute of its package. `crawl.py` tells the story and keeps its name,
    so that attribute is not taken; `from crawler.crawl import …` needs none.
    """

    @property
    def crawl(self) -> object:
        return import_module("crawler.library").crawl

    @crawl.setter
    def crawl(self, module: ModuleType) -> None:
        pass


sys.modules[__name__].__class__ = _Package
