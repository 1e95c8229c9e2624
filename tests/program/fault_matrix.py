"""Every fault of the emulator on the whole program and real sockets, over plain HTTP and over TLS.

One repository for each fault, in two crawls: in the first each strikes its repository once, in the second it never
ends. Bystanders are crawled along. `python -m tests.program.fault_matrix` (`make faults`) prints what happened to each,
and fails where it is not what is expected; tests/program/test_faults.py asserts the same, and more.
"""

from __future__ import annotations

import sys
import time
from collections import Counter, defaultdict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from crawler.emulator import FAULTS, Account, Estate, Options, Repository, Rule, running
from crawler.emulator.images import MIXED, Series
from tests.certificates import Certificate, certify
from tests.program.conftest import SCHEMES, Crawled, Program, Row

ACCOUNT, OTHER = "000000000001", "000000000002"
REGION = "eu-west-1"
BYSTANDER = "bystander"

#: These end the run, or need a place of their own, and have tests of their own.
ALONE = {"time-too-skewed", "session-ended", "unrecognized-client"}
#: Nothing to survive when they strike once, because one is for ever.
PERMANENT = {
    "repository-deleted": "GONE",
    "access-denied": "DENIED",
    "access-denied-resource-policy": "DENIED",
    "invalid-signature": "DENIED",
    "redirect": "FAILED",
    "same-token": "FAILED",
    "cycling-tokens": "FAILED",
    "endless-tokens": "FAILED",
    "endless-empty-pages": "FAILED",
}
HARMLESS = {"chunked-body", "gzip-body", "empty-page", "empty-token", "answered-twice"}
THROTTLES = {"throttling", "throttling-429", "limit-exceeded"}
ONCE = sorted(FAULTS.keys() - ALONE - PERMANENT.keys())
# An empty page before every page never ends; for ever is what it is called elsewhere.
ALWAYS = sorted(FAULTS.keys() - ALONE - {"endless-tokens", "empty-page"})

#: Attempts at a page in the crawl whose faults never end, and seconds for each.
ATTEMPTS, TIMEOUT = 2, 1.0
#: Seconds that a struck repository may take: its attempts and waits, a few times over for a machine that is busy.
BOUND = 20.0
#: Seconds for a crawl with all faults, some of which are under way at once: many times what it takes.
WHOLE = 60.0


def lasting_outcome(fault: str) -> str:
    """How a repository ends whose fault never does."""
    if fault in HARMLESS:
        return "OK"
    if fault in THROTTLES:
        return "THROTTLED"
    return "DENIED" if fault == "expired-token" else PERMANENT.get(fault, "FAILED")


def estate(names: list[str]) -> Estate:
    repositories = {name: Repository(name, Series(name, 2500, MIXED)) for name in [*names, BYSTANDER]}
    return Estate(
        [
            Account(ACCOUNT, "struck", repositories={REGION: repositories}),
            Account(OTHER, "other", repositories={REGION: {BYSTANDER: Repository(BYSTANDER, Series("o", 10, MIXED))}}),
        ],
        regions=[REGION],
    )


@dataclass(frozen=True)
class Case:
    crawled: Crawled
    truth: Counter[Row]
    stats: dict[str, Any]
    seconds: float

    def rows(self, repository: str) -> tuple[Counter[Row], Counter[Row]]:
        """What was delivered of a repository of the struck account, and what there is."""
        return tuple(rows[ACCOUNT, repository] for rows in self._by_repository)

    def spared(self) -> bool:
        """Whether all is there of whatever no fault was made for, in both accounts."""
        outcomes = self.crawled.outcomes()
        found, there = self._by_repository
        return all(
            outcomes[id_, REGION, BYSTANDER] == "OK" and found[id_, BYSTANDER] == there[id_, BYSTANDER]
            for id_ in (ACCOUNT, OTHER)
        )

    @cached_property
    def _by_repository(self) -> list[defaultdict[tuple[str, str], Counter[Row]]]:
        parted: list[defaultdict[tuple[str, str], Counter[Row]]] = []
        for rows in (self.crawled.rows, self.truth):
            parted.append(defaultdict(Counter))
            for row, times in rows.items():
                parted[-1][row[0], row[2]][row] = times
        return parted


def crawl(
    folder: Path,
    world: Estate,
    rules: list[Rule],
    *arguments: str,
    certificate: Certificate | None = None,
    bound: float = BOUND,
) -> Case:
    """Crawl a world that is struck, which may take `bound` seconds."""
    program = Program(folder)
    tls = certificate.server if certificate else None
    with running(world, Options(faults=rules, seed=1, tls=tls)) as emulator:
        program.environment |= emulator.environment()
        if certificate:
            program.environment["AWS_CA_BUNDLE"] = str(certificate.bundle)
        only = "".join(f"- {{account_id: {id_}, role: inventory, regions: [{REGION}]}}\n" for id_ in (ACCOUNT, OTHER))
        began = time.monotonic()
        crawled = program.crawl(f"accounts:\n{only}", "--timeout", str(TIMEOUT), *arguments)
        seconds = time.monotonic() - began
        assert seconds < bound, f"{seconds:.1f} s"
        truth = Counter(tuple(row) for row in world.rows())
        return Case(crawled, truth, emulator.stats(), seconds)


def struck_once(folder: Path, certificate: Certificate | None) -> Case:
    rules = [Rule(fault=name, operation="ListImages", repository=name) for name in ONCE]
    return crawl(folder, estate(ONCE), rules, certificate=certificate, bound=WHOLE)


def struck_always(folder: Path, certificate: Certificate | None) -> Case:
    rules = [Rule(fault=name, operation="ListImages", repository=name, times=0) for name in ALWAYS]
    return crawl(folder, estate(ALWAYS), rules, "--attempts", str(ATTEMPTS), certificate=certificate, bound=WHOLE)


def main() -> int:
    """Crawl four times and print the matrix; 1 where a line is not as it should be."""
    with TemporaryDirectory() as name:
        certificate = certify(Path(name))
        wrong = 0
        for scheme in SCHEMES:
            for how, strike, faults, code in (("once", struck_once, ONCE, 0), ("always", struck_always, ALWAYS, 3)):
                folder = Path(name, f"{scheme}-{how}")
                folder.mkdir()
                case = strike(folder, certificate if scheme == "https" else None)
                print(
                    f"\n{scheme}, {how}: exit code {case.crawled.code}, {case.seconds:.1f} s, "
                    f"{case.crawled.rows.total()} of {case.truth.total()} rows, bystanders "
                    f"{'whole' if case.spared() else 'NOT WHOLE'}"
                )
                print(f"{'':2}{'fault':32}{'outcome':11}{'rows':>11}{'attempts':>10}{'seconds':>9}  code")
                wrong += case.crawled.code != code
                wrong += not case.spared()
                wrong += sum(show(case, fault, "OK" if how == "once" else lasting_outcome(fault)) for fault in faults)
    print(f"\n{wrong} not as expected" if wrong else "\nall as expected")
    return int(wrong > 0)


def show(case: Case, fault: str, outcome: str) -> bool:
    """Print the line of one fault, and tell whether it is wrong."""
    line = case.crawled.line(fault)
    found, there = case.rows(fault)
    fine = line["outcome"] == outcome and found <= there and (found == there) == (outcome == "OK")
    fine &= line["seconds"] < BOUND
    rows = f"{found.total()}/{there.total()}"
    print(
        f"{'  ' if fine else '! '}{fault:32}{line['outcome']:11}{rows:>11}"
        f"{line['attempts']:>10}{line['seconds']:>9.2f}  {line['code'] or ''}"
    )
    return not fine


if __name__ == "__main__":
    sys.exit(main())
