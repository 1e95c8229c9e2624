"""Published runs as rows of a table: Iceberg, Delta. One commit a run, and once.

What makes it once is written in the table itself, with the commit. A run whose manifest was put by a process that was
killed next is committed by whoever asks for it again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from crawler.runs.documents import Manifest
from crawler.store import Store


class Table(Protocol):
    """A table to add runs to. Methods block, and raise `Fatal`.

    `copies` tells whether it reads the parts once, from files of this machine, or refers to them where they are.
    """

    copies: bool

    def check(self) -> None:
        """Raise if the table cannot be opened and could not be made either. Before the first request."""
        ...

    def has(self, run_id: str) -> bool:
        """Tell whether the run was committed before."""
        ...

    def add(self, store: Store, manifest: Manifest, parts: Sequence[str]) -> None:
        """Commit the parts of a run, given by their names on this machine or as s3://…, marked with its status."""
        ...
