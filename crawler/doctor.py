"""What would go wrong in a crawl, and what to do about it: one check for each thing that must hold."""

from __future__ import annotations

import os
import secrets
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.table import Table
from rich.text import Text

from crawler.accounts import AccountsFile
from crawler.errors import Fatal, UsageError
from crawler.extras import need
from crawler.ledger import Ledger
from crawler.model import COMPLETE, INTERRUPTED, NOT_REACHED, PUBLIC, Outcome, Result, RowKind
from crawler.rehearsal import FirstOfAll, Narrowed, rehearse
from crawler.report import OF_KEYS, Terminal, describe, next_step, printable
from crawler.rows import to_line
from crawler.settings import Settings
from crawler.wording import counted

OK, FAILED, LEFT_OUT = "ok", "failed", "left out"
#: In the order in which one rests on the other.
_BEFORE = ("output", "network", "clock", "organization", "credentials", "region")
_READING = ("DescribeRepositories", *(rows.operation for rows in RowKind))
CHECKS = (*_BEFORE, *_READING)

_BUCKET = (
    "Correct the bucket's name, or allow whoever runs the crawler s3:ListBucket on it, and s3:GetObject, "
    "s3:PutObject, s3:DeleteObject and s3:AbortMultipartUpload below the prefix; for `crawler clean`, "
    "s3:ListBucketMultipartUploads on it as well."
)

#: Of those that are left out for not being enabled.
_REGIONS_SHOWN = 5

_FIXES = {
    "UnknownHost": "The name does not resolve: no network, no such region, or HTTPS_PROXY is not set.",
    "ProxyUnreachable": "Nobody answers at the proxy: correct HTTPS_PROXY, or name the host in NO_PROXY.",
    "BadProxy": "Write HTTPS_PROXY as a URL, http://proxy:3128.",
    "CertificateRefused": "A proxy that opens TLS: set AWS_CA_BUNDLE to the file with its CA.",
    "BadCaBundle": "Set AWS_CA_BUNDLE to a PEM file with the certificates of the CA.",
    "ConnectionBroken": "Let this machine reach that host and port: firewall, security group, VPC endpoint, proxy.",
    "Timeout": "A slow or silent network: check firewall and proxy, then raise --timeout.",
    "EndpointRefused": "Correct AWS_ENDPOINT_URL, or endpoint_url in the AWS config file.",
    "ClockSkew": "Set this machine's clock (`timedatectl set-ntp true`, or chronyc makestep).",
}
_NETWORK = frozenset(_FIXES) - {"ClockSkew"}

_DENIED = {
    "organization": "The hub must be the management account or a delegated administrator, and be allowed "
    "organizations:ListAccounts: `crawler policy --of hub`.",
    "credentials": "Compare the role's name, its trust policy and external id, and the hub's right to assume it with "
    "what `crawler policy --accounts FILE --account {account}` prints.",
    "DescribeRepositories": "Give the role ecr:DescribeRepositories (`crawler policy --of members`); where it has it, "
    "a service control policy denies.",
    "ListImages": "Give the role ecr:ListImages (`crawler policy --of members`); where it has it, the repository's own "
    "policy or a service control policy denies.",
    "DescribeImages": "Give the role ecr:DescribeImages (`crawler policy --of members --rows details`); where it has "
    "it, the repository's own policy or a service control policy denies.",
}


@dataclass(frozen=True, slots=True)
class Check:
    """One check of one thing. `fix` says what to do where it failed."""

    name: str
    verdict: str
    result: Result | None = None
    message: str | None = None
    fix: str | None = None

    def fields(self) -> dict[str, object]:
        """The check as a record: a line of `--format json`."""
        result = self.result
        unit = result.unit if result else None
        account = unit.account if unit else None
        return {
            "check": self.name,
            "verdict": self.verdict,
            "accountId": account.account_id if account else None,
            "accountName": (account.name or None) if account else None,
            "registryId": unit.registry_id if unit else None,
            "region": unit.region if unit else None,
            "repositoryName": unit.repository if unit else None,
            "code": result.code if result else None,
            "message": self.message,
            "fix": self.fix,
        }


def checks_of(result: Result, rows: RowKind = RowKind.IDS) -> Iterator[Check]:
    """What one unit of a rehearsal tells: what had to hold for it to come so far, and what it ended with."""
    unit, asked = result.unit, result.chain.attempts > 0
    failed_at = _failed_at(result, rows)
    if unit.repository is None and unit.region is not None and asked and failed_at not in ("network", "clock"):
        yield Check("network", OK, result)
        yield Check("credentials", OK, result)
    if result.outcome is Outcome.REGION_DISABLED:
        yield Check("region", LEFT_OUT, result, "not enabled for the account; remove it from regions, or enable it")
    elif result.code in (INTERRUPTED, NOT_REACHED):
        yield Check(failed_at, LEFT_OUT, result, result.message)
    elif result.outcome in COMPLETE:
        yield Check(failed_at, OK, result)
    else:
        yield Check(failed_at, FAILED, result, result.message, fix_of(failed_at, result))


def _failed_at(result: Result, rows: RowKind) -> str:
    """The check that a unit ended with, well or not."""
    unit = result.unit
    if result.code == "ClockSkew":
        return "clock"
    if result.code in _NETWORK:
        return "network"
    if unit.account is None:
        return "organization"
    if unit.repository is not None:
        return "DescribeImages" if _public(result) else rows.operation
    if unit.region is None or not result.chain.attempts:
        return "credentials"
    return "DescribeRepositories"


def _public(result: Result) -> bool:
    return (result.unit.registry_id or "").startswith(PUBLIC)


def fix_of(check: str, result: Result) -> str:
    """What to do about a check that failed."""
    if result.code in _FIXES:
        return _FIXES[result.code]
    if result.code == "NoPublicRegistry":
        return "Remove `public: true` from this account's settings."
    if result.outcome is Outcome.DENIED and check in _READING and _public(result):
        return "Give the role ecr-public:DescribeRepositories and ecr-public:DescribeImages (`crawler policy`)."
    if result.outcome is Outcome.DENIED and result.code not in OF_KEYS and check in _DENIED:
        account = result.unit.account
        return _DENIED[check].format(account=account.account_id if account else "")
    return next_step(result)


async def output_check(name: str) -> Check:
    """Whether rows could be written there, tried with a file that leaves nothing behind."""
    if name == "-":
        return Check("output", OK)
    if not name.startswith("s3://"):
        return _folder_check(name)
    need("lake", "obstore", "pyarrow")
    try:
        await _write_and_remove(name)
    except (Fatal, UsageError) as error:
        return Check("output", FAILED, message=str(error), fix=_BUCKET)
    return Check("output", OK)


async def _write_and_remove(output: str) -> None:
    """Create an empty object in a bucket as a crawl would do it, and remove it. Raises `UsageError` or `Fatal`."""
    from crawler.publication import opened  # noqa: PLC0415  (its libraries are an extra, and heavy)
    from crawler.runs.attempt import require_conditions  # noqa: PLC0415  (its libraries are an extra)

    async with opened(output) as store:
        path = f"doctor-{secrets.token_hex(8)}"
        await store.create(path, b"")
        try:
            await require_conditions(store, path)
        finally:
            await store.delete(path)


def _folder_check(name: str) -> Check:
    path = Path(os.path.realpath(name))
    folder = path if name.endswith("/") or path.is_dir() else path.parent
    while not folder.exists() and name.endswith("/"):
        folder = folder.parent
    try:
        if path.is_dir() and not name.endswith("/"):
            raise IsADirectoryError(None, "Is a directory")
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        fix = f"Name a file in a folder that this user may write to; {folder} is not one."
        return Check("output", FAILED, message=f"{name}: cannot be written: {error.strerror}", fix=fix)
    return Check("output", OK)


class Findings(Ledger):
    """A ledger that tells each result as checks, and counts them."""

    def __init__(self, tell: Callable[[Check], None], rows: RowKind = RowKind.IDS) -> None:
        super().__init__()
        self.counts: Counter[tuple[str, str]] = Counter()
        self.output: Check | None = None
        #: Regions that the file names and an account does not have, with the number of such accounts.
        self.disabled: Counter[str] = Counter()
        self.rows = rows
        self._tell = tell

    async def record(self, result: Result) -> None:
        """See `Ledger`."""
        await super().record(result)
        if result.outcome is Outcome.REGION_DISABLED:
            self.disabled[result.unit.region or ""] += 1
        for check in checks_of(result, self.rows):
            self.add(check)

    def add(self, check: Check) -> None:
        """Count a check and tell it."""
        self.counts[check.name, check.verdict] += 1
        self._tell(check)

    @property
    def failed(self) -> int:
        """How many checks failed."""
        return sum(count for (_, verdict), count in self.counts.items() if verdict == FAILED)


async def examine(settings: Settings, file: AccountsFile, findings: Findings) -> None:
    """Check everything, side by side; findings are told as they come."""
    findings.output = await output_check(settings.output)
    findings.add(findings.output)
    first = partial(FirstOfAll, wanted=settings.filter())
    try:
        await rehearse(settings, file, findings, partial(Narrowed, narrow=first))
    except* Fatal:
        pass  # the unit that met it has told
    if findings.counts["credentials", OK] and not findings.counts["clock", FAILED]:
        findings.add(Check("clock", OK, message="AWS accepts what is signed by this machine's clock"))


def tell_line(check: Check) -> None:
    """A check as a line of JSON on standard output."""
    sys.stdout.buffer.write(to_line(check.fields()))


def tell_nothing(_: Check) -> None:
    """Leave it to the table."""


def show(findings: Findings) -> None:
    """The table, and each failure with its fix, on standard output."""
    console = Terminal(sys.stdout)
    table = Table(box=None, pad_edge=False)
    table.add_column("check")
    for verdict in (OK, FAILED, LEFT_OUT):
        table.add_column(verdict, justify="right")
    for name in CHECKS:
        row = [findings.counts[name, verdict] for verdict in (OK, FAILED, LEFT_OUT)]
        if any(row):
            table.add_row(name, *(f"{count:,}" if count else "" for count in row))
    console.print(table)
    if (output := findings.output) and output.verdict == FAILED:
        _say(console, f"\n{output.message}", f"  {output.fix}")
    for failure in findings.failures:
        first = failure.first
        _say(console, f"\n{describe(first, failure.units)}", f"  {fix_of(_failed_at(first, findings.rows), first)}")
    for message, where in findings.warnings.items():
        _say(console, f"\nWarning: {message}: {', '.join(where[:3])}")
    if findings.disabled:
        _say(console, f"\nLeft out, not enabled for the account: {_regions(findings.disabled)}.")
    failed = findings.failed
    _say(
        console, f"\n{failed:,} of {counted(findings.counts.total(), 'check')} failed." if failed else "\nAll is well."
    )


def _regions(disabled: Counter[str]) -> str:
    shown = [f"{region} of {counted(count, 'account')}" for region, count in disabled.most_common(_REGIONS_SHOWN)]
    more = len(disabled) - len(shown)
    return ", ".join([*shown, *[f"and {counted(more, 'region')} more"] * (more > 0)])


def _say(console: Terminal, *lines: str) -> None:
    for line in lines:
        blank, text = ("\n", line[1:]) if line.startswith("\n") else ("", line)
        console.print(Text(blank + printable(text)), soft_wrap=True)
