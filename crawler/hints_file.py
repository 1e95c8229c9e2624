"""The file that hints are kept in: read before a run, put in place after it, and never in its way."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from crawler.accounts import AccountsFile
from crawler.errors import Fatal, UsageError
from crawler.hints import MAX_BYTES, Hints, Unfit
from crawler.report import printable
from crawler.sinks.output import Output

logger = logging.getLogger(__name__)


class HintsFile:
    """`hints` as a file has them; empty for `path` None, for a file that is not there yet, and for one that is unfit.

    What is unfit is told in the log. A damaged file is replaced in the end; one of a later program or of another estate
    is left alone. Raises `UsageError` for what cannot be read or written, before any request was made.
    """

    def __init__(self, path: str | None, accounts: Iterable[str], selection: str) -> None:
        known = list(accounts)
        self.hints = Hints(known, selection)
        self._output: Output | None = None
        if path is None:
            return
        try:
            with Path(path).open("rb") as file:
                self.hints = Hints.read(file.read(MAX_BYTES + 1), known, selection)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise UsageError(f"--hints {path}: cannot be read: {error.strerror}") from error
        except Unfit as unfit:
            rest = "" if unfit.ours else ", and leaves the file as it is"
            logger.warning(printable(f"--hints {path} {unfit}: the crawl begins without hints{rest}"))
            if not unfit.ours:
                return
        self._output = Output(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._output:
            self._output.close()

    def publish(self, pages: int | None) -> None:
        """Put what the run has learned in place of what was there. `pages` are None where it did not reach its end."""
        if self._output is None:
            return
        try:
            self._output.write(self.hints.written(pages))
            self._output.publish()
        except Fatal as failure:
            # The rows are what the run is for, and they are there.
            logger.warning(printable(f"hints are not kept: {failure.message}"))


def estate(file: AccountsFile) -> list[str]:
    """What tells this estate from another: its accounts, or how its organization is opened."""
    if file.organization:
        hub, member = file.organization.hub, file.organization.member
        return [f"organization of {hub.profile or 'the environment'}: {' '.join((*hub.roles, *member.role))}"]
    return [account.account_id for account in file.accounts]
