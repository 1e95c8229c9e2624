"""What a person sees when it is over, and the same as JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import IO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from crawler.ledger import NOT_WRITTEN, Failure, Ledger
from crawler.model import Outcome, Result
from crawler.wording import counted

#: Causes of failure shown on the terminal. The report has some more, the ledger every unit.
FAILURES_SHOWN = 20
#: Places shown of each warning.
PLACES_SHOWN = 3

_KEYS_REFUSED = ("InvalidClientTokenId", "UnrecognizedClientException", "AuthFailure")
_SIGNATURE_REFUSED = ("SignatureDoesNotMatch", "InvalidSignatureException", "IncompleteSignature")
_KEYS_ENDED = ("ExpiredTokenException", "ExpiredToken")
_NO_KEYS = ("NoCredentials", "CredentialsUnusable", "UnknownProfile", "SsoSessionExpired", "MfaRequired")
#: Codes of failures that are about the keys themselves, whatever was asked for with them.
OF_KEYS = frozenset((*_KEYS_REFUSED, *_SIGNATURE_REFUSED, *_KEYS_ENDED, *_NO_KEYS))
_SETTINGS = (
    "BadRequest",
    "EndpointRefused",
    "BadCaBundle",
    "CertificateRefused",
    "NoRegionMatches",
    "ParentNotFoundException",
)

#: What to do, by code.
_STEPS = {
    **dict.fromkeys(
        _NO_KEYS, "Credentials: mend what the message names (`aws sts get-caller-identity` tells whether it helped)."
    ),
    **dict.fromkeys(_KEYS_ENDED, "The credentials have ended: sign in again (`aws sso login`), then run again."),
    **dict.fromkeys(
        _KEYS_REFUSED,
        "AWS does not know these keys (try `aws sts get-caller-identity`), or there is no such region for them.",
    ),
    **dict.fromkeys(_SIGNATURE_REFUSED, "The secret key does not belong to the access key: check both."),
    NOT_WRITTEN: "Not written: rows were listed that nobody took; make room for them, or read on, and run again.",
    **dict.fromkeys(_SETTINGS, "Correct the setting that the message names; running again alone will not help."),
}
_ROLE_DENIED = (
    "Denied: check the hub's right to assume the role, the role's name, its trust and its policy (README, Permissions)."
)
_ACTION_DENIED = (
    "Denied: give the role the action that the message names (`crawler policy` prints all that it needs); where it has "
    "it, a policy of the organization or of the repository denies."
)
_THROTTLED = (
    "Throttled: AWS refused for as long as was tried; run again when others ask less, or raise --page-timeout and "
    "--attempts."
)


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ended. `status` is one word: complete, incomplete, interrupted or failed. Times are UTC."""

    status: str
    exit_code: int
    reason: str | None
    started: datetime
    ended: datetime

    @property
    def seconds(self) -> float:
        """Wall time of the run."""
        return (self.ended - self.started).total_seconds()


def as_json(ledger: Ledger, ending: Ending, *, version: str, settings: dict[str, object]) -> bytes:
    """Render the report file: one JSON object. Its keys are part of the interface; none is ever left out."""
    totals = ledger.totals
    report = {
        "status": ending.status,
        "complete": ending.status == "complete",
        "reason": ending.reason,
        "exitCode": ending.exit_code,
        "startedAt": ending.started.isoformat(timespec="milliseconds"),
        "endedAt": ending.ended.isoformat(timespec="milliseconds"),
        "seconds": round(ending.seconds, 3),
        "rows": totals.rows,
        "pages": totals.pages,
        "requests": totals.requests,
        "throttled": totals.throttled,
        "restarts": totals.restarts,
        "targets": {str(outcome): totals.targets[outcome] for outcome in Outcome},
        "repositories": {str(outcome): totals.repositories[outcome] for outcome in Outcome},
        "warnings": [{"message": message, "where": where} for message, where in ledger.warnings.items()],
        "failures": [_failure(failure) for failure in ledger.failures],
        "failuresOmitted": _failed(ledger) - sum(failure.units for failure in ledger.failures),
        "stopped": totals.stopped,
        "settings": settings,
        "version": version,
    }
    return (json.dumps(report, indent=2) + "\n").encode("ascii")


def _failure(failure: Failure) -> dict[str, str | int | None]:
    result = failure.first
    return {
        "registryId": result.unit.registry_id,
        "region": result.unit.region,
        "repositoryName": result.unit.repository,
        "outcome": str(result.outcome),
        "code": result.code,
        "message": result.message,
        "units": failure.units,
    }


class Terminal(Console):
    """Standard error, for people. Whoever reads it may go away: then nothing more is shown, and the run goes on.

    rich's own answer to a broken pipe is to exit, and to turn descriptor 1 into the null device, where rows may go.
    """

    def __init__(self, file: IO[str] | None = None) -> None:
        super().__init__(file=file, stderr=True, emoji=False)  # an account may be named :rocket:

    def on_broken_pipe(self) -> None:
        """See `Console`."""
        self.quiet = True


def summarize(console: Console, ledger: Ledger, ending: Ending) -> None:
    """Print what was crawled, what is missing and why, and what to do next."""
    totals = ledger.totals
    repositories, targets = totals.repositories.total(), totals.targets.total()
    _say(
        console,
        f"{counted(totals.rows, 'row')} from {counted(repositories, 'repository')} in {counted(targets, 'target')}, "
        f"{ending.seconds:,.1f} s, {counted(totals.requests, 'ECR request')} ({totals.throttled:,} throttled)",
    )
    if totals.outcomes():
        console.print(_outcomes(ledger))
    for message, where in ledger.warnings.items():
        shown = ", ".join(where[:PLACES_SHOWN]) + (
            f" and {more:,} more" if (more := len(where) - PLACES_SHOWN) > 0 else ""
        )
        console.print(Text(printable(f"Warning: {message}: {shown}")), soft_wrap=True)
    failures = ledger.failures[:FAILURES_SHOWN]
    for failure in failures:
        console.print(Text(printable(describe(failure.first, failure.units))), soft_wrap=True)
    if more := _failed(ledger) - sum(failure.units for failure in failures):
        _say(console, f"… and {more:,} more; a --ledger FILE has them all")
    if totals.stopped:
        _say(console, f"{totals.stopped:,} were begun and not ended, or known and not begun.")
    for step in dict.fromkeys(next_step(failure.first) for failure in ledger.failures):
        _say(console, step)
    if totals.restarts:
        _say(console, f"{counted(totals.restarts, 'chain')} began anew after a refused token.")
    reason = f": {printable(ending.reason)}" if ending.reason else ""
    console.print(Text(ending.status.upper(), "bold"), reason, sep="", highlight=False, markup=False, soft_wrap=True)


def _say(console: Console, text: str) -> None:
    console.print(text, highlight=False, soft_wrap=True)


def _failed(ledger: Ledger) -> int:
    """How many units failed at something, and not only because the run was stopped."""
    return ledger.incomplete() - ledger.totals.stopped


def next_step(result: Result) -> str:
    """What a person can do about a failure."""
    if told := _STEPS.get(result.code or ""):
        return told
    if result.outcome is Outcome.DENIED:
        return _ROLE_DENIED if "AssumeRole" in (result.message or "") else _ACTION_DENIED
    if result.outcome is Outcome.THROTTLED:
        return _THROTTLED
    return "Failed: the message says at what; most of this passes, so run again."


def _outcomes(ledger: Ledger) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("outcome")
    table.add_column("targets", justify="right")
    table.add_column("repositories", justify="right")
    for outcome in Outcome:
        targets, repositories = ledger.totals.targets[outcome], ledger.totals.repositories[outcome]
        if targets or repositories:
            table.add_row(outcome, f"{targets:,}", f"{repositories:,}")
    return table


def describe(result: Result, units: int = 1) -> str:
    """One line on one unit, or on several with the same cause: where, what, why."""
    unit = result.unit
    account = unit.account
    name = f" ({account.name})" if account and account.name else ""
    where = " ".join(part for part in (unit.region, unit.repository) if part)
    where += f" and {units - 1:,} more" if units > 1 else ""
    what = ": ".join(part for part in (result.code, result.message) if part)
    return f"{result.outcome} {unit.registry_id or 'organization'}{name} {where}".rstrip() + (
        f": {what}" if what else ""
    )


def printable(text: str) -> str:
    r"""Write characters that a terminal would obey rather than show as ``\xNN``: names come from outside."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
