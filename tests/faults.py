"""Every line of the table in tests/README.md, with what its tests did: the second half of `make faults`.

Also those that `make test` leaves out. `program/test_table_of_faults.py` holds the table against the tests there are.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
_TEST = re.compile(r"`([\w/]+\.py::\w+)`(?: \(([\w,\- ]+)\))?")


@dataclass
class Line:
    """A fault, what holds it, and how that ended, parametrized tests one by one.

    `tests` are `file::function`, each with the faults of the emulator that it is named for; with none, all of it.
    """

    fault: str
    tests: dict[str, tuple[str, ...]]
    asserted: str
    ended: Counter[str] = field(default_factory=Counter[str])
    seconds: float = 0.0

    def concerns(self, test: str, parameters: str) -> bool:
        """Whether the test with these parameters (`https-short-fin`) is of this fault."""
        return not self.tests[test] or f"-{parameters}".endswith(tuple(f"-{fault}" for fault in self.tests[test]))


def lines() -> list[Line]:
    """Those of the table."""
    table = (TESTS / "README.md").read_text().partition("| fault | test |")[2]
    cells = (re.split(r"(?<!\\)\|", line) for line in table.splitlines()[2:] if line.startswith("|"))
    return [
        Line(fault.strip().replace("\\|", "|"), _tests(tests), asserted.strip())
        for _, fault, tests, asserted, _ in cells
    ]


def _tests(cell: str) -> dict[str, tuple[str, ...]]:
    return {test: tuple(faults.split(", ")) if faults else () for test, faults in _TEST.findall(cell)}


class Watch:
    """A plugin of pytest that gives each line what its tests did."""

    def __init__(self, table: list[Line]) -> None:
        self._table = table

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        name, _, parameters = report.nodeid.removeprefix("tests/").removesuffix("]").partition("[")
        told = report.when == "call" or report.outcome != "passed"
        for line in self._table:
            if name in line.tests and line.concerns(name, parameters):
                line.ended[report.outcome] += told
                line.seconds += report.duration


def main() -> int:
    """Run them all and print the table; 1 where one failed, or none ran."""
    table, said = lines(), StringIO()
    nodes = sorted({f"{TESTS}/{test}" for line in table for test in line.tests})
    with redirect_stdout(said):
        code = pytest.main(["-q", "-m", "slow or not slow", *nodes], plugins=[Watch(table)])
    print(f"{'':2}{'fault':80}{'passed':>8}{'failed':>8}{'skipped':>9}{'seconds':>9}")
    for line in table:
        fine = line.ended["passed"] > 0 and not line.ended["failed"]
        told = "".join(f"{line.ended[how]:>{width}}" for how, width in (("passed", 8), ("failed", 8), ("skipped", 9)))
        print(f"{'  ' if fine else '! '}{line.fault[:79]:80}{told}{line.seconds:>9.1f}\n{'':4}{line.asserted}")
    if code:
        print(said.getvalue())
    return int(code != 0 or any(not line.ended["passed"] for line in table))


if __name__ == "__main__":
    sys.exit(main())
