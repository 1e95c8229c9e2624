"""What of all that befell a unit may end it: what asking again cannot help, and what outlasted all patience.

A failure that the policy would have come through ends nothing. So a crawler that gives up early is told from one that
did what it could, without a look at how either goes about it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable
from dataclasses import dataclass, field, replace

import anyio

from crawler.errors import CrawlError, Refused
from crawler.model import Outcome
from crawler.retry import RetryPolicy

#: (registry id, region, repository); without what is not of the unit.
Unit = tuple[str, str | None, str | None]


@dataclass
class Ends:
    """The ends of one attempt, by unit: outcomes and codes that its line may have if it is not listed whole."""

    policy: RetryPolicy
    restarts: int
    of: dict[Unit, set[tuple[Outcome, str]]] = field(default_factory=lambda: defaultdict(set))
    _in_a_row: dict[tuple[Unit, Hashable], tuple[int, float]] = field(default_factory=dict)
    _refused: Counter[Hashable] = field(default_factory=Counter)

    def answered(self, unit: Unit, page: Hashable) -> None:
        """This page of the unit was answered: its failures are behind it."""
        self._in_a_row.pop((unit, page), None)

    def troubled(self) -> set[Unit]:
        """Units that something was asked of in vain, whether for good or until nobody asked any more."""
        return {*self.of, *(unit for unit, _ in self._in_a_row)}

    def failed(self, unit: Unit, page: Hashable, error: CrawlError, policy: RetryPolicy | None = None) -> None:
        """This page of the unit failed, once more perhaps."""
        policy = policy or self.policy
        if error.retryable:
            now = anyio.current_time()
            times, first = self._in_a_row.get((unit, page), (0, now))
            self._in_a_row[unit, page] = times + 1, first
            assert times < policy.attempts, f"{page} of {unit} was asked for after its last attempt"
            longest = replace(policy, uniform=lambda _, high: high).wait(times + 1, error)
            if times + 1 < policy.attempts and now + longest <= first + policy.seconds:
                return
        self.of[unit].add((error.outcome, error.code))

    def refused(self, unit: Unit, part: Hashable, error: Refused, *, first: bool) -> None:
        """A page was refused: if it is not the first of its chain, there may be another chain."""
        self._refused[unit, part] += 1
        if first or self._refused[unit, part] > self.restarts:
            self.of[unit].add((error.outcome, error.code))
