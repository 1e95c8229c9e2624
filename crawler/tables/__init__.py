"""Published runs as rows of a table: Iceberg, Delta. One commit a run, and once.

What makes it once is written in the table itself, with the commit. A run whose manifest was put by a process that was
killed next is committed by whoever asks for it again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Protocol

from crawler.bucket import in_a_line
from crawler.errors import Fatal, UsageError
from crawler.model import RowKind
from crawler.runs.documents import Manifest
from crawler.sinks.encoding import FIELDS
from crawler.store import Store

#: Who asks, of a URL, and its query: libraries name it as it was configured.
_OF_URLS = re.compile(r"(?<=://)\S*@|(?<=\?)[^\s'\"]+")


class Table(Protocol):
    """A table to add runs to. Methods block, and raise `Fatal`.

    `copies` tells whether it reads the parts once, from files of this machine, or refers to them where they are.
    """

    copies: bool

    def check(self) -> None:
        """Raise if the table cannot be opened and could not be made either, or is one of other rows.

        Before the first request.
        """
        ...

    def has(self, run_id: str) -> bool:
        """Tell whether the run was committed before."""
        ...

    def add(self, store: Store, manifest: Manifest, parts: Sequence[str]) -> None:
        """Commit the parts of a run, given by their names on this machine or as s3://…, marked with its status."""
        ...


def iceberg_table(name: str, rows: RowKind) -> Table:
    """The table of that name. Raises `Fatal` where the configuration of its catalog cannot be read."""
    try:
        # By itself: who wants tables of one kind need not have the libraries of the other, and all are heavy.
        from crawler.tables.iceberg import Iceberg  # noqa: PLC0415  (its library is an extra)

        return Iceberg(name, rows)
    except UsageError:
        raise
    except Exception as error:
        # Its words may quote the line with a secret.
        why = f"the configuration of pyiceberg cannot be read: {type(error).__name__}"
        raise Fatal("TableFailed", f"--iceberg {name}: {why}") from error


def failed(table: str, error: Exception, secrets: Iterable[str] = ()) -> Fatal:
    """The error for what a library of tables has raised, in a line: theirs may hold a backtrace, and `secrets`."""
    # All of them, before anything is cut off: half a secret is none that could be found.
    text = _OF_URLS.sub("***", str(error))
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "***")
    return Fatal("TableFailed", ": ".join(filter(None, (table, type(error).__name__, in_a_line(text)))))


def require_columns(table: str, names: Iterable[str], rows: RowKind) -> None:
    """Raise `Fatal` if a table that has these columns cannot take rows of this kind. `table` is the option with it."""
    has = set(names)
    if missing := [name for name, _, _ in FIELDS[rows] if name not in has]:
        raise Fatal(
            "TableFailed",
            f"{table}: has no column {missing[0]}, so it is not a table of --rows {rows}: name another one, which is "
            "made with the first run",
        )
