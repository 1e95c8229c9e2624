"""The file that hints are kept in: read before a run, put in place after it, and never in its way."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from crawler.accounts import AccountsFile
from crawler.errors import Fatal, UsageError
from crawler.hints import MAX_BYTES, Hints, Unfit
from crawler.model import RowKind
from crawler.report import printable
from crawler.sinks.output import Output

if TYPE_CHECKING:
    from crawler.store import Store

logger = logging.getLogger(__name__)

#: Seconds for a store to take the file.
PATIENCE = 60.0


class HintsFile:
    """`hints` as a file has them; empty where there is none yet, and where it is unfit, which is told in the log.

    `text` is what the file called `name` holds, None if it is not there. A damaged file is `replaceable`; one of a
    later program or of another estate is left alone.
    """

    def __init__(
        self, name: str, text: bytes | None, accounts: Sequence[str], selection: str, rows: RowKind = RowKind.IDS
    ) -> None:
        self.hints = Hints(accounts, selection, rows)
        self.replaceable = True
        self._keep: Callable[[bytes], Awaitable[None]] | None = None
        if text is None:
            return
        try:
            self.hints = Hints.read(text, accounts, selection, rows)
        except Unfit as unfit:
            rest = "" if unfit.ours else ", and leaves the file as it is"
            logger.warning(printable(f"--hints {name} {unfit}: the crawl begins without hints{rest}"))
            self.replaceable = unfit.ours

    def kept_by(self, keep: Callable[[bytes], Awaitable[None]]) -> None:
        """Have `publish` pass on what there is to keep; without this, it is forgotten."""
        self._keep = keep

    async def publish(self, pages: int | None, repositories: int = 0, rows: int = 0) -> None:
        """Put what the run has learned in place of what was there. `pages` are None where it did not reach its end.

        Given up after `PATIENCE`, or when it is cancelled, and said so: the rows are what the run is for.
        """
        if self._keep is None:
            return
        with anyio.move_on_after(PATIENCE):
            try:
                await self._keep(self.hints.written(pages, repositories, rows))
            except (Fatal, UsageError) as failure:
                why = failure.message if isinstance(failure, Fatal) else failure
                logger.warning(printable(f"hints are not kept: {why}"))
            except anyio.get_cancelled_exc_class():
                logger.warning("hints are not kept: there was no time to wait for their store")
                raise


def local_text(name: str) -> bytes | None:
    """What a file here holds, None if it is not there. Raises `UsageError` where it cannot be read."""
    try:
        with Path(name).open("rb") as source:
            return source.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UsageError(f"--hints {name}: cannot be read: {error.strerror}") from error


@asynccontextmanager
async def local_hints(
    name: str, accounts: Sequence[str], selection: str, rows: RowKind = RowKind.IDS
) -> AsyncGenerator[HintsFile]:
    """Those of a file here. Raises `UsageError` for what cannot be read or written, before any request was made."""
    file = HintsFile(name, local_text(name), accounts, selection, rows)
    if not file.replaceable:
        yield file
        return
    with Output(name) as output:

        async def keep(written: bytes) -> None:
            output.write(written)
            output.publish()

        file.kept_by(keep)
        yield file


async def stored_hints(
    store: Store, name: str, accounts: Sequence[str], selection: str, rows: RowKind = RowKind.IDS
) -> HintsFile:
    """Those of an object in a store, where a write is all or nothing. Raises `Fatal` where it cannot be read."""
    file = HintsFile(store.uri_of(name), await store.read(name, MAX_BYTES + 1), accounts, selection, rows)
    if file.replaceable:

        async def keep(written: bytes) -> None:
            await store.put(name, written)

        file.kept_by(keep)
    return file


def estate(file: AccountsFile) -> list[str]:
    """What tells this estate from another: its accounts, or how its organization is opened."""
    if file.organization:
        hub, member = file.organization.hub, file.organization.member
        return [f"organization of {hub.profile or 'the environment'}: {' '.join((*hub.roles, *member.role))}"]
    return [account.account_id for account in file.accounts]
