"""A piece of a crawl for somebody else to do, and what came of it. Values only: they travel between processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import IO

from crawler.delivery import unwritten
from crawler.hints import Memory
from crawler.ledger import NOT_WRITTEN, Totals, line, parse
from crawler.model import Account, Outcome
from crawler.sinks.parts import Part

#: (account id, registry id, region, repository): a repository, or with None a target with all that is in it, as this
#: account lists it.
Held = tuple[str, str, str, str | None]


@dataclass(frozen=True, slots=True)
class Shard:
    """Accounts that are crawled in one place, and count all together or not at all.

    With `regions` it is a piece of its one account: these only, as `Registries.regions` has told of them; of the pieces
    one alone is `public`. Without, whoever crawls the accounts asks for their regions.

    `number` is its own within an attempt, and names its record: whoever crawls it, and however often, one of them
    commits it. What is `held` was committed by an earlier attempt, and `known` is what hints say of its targets. It
    has the accounts as their file has them, roles by their ARNs: whoever crawls it finds keys of its own.
    """

    number: int
    accounts: tuple[Account, ...]
    held: frozenset[Held] = frozenset()
    known: Mapping[str, Memory] = field(default_factory=dict[str, Memory])
    regions: Mapping[str, bool] | None = None


@dataclass(slots=True)
class Report:
    """What came of a shard; nothing of it counts before it was taken.

    `units` are lines of the ledger, of what the shard has whole, `left` those of the rest. `regions` and `repositories`
    are the globs that matched nothing, `learned` is as in `Hints`. Its rows are in `rows`, a local file without a name,
    or in `parts`, which `record` makes count.
    """

    number: int
    units: bytes
    left: bytes
    totals: Totals
    regions: frozenset[str] = frozenset()
    repositories: frozenset[str] = frozenset()
    warnings: Sequence[tuple[str, str]] = ()
    learned: Mapping[str, Memory] = field(default_factory=dict[str, Memory])
    parts: Sequence[Part] = ()
    record: str | None = None
    rows: IO[bytes] | None = None

    def unwritten(self) -> Report:
        """The same where the output did not take its rows, or not all of them."""
        whole, left = list[bytes](), [self.left]
        for told in self.units.splitlines(keepends=True):
            result = unwritten(parse(told))
            (left if result.code == NOT_WRITTEN else whole).append(line(result))
        totals = replace(self.totals, repositories=self.totals.repositories.copy())
        totals.repositories[Outcome.OK] -= len(left) - 1
        totals.repositories[Outcome.FAILED] += len(left) - 1
        return replace(self, units=b"".join(whole), left=b"".join(left), totals=totals)

    @property
    def lines(self) -> bytes:
        """All of its ledger."""
        return self.units + self.left
