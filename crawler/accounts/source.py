"""The accounts file by its name, and of its accounts those that were asked for."""

from __future__ import annotations

import logging
import sys
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from crawler.accounts.document import MAX_BYTES
from crawler.accounts.load import AccountsFile, load
from crawler.accounts.selection import select
from crawler.errors import UsageError

logger = logging.getLogger(__name__)


def open_accounts(
    name: str, ids_or_names: Sequence[str] = (), tags: Sequence[str] = (), *, regions: Collection[str] = ()
) -> AccountsFile:
    """Read, select, and log the warnings; see `read_accounts` and `selected`."""
    file = selected(read_accounts(name, regions)[0], ids_or_names, tags)
    for warning in file.warnings:
        logger.warning(warning)
    return file


def read_accounts(name: str, regions: Collection[str] = ()) -> tuple[AccountsFile, bytes]:
    """The file, and its text beside; `name` may be "-" for standard input. `regions` are those that are known.

    Raises `UsageError` for what cannot be read, or is wrong.
    """
    if not name:
        raise UsageError("--accounts is missing: name the accounts file, as in --accounts accounts.yaml")
    try:
        # One byte more than is allowed tells a file that is too large; the rest of it need not be in memory.
        with sys.stdin.buffer if name == "-" else Path(name).open("rb") as source:
            text = source.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        first = f"`crawler import profiles > {name}` writes a first one, from AWS CLI profiles"
        raise UsageError(f"{name}: cannot be read: {error.strerror}; {first}") from error
    except OSError as error:
        raise UsageError(f"{name}: cannot be read: {error.strerror}") from error
    return load(name, text, regions), text


def selected(file: AccountsFile, ids_or_names: Sequence[str] = (), tags: Sequence[str] = ()) -> AccountsFile:
    """The same with only those accounts that are asked for; of an organization they are not known yet.

    Raises `UsageError` for what fits none.
    """
    if file.organization:
        return file
    return replace(file, accounts=select(file.accounts, ids_or_names, tags))
