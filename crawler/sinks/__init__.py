"""Where rows go."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from crawler.model import Image, Result, Target


class Rows(Protocol):
    """The rows of one repository, as its pages come. Left without `commit`, the repository was not listed whole."""

    async def send(self, images: Sequence[Image]) -> None:
        """Hand over one page. Returns when it has been taken, which is how back-pressure reaches the pagers."""
        ...

    def commit(self, result: Result) -> None:
        """Say that the repository was listed to the end. Never waits: a stop cannot come between."""
        ...


class Sink(Protocol):
    """Takes the rows of many repositories at once; one writer behind it owns the output.

    A stream keeps the rows of a repository that was not committed, and the ledger tells. A sink with a memory of
    earlier attempts drops them, and `holds` what need not be crawled again.
    """

    def holds(self, target: Target, repository: str | None = None) -> bool:
        """Tell whether this repository, or the target with all that is in it, was committed by an earlier attempt."""
        ...

    def repository(self, target: Target, name: str) -> AbstractContextManager[Rows]:
        """Begin the rows of one repository; once for each."""
        ...

    def target_ended(self, result: Result) -> None:
        """Say how a target ended, after all of its repositories. Never waits."""
        ...
