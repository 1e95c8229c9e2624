"""What a crawl would do, before it does it: all of its requests but those that make up its bulk."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from rich.table import Table

from crawler.accounts import AccountsFile
from crawler.errors import Fatal, UsageError
from crawler.hints import Expected, Hints, Unfit
from crawler.hints_file import estate
from crawler.ledger import Ledger
from crawler.model import PUBLIC, Account, Outcome, Result, RowKind
from crawler.registry import Registries
from crawler.rehearsal import NamesOnly, Narrowed, rehearse
from crawler.report import Terminal, describe, printable
from crawler.settings import Settings
from crawler.wiring import hints_text
from crawler.wording import counted

#: Who is asked, as the first part of an operation's name in IAM: ECR, and ECR Public.
ECR, ECR_PUBLIC = "ecr", "ecr-public"

#: Bytes of a row with names of usual length; 71 of them are its digest, or twice that.
ROW_BYTES = {RowKind.IDS: 200, RowKind.DETAILS: 570}


class _Surveyed(Narrowed):
    """Registries without images, counting the calls that a crawl makes beside those to ECR."""

    def __init__(self, behind: Registries, plan: Plan) -> None:
        super().__init__(behind, lambda _, registry: NamesOnly(registry))
        self._plan = plan

    async def regions(self, account: Account) -> Mapping[str, bool]:
        """See `Registries`."""
        regions = await super().regions(account)
        self._plan.accounts += 1
        self._plan.assumed += bool(account.role)
        self._plan.asked_for_regions += any(name not in account.regions for name in regions)
        return regions


@dataclass(slots=True)
class Plan:
    """What would be crawled. `targets` and `repositories` are by region; `listed` counts those left out too.

    `describing` counts requests, and `registered` repositories to list, by service. `expected` is what the last run
    tells, None without hints.
    """

    page_size: int
    rows_of: RowKind = RowKind.IDS
    accounts: int = 0
    assumed: int = 0
    asked_for_regions: int = 0
    describing: Counter[str] = field(default_factory=Counter[str])
    registered: Counter[str] = field(default_factory=Counter[str])
    listed: int = 0
    targets: Counter[str] = field(default_factory=Counter[str])
    repositories: Counter[str] = field(default_factory=Counter[str])
    unknown: int = 0
    hinted: bool = False
    expected: Expected | None = None

    @property
    def listing(self) -> int | None:
        """Requests for images, of both services, by the last run; None where that is not known."""
        least = self.repositories.total()
        return max(self.expected.pages - self.describing.total(), least) if self.expected else None

    def listing_of(self, service: str) -> int | None:
        """Those of one service. The last run tells their sum alone."""
        return self.listing if self.registered[service] == self.repositories.total() else None

    def operations(self) -> dict[str, str]:
        """The operation that lists images, by service; ECR Public is only there where it is asked."""
        private = {ECR: self.rows_of.operation}
        return private | ({ECR_PUBLIC: RowKind.DETAILS.operation} if self.describing[ECR_PUBLIC] else {})

    @property
    def rows(self) -> tuple[int, int] | None:
        """Rows at least and at most, by the last run; where it tells pages alone, only the last page may be short."""
        if self.listing is None:
            return None
        if self.expected and self.expected.rows:
            return self.expected.rows, self.expected.rows
        return (self.listing - self.repositories.total()) * self.page_size, self.listing * self.page_size

    def as_json(self) -> dict[str, object]:
        """The plan as `--format json` prints it. What is not known is null."""
        rows, expected = self.rows, self.expected
        requests: dict[str, int | None] = {}
        for service, operation in self.operations().items():
            requests |= {
                f"{service}:DescribeRepositories": self.describing[service],
                f"{service}:{operation}": self.listing_of(service),
                f"{service}:{operation} at least": self.registered[service],
            }
        return {
            "accounts": self.accounts,
            "targets": self.targets.total(),
            "targetsByRegion": dict(self.targets),
            "repositories": self.repositories.total(),
            "repositoriesByRegion": dict(self.repositories),
            "repositoriesLeftOut": self.listed - self.repositories.total(),
            "unitsUnknown": self.unknown,
            "requests": {
                **requests,
                "sts:AssumeRole at least": self.assumed,
                "account:ListRegions": self.asked_for_regions,
            },
            "rows": list(rows) if rows else None,
            "bytes": [count * ROW_BYTES[self.rows_of] for count in rows] if rows else None,
            "secondsAtLeast": round(expected.seconds, 1) if expected else None,
        }


class _Survey(Ledger):
    """A ledger that fills in a plan."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self._plan = plan

    async def record(self, result: Result) -> None:
        """See `Ledger`."""
        await super().record(result)
        plan, region = self._plan, result.unit.region
        service = ECR_PUBLIC if (result.unit.registry_id or "").startswith(PUBLIC) else ECR
        if result.unit.repository is not None:
            plan.repositories[region or ""] += 1
            plan.registered[service] += 1
            return
        plan.describing[service] += result.chain.pages
        plan.listed += result.chain.items
        if result.outcome in (Outcome.OK, Outcome.EMPTY):
            plan.targets[region or ""] += 1


async def make_plan(settings: Settings, file: AccountsFile) -> tuple[Plan, Ledger]:
    """Look at everything but images. The ledger has what could not be looked at."""
    expected = await _expected(settings.hints, settings, file) if settings.hints else None
    plan = Plan(settings.page_size, settings.rows, hinted=settings.hints is not None, expected=expected)
    survey = _Survey(plan)
    try:
        await rehearse(settings, file, survey, lambda registries: _Surveyed(registries, plan))
    except* Fatal:
        pass  # the unit that met it has told
    plan.unknown = survey.incomplete()
    return plan, survey


async def _expected(name: str, settings: Settings, file: AccountsFile) -> Expected | None:
    text = await hints_text(name)
    if text is None:
        raise UsageError(f"--hints {name}: there is no such file; a crawl with --hints leaves one")
    try:
        return Hints.read(text, estate(file), settings.selection(), settings.rows).expected
    except Unfit as unfit:
        raise UsageError(f"--hints {name} {unfit}") from unfit


def show_json(plan: Plan) -> None:
    """Print the plan as one JSON object."""
    sys.stdout.write(json.dumps(plan.as_json(), indent=2) + "\n")


def show(plan: Plan, ledger: Ledger) -> None:
    """Print the plan for people."""
    console = Terminal(sys.stdout)
    console.print(_by_region(plan))
    for line in _lines(plan):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    for failure in ledger.failures:
        text = f"Not known: {describe(failure.first, failure.units)}"
        console.print(printable(text), highlight=False, markup=False, soft_wrap=True)
    if plan.unknown:
        console.print("`crawler doctor` says what to do about each.", highlight=False, markup=False)


def _by_region(plan: Plan) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("region")
    table.add_column("targets", justify="right")
    table.add_column("repositories", justify="right")
    for region in sorted(plan.targets):
        table.add_row(region, f"{plan.targets[region]:,}", f"{plan.repositories[region]:,}")
    return table


def _lines(plan: Plan) -> list[str]:
    repositories, left_out = plan.repositories.total(), plan.listed - plan.repositories.total()
    told: dict[str, str] = {}
    for service, operation in plan.operations().items():
        made = f"{counted(plan.describing[service], 'request')} (this plan has just made as many)"
        told |= {f"{service}:DescribeRepositories": made, f"{service}:{operation}": _requests(plan, service)}
    told |= {
        "other calls": f"{plan.assumed:,} sts:AssumeRole or more, {plan.asked_for_regions:,} for regions",
        "rows": _rows(plan),
        "time": _time(plan),
        "CloudTrail": f"logs each of these calls as a read-only management event: {_events(plan)}",
    }
    width = max(map(len, told))
    return [
        "",
        f"{counted(plan.accounts, 'account')}, {counted(plan.targets.total(), 'target')}, "
        f"{counted(repositories, 'repository')}" + (f" ({left_out:,} more left out by filters)" if left_out else ""),
        *(f"{name:{width}}  {text}" for name, text in told.items()),
    ]


def _requests(plan: Plan, service: str) -> str:
    least, listing = plan.registered[service], plan.listing_of(service)
    images = "image IDs" if service == ECR and plan.rows_of is RowKind.IDS else "images"
    if listing is None:
        return f"{counted(least, 'request')}, and one more for each further {plan.page_size:,} {images} of a repository"
    return f"about {counted(listing, 'request')}, as in the last run"


def _rows(plan: Plan) -> str:
    if plan.rows is None and plan.hinted:
        return "not known: the hints are of a crawl with other filters, or another page size"
    if plan.rows is None:
        return "not known: crawl with --hints FILE, and give that file to the next plan"
    (least, most), size = plan.rows, ROW_BYTES[plan.rows_of] / 1e6
    if least == most:
        return f"about {most:,}, as in the last run, {most * size:,.1f} MB"
    return f"{least:,} to {most:,}, {least * size:,.1f} to {most * size:,.1f} MB"


def _time(plan: Plan) -> str:
    if plan.expected is None:
        return "not known: AWS publishes no rates; they are learned, and remembered with --hints"
    minutes = plan.expected.seconds / 60
    return (
        f"{minutes:,.0f} minutes or more, as long as the longest registry"
        if minutes >= 1
        else "a minute or so, by the hints"
    )


def _events(plan: Plan) -> str:
    listing = plan.listing if plan.listing is not None else plan.repositories.total()
    total = plan.describing.total() + listing + plan.assumed + plan.asked_for_regions
    return f"{'about' if plan.expected else 'at least'} {total:,}"
