"""One seed from beginning to end: crawled once, cut off at a random moment perhaps, then taken up again; and judged.

What must be true of every story is in `judge`: it knows the world, and not how the crawl came through it.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import Any

import anyio
import trio
from anyio.lowlevel import checkpoint
from trio.testing import MockClock

from crawler.crawl import Crawl, Limits
from crawler.errors import Fatal
from crawler.hints import Hints, Memory
from crawler.ledger import Ledger
from crawler.model import COMPLETE, INTERRUPTED, NOT_REACHED, Identity, Organization, Outcome, Split, Target
from crawler.model import Account as AnyAccount
from crawler.retry import RetryPolicy
from crawler.wanted import Filter
from tests.fakes import ListSink, leaves, place
from tests.simulation.world import PUSHED, Repository, World

#: Seconds of the virtual clock after which nobody will ever wake up again.
FOR_EVER = 1e8
LISTED = {"OK", "EMPTY"}
#: What may befall a unit without the world having struck it: the run's own bounds, and chains that lead nowhere.
OWN_CODES = {INTERRUPTED, NOT_REACHED, "TargetTimeout", "RepeatedToken", "EmptyPages", "ListingChanged"}


@dataclass
class Attempt:
    """One crawl of the world: its rows, its ledger, and whether it was cut off."""

    sink: ListSink
    ledger: Ledger
    lines: list[dict[str, Any]] = field(default_factory=list)
    told: dict[tuple[str, str], set[str]] = field(default_factory=dict)
    told_regions: set[str] = field(default_factory=set)
    cut: bool = False
    fatal: bool = False
    seconds: float = 0.0

    def of(self, unit: tuple[str | None, ...]) -> Counter[str]:
        return Counter(row[3] for row in self.sink.rows if row[:3] == unit)


class Story:
    """Everything that one seed decides."""

    def __init__(self, seed: int) -> None:
        self.world = World(seed)
        dice = Random(f"how {seed}")  # noqa: S311 - a story, no secret
        self.limits = Limits(
            targets_at_once=dice.randint(1, 4),
            requests_per_target=dice.randint(1, 4),
            max_rps=dice.choice([None, None, 0.7, 30.0]),
            rate_share=dice.choice([1.0, 1.0, 0.5]),
            target_seconds=dice.choice([5.0, 600.0, 21600.0, 21600.0]),
            restarts=dice.choice([0, 1, 3]),
            split=dice.choice(list(Split)),
        )
        self.hints = Hints()
        for (registry_id, region), there in self.world.places.items():
            if dice.random() < 0.3:
                # An earlier night knew it: one that is gone since, and some that are still there.
                memory = Memory(repositories=dict.fromkeys(["gone", *list(there.repositories)[::2]], 50), pages=50)
                self.hints.keep(Target(AnyAccount(registry_id), region, registry_id), memory, whole=True)
        jitter = Random(f"jitter {seed}")  # noqa: S311
        self.policy = RetryPolicy(
            attempts=dice.choice([2, 5, 20]), seconds=dice.choice([60.0, 900.0]), uniform=jitter.uniform
        )
        self.organization = dice.random() < 0.2
        self.slow = dice.choice([0.0, 0.0, 0.5, 5.0])
        self.cuts = [10 ** dice.uniform(-1, 3)] * dice.choice([0, 0, 1, 1, 2])
        self.attempts: list[Attempt] = []
        self._seed = seed

    def tell(self) -> Story:
        """Crawl until one attempt is not cut off, each one holding what those before it committed."""
        # What pytest-trio and Hypothesis do, so that trio runs tasks in the same order each time.
        trio._core._run._ALLOW_DETERMINISTIC_SCHEDULING = True
        trio._core._run._r.seed(self._seed)
        for cut in [*self.cuts, None]:
            clock = MockClock(autojump_threshold=0)
            clock.jump(self.attempts[-1].seconds if self.attempts else 0.0)  # the world does not begin anew
            anyio.run(self._attempt, cut, backend="trio", backend_options={"clock": clock})
        return self

    async def _attempt(self, cut: float | None) -> None:
        held = {unit for attempt in self.attempts for unit in committed(attempt)}
        attempt = Attempt(ListSink(*[self.slow] * 3, held=held), Ledger())
        self.attempts.append(attempt)

        async def send(data: bytes) -> None:
            await checkpoint()
            attempt.lines.append(json.loads(data))

        attempt.ledger.sends = (send,)
        world = self.world
        world.restart()
        world.hinted = {
            at: self.hints.of(Target(AnyAccount(at[0]), at[1], at[0])).long_repositories() for at in world.places
        }
        crawl = Crawl(
            world,
            attempt.sink,
            attempt.ledger,
            limits=self.limits,
            policy=self.policy,
            wanted=Filter(),
            hints=self.hints,
        )
        with anyio.fail_after(FOR_EVER), anyio.move_on_after(cut) as scope:
            try:
                if self.organization:
                    await crawl.organization(Organization(Identity(), AnyAccount("")), lambda _: True)
                else:
                    await crawl.accounts(world.accounts)
            except BaseException as error:
                attempt.fatal = any(isinstance(leaf, Fatal) for leaf in leaves(error))
                rest = [leaf for leaf in leaves(error) if not isinstance(leaf, Fatal | trio.Cancelled)]
                if rest or not attempt.fatal:
                    raise
        attempt.cut = scope.cancelled_caught
        attempt.seconds = anyio.current_time()
        attempt.told = {at: set(names) for at, names in world.told.items()}
        attempt.told_regions = set(world.told_regions)
        assert world.flying.total() == 0, "a request outlived the crawl"
        assert crawl._targets.value == self.limits.targets_at_once, "a slot was lost"


def committed(attempt: Attempt) -> set[tuple[str | None, ...]]:
    """Units that a sink with a memory would hold, as `sinks/parts.py` has it."""
    units: set[tuple[str | None, ...]] = {
        (unit.registry_id, unit.region, unit.repository) for unit in (result.unit for result in attempt.sink.committed)
    }
    ended = {place(line): line["outcome"] for line in attempt.lines}
    for result in attempt.sink.targets:
        at = (result.unit.registry_id, result.unit.region)
        whole = all(outcome in LISTED for unit, outcome in ended.items() if unit[:2] == at and unit[2])
        if whole and result.outcome in (Outcome.OK, Outcome.EMPTY, Outcome.REGION_DISABLED):
            units.add((*at, None))
    return units | attempt.sink.held  # type: ignore[return-value]


def judge(story: Story) -> None:
    """Assert what must be true whatever happened."""
    world = story.world
    for attempt in story.attempts:
        outcomes = {place(line): line["outcome"] for line in attempt.lines}
        assert len(outcomes) == len(attempt.lines), "a unit has two lines"
        _judge_units(story, attempt, set(outcomes))
        for line in attempt.lines:
            _judge_line(world, attempt, line)
        _judge_sums(attempt)
    for at, peak in world.peaks.items():
        assert peak <= story.limits.requests_per_target, f"{peak} requests at once in {at}"
    _judge_union(story)


def _judge_units(story: Story, attempt: Attempt, lines: set[tuple[str | None, ...]]) -> None:
    """Every unit that was heard of has its line, and no other has; but for what was held already."""
    world, held = story.world, attempt.sink.held
    known: set[tuple[str | None, ...]] = set()
    for account in world.accounts:
        regions = world.regions_of[account.account_id] if account.account_id in attempt.told_regions else []
        if not regions and not (story.organization and (attempt.cut or attempt.fatal)):
            known.add((account.account_id, None, None))
        known |= {(id_, region, None) for region in regions for id_ in (account.account_id, *account.registries)}
    known |= {(*at, name) for at, names in attempt.told.items() for name in names}
    missing = known - held - lines
    assert not missing, f"without a line: {missing}"
    extra = lines - known - {(None, None, None)} - {(account.account_id, None, None) for account in world.accounts}
    assert not extra, f"lines of what nobody named: {extra}"
    assert not lines & held, "what was held was crawled again"


def _judge_line(world: World, attempt: Attempt, line: dict[str, Any]) -> None:
    registry_id, region, name = unit = place(line)
    outcome, struck = line["outcome"], world.struck.get(unit, set())
    if name is None:
        if outcome in LISTED:
            there = world.places[registry_id, region]  # type: ignore[index]
            told = attempt.told.get((registry_id, region), set())
            assert set(there.repositories) <= told, "names are missing"  # type: ignore[arg-type]
            assert not there.disabled
            assert outcome == ("OK" if there.repositories else "EMPTY")
        if outcome == "REGION_DISABLED" and region:
            assert world.places[registry_id, region].disabled  # type: ignore[index]
    else:
        _judge_repository(world, attempt, line, unit)
    if outcome in LISTED:
        assert line["code"] is None
    elif region and line["code"] not in OWN_CODES and not attempt.fatal:
        account = (f"0{registry_id[1:]}" if registry_id else None, None, None)
        assert struck or world.struck.get(account), f"{line} fell from the sky"  # type: ignore[arg-type]
    if outcome == "GONE":
        assert name
        assert "Gone" in struck
    if outcome == "THROTTLED":
        assert line["throttled"] or "Throttled" in world.struck.get((f"0{registry_id[1:]}", None, None), set())  # type: ignore[index]


def _judge_repository(world: World, attempt: Attempt, line: dict[str, Any], unit: tuple[str | None, ...]) -> None:
    there = world.places[unit[0], unit[1]].repositories.get(unit[2]) or Repository([[]], deleted_at=0.0)  # type: ignore[index,arg-type]
    rows, truth = attempt.of(unit), there.digests()
    grown = truth + Counter({PUSHED: 1}) if there.pushed_at <= attempt.seconds else truth
    assert set(rows) <= set(grown), "rows that nobody has"
    if not there.odd:
        assert rows <= grown, "a row twice"
    if line["outcome"] in LISTED:
        assert not there.odd or (there.odd == "same" and len(there.pages) == 1), "called listed, and never ends"
        assert truth <= rows, f"called {line['outcome']}, and rows are missing"
        assert line["rows"] == rows.total()
        assert line["outcome"] == ("OK" if rows else "EMPTY")


def _judge_sums(attempt: Attempt) -> None:
    lines, totals = attempt.lines, attempt.ledger.totals
    assert totals.rows == sum(line["rows"] for line in lines)
    assert totals.pages == sum(line["pages"] for line in lines)
    assert totals.requests == sum(line["attempts"] for line in lines)
    assert totals.throttled == sum(line["throttled"] for line in lines)
    assert totals.outcomes() == Counter(Outcome(line["outcome"]) for line in lines)
    assert attempt.ledger.incomplete() == sum(Outcome(line["outcome"]) not in COMPLETE for line in lines)
    assert totals.stopped == sum(line["code"] in (INTERRUPTED, NOT_REACHED) for line in lines)
    if attempt.cut or attempt.fatal:
        assert attempt.ledger.incomplete(), "stopped, and called complete"
    for line in lines:
        assert line["attempts"] >= line["pages"]
    done = {(u.registry_id, u.region, u.repository) for u in (result.unit for result in attempt.sink.committed)}
    assert done == {place(line) for line in lines if line["repositoryName"] and line["outcome"] in LISTED}
    assert len(done) == len(attempt.sink.committed)


def _judge_union(story: Story) -> None:
    """Committed rows of all attempts together: each repository once, and whole."""
    seen: Counter[tuple[str | None, ...]] = Counter()
    for attempt in story.attempts:
        for result in attempt.sink.committed:
            seen[result.unit.registry_id, result.unit.region, result.unit.repository] += 1
    assert not seen or max(seen.values()) == 1, "a repository was committed twice"
    last = story.attempts[-1]
    if not last.ledger.incomplete():
        for at, region in story.world.places.items():
            for name, repository in region.repositories.items():
                gone = repository.deleted_at <= last.seconds or region.disabled
                assert seen[*at, name] or gone, f"complete, without {name}"
