"""What can go wrong, as types: each says how it ends (its outcome) and whether trying again can help.

Expected failure is data. These exceptions carry it from `aws/` up to `crawl.py`, where it becomes a line of the
ledger. Anything that is not a `CrawlError` is a bug and stops the run.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from crawler.model import Outcome


class CrawlError(Exception):
    """A failure of one unit (a target or a repository), as data.

    `code` is AWS's error code where there is one, else a name of ours in the same style; `outcome` is what the ledger
    will say of the unit; `retryable` tells whether the same request may succeed later.
    """

    outcome: ClassVar[Outcome] = Outcome.FAILED
    retryable: ClassVar[bool] = False

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return f"{self.code}: {self.message}" if self.message else self.code


class Throttled(CrawlError):
    """The service asked for fewer requests. `retry_after` is its own wish in seconds, if it gave one."""

    outcome = Outcome.THROTTLED
    retryable = True

    def __init__(self, code: str, message: str, retry_after: float | None = None) -> None:
        super().__init__(code, message)
        self.retry_after = retry_after


class Transient(CrawlError):
    """A server fault, a broken connection, a timeout, or a body that is not an answer: the same request again."""

    retryable = True


class Denied(CrawlError):
    """We are not allowed to look. Never to be read as empty; trying again is useless."""

    outcome = Outcome.DENIED


#: The codes of `KeysUnknown`, and of nothing else.
KEYS_UNKNOWN = frozenset({
    "AuthFailure",
    "InvalidClientTokenId",
    "OptInRequired",
    "RegionDisabledException",
    "SubscriptionRequiredException",
    "UnrecognizedClientException",
})  # fmt: skip


class KeysUnknown(Denied):
    """The region does not know our keys: it is not enabled for the account, or the keys are wrong.

    Which of the two it is shows once another region of the same account has answered: see `Doubts`. Said of a request
    to that region only: what STS says of keys that ask it for others is another `Denied`.
    """


class KeysExpired(Denied):
    """The session of these keys has ended. `aws/` refreshes once; what arrives here has expired again."""


class NoRegion(CrawlError):
    """AWS has told which regions of the account are enabled, and none is among these globs."""

    outcome = Outcome.REGION_DISABLED

    def __init__(self, globs: Iterable[str]) -> None:
        super().__init__(
            "NoRegionEnabled", f"none of the regions that the file names for it ({', '.join(globs)}) is enabled"
        )


class Gone(CrawlError):
    """The repository was deleted after it was listed."""

    outcome = Outcome.GONE


class Refused(CrawlError):
    """The service calls the request wrong: a bad argument, or a nextToken it no longer honours."""


class ChainBroken(CrawlError):
    """A chain of pages that will not end well: a token that came twice, or empty pages without end."""


class Fatal(CrawlError):
    """Nothing that follows can succeed, so the whole run stops: a wrong clock, or a sink that cannot be written."""


class ReaderGone(Fatal):
    """Who read our standard output has closed it (`| head -1`): stop quietly."""


class UsageError(Exception):
    """What the user gave us cannot be used. The message is complete: what, where, and what to write instead."""
