"""What 1,000, 10,000 and 100,000 accounts need: computed from the measured rates and the simulated company.

Nothing here is measured anew. The work is that of `estate.Skewed`, the company that `simulate` crawls; what a process
can do is what `results.json` says of this machine; the rest are the assumptions below, each of which is an option.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

from benchmarks.estate import Skewed
from benchmarks.report import table
from crawler.crawl import Limits
from crawler.model import Account, Target

ACCOUNTS = (1_000, 10_000, 100_000)

#: Targets that a process has open where nobody says another number.
DEFAULT_AT_ONCE = Limits().targets_at_once

#: Requests a second that AWS publishes: crawler/aws/rates.py names the pages. ListAccounts has 20 accounts a page.
_ASSUME_ROLE, _LIST_ACCOUNTS, _PAGE = 600.0, 8.0, 20


@dataclass(frozen=True)
class Assumed:
    """What is neither measured nor simulated. `price` in dollars for an hour of one core, storage and traffic apart.

    `at_once` are the targets that each process has open (`--targets-at-once`), as in the simulated crawl.
    """

    price: float = 0.05
    at_once: int = 1024
    efficiency: float = 0.8  # of each process beside others: the goal of `workers`, 1.6 times with two


@dataclass(frozen=True)
class Measured:
    """Seconds of CPU for a target, and for each of its further requests; bytes of a process; seconds to start one."""

    target: float
    request: float
    rss: int
    startup: float

    @classmethod
    def read(cls, path: Path) -> Measured:
        """From the file that the benchmarks keep."""
        works: dict[str, Any] = json.loads(path.read_text())["works"]
        small = next(each for each in works["small"]["clients"] if each["name"] == "crawler")
        targets = next(each for each in works["targets"]["clients"] if each["name"] == "crawler")
        return cls(1 / targets["cpu_rate"], 1 / small["cpu_rate"], works["memory-targets"]["rss"], targets["startup"])


@dataclass(frozen=True)
class Work:
    """What there is to do: `slowest` is how long the longest of all registries takes, whoever crawls it.

    `waiting` are the seconds of all targets, one after the other, that pass between requests and their answers.
    """

    accounts: int
    targets: int
    pages: int
    slowest: float
    waiting: float

    @classmethod
    def of(cls, skewed: Skewed) -> Work:
        """Walk over the whole company."""
        pages = targets = 0
        slowest = waiting = 0.0
        for account in skewed.all():
            for region in account.regions:
                place = skewed.place(Target(Account(account.account_id), region, account.account_id))
                targets += 1
                pages += place.pages
                waiting += place.latency
                if place.bucket:
                    chain = max(place.chains) * place.latency
                    waiting += chain
                    slowest = max(slowest, place.bucket.bound(place.pages), chain)
        return cls(skewed.accounts, targets, pages, slowest, waiting)


def ratio(results: Path) -> float:
    """How near to its largest bound the simulated crawl came."""
    return float(json.loads(results.read_text())["works"]["simulate"]["estate"]["ratio"])


def row(work: Work, measured: Measured, assumed: Assumed, times: float) -> list[str]:
    """One line of the table; every bound of AWS's takes so many `times` as long."""
    cpu = work.targets * measured.target + work.pages * measured.request
    # What no number of processes makes shorter.
    listing = work.accounts / _PAGE / _LIST_ACCOUNTS
    keys = work.accounts / _ASSUME_ROLE
    floor = max(work.slowest, listing, keys) * times
    processes = max(1, ceil(cpu / (floor * assumed.efficiency)))
    alone, with_default = (
        max(floor, cpu, work.waiting / at_once) + measured.startup for at_once in (assumed.at_once, DEFAULT_AT_ONCE)
    )
    crawling = cpu / (processes * (assumed.efficiency if processes > 1 else 1.0))
    seconds = max(floor, crawling, work.waiting / (assumed.at_once * processes)) + measured.startup
    driver = 1 if processes > 1 else 0
    dollars = seconds / 3600 * processes * assumed.price
    return [
        f"{work.accounts:,}",
        f"{work.targets:,}",
        f"{work.targets + work.pages:,}",
        f"{work.accounts:,}",
        f"{cpu / 60:,.1f}",
        f"{with_default / 60:,.1f}",
        f"{alone / 60:,.1f}",
        str(processes),
        f"{(processes + driver) * measured.rss / 1e6:,.0f}",
        f"{seconds / 60:,.1f}",
        f"{dollars:,.2f}",
    ]


def compute(results: Path, *, quick: bool, assumed: Assumed | None = None) -> str:
    """The table, as it stands in the docs."""
    assumed = assumed or Assumed()
    measured = Measured.read(results)
    headings = [
        "accounts", "targets", "ECR requests", "AssumeRole", "CPU min", "min, as it is",
        "min, 1,024 at once", "processes", "MB in all", "min", "$ a run",
    ]  # fmt: skip
    rows = [
        row(Work.of(Skewed(accounts=accounts)), measured, assumed, ratio(results))
        for accounts in ((20, 40) if quick else ACCOUNTS)
    ]
    return table(headings, rows)
