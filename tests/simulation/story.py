"""One seed from beginning to end: crawled once, cut off or killed at a random moment perhaps, then taken up again."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from copy import deepcopy
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
from crawler.model import Account as AnyAccount
from crawler.model import Identity, Organization, Outcome, Split, Target
from crawler.retry import RetryPolicy
from crawler.wanted import Filter
from tests.fakes import ListSink, leaves, place
from tests.simulation.ends import Ends, Unit
from tests.simulation.estate import Image
from tests.simulation.world import World

#: Seconds of the virtual clock after which nobody will ever wake up again.
FOR_EVER = 1e8
LISTED = {"OK", "EMPTY"}


@dataclass
class Attempt:
    """One crawl of the world: its rows, its ledger, and whether it was cut off.

    Of one that was `killed`, too, there is what was there at that moment: nothing that ends in order has happened.
    """

    sink: ListSink
    ledger: Ledger
    lines: list[dict[str, Any]] = field(default_factory=list)
    told: dict[tuple[str, str], set[str]] = field(default_factory=dict)
    told_regions: set[str] = field(default_factory=set)
    ends: dict[Unit, set[tuple[Outcome, str]]] = field(default_factory=dict)
    troubled: set[Unit] = field(default_factory=set)
    asked: int = 0
    cut: bool = False
    killed: bool = False
    fatal: bool = False
    began: float = 0.0
    seconds: float = 0.0

    def of(self, unit: tuple[str | None, ...]) -> Counter[Image]:
        return Counter(row[3:] for row in self.sink.rows if row[:3] == unit)

    @asynccontextmanager
    async def ending(self, cut: float | None, *, kill: bool) -> AsyncGenerator[None]:
        """End the body after that many seconds, in order or not at all."""
        kept = self.sink.rows, self.sink.committed, self.sink.targets, self.lines
        there: list[list[Any]] = []

        async def end() -> None:
            if cut is not None:
                await anyio.sleep(cut)
                there.extend(list(each) for each in kept)
                scope.cancel()

        async with anyio.create_task_group() as group:
            with anyio.CancelScope() as scope:
                group.start_soon(end)
                yield
            group.cancel_scope.cancel()
        self.cut = scope.cancelled_caught
        self.killed = self.cut and kill
        if self.killed:
            for each, remains in zip(kept, there, strict=True):
                each[:] = remains


class Story:
    """Everything that one seed decides."""

    def __init__(self, seed: int) -> None:
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
        jitter = Random(f"jitter {seed}")  # noqa: S311  (nothing secret: the same in each run)
        self.policy = RetryPolicy(
            attempts=dice.choice([2, 5, 20]), seconds=dice.choice([60.0, 900.0]), uniform=jitter.uniform
        )
        self.world = World(seed, Ends(self.policy, self.limits.restarts))
        self.hints = Hints()
        for (registry_id, region), there in self.world.places.items():
            if dice.random() < 0.3:
                # An earlier night knew it: one that is gone since, and some that are still there.
                memory = Memory(repositories=dict.fromkeys(["gone", *list(there.repositories)[::2]], 50), pages=50)
                self.hints.keep(Target(AnyAccount(registry_id), region, registry_id), memory, whole=True)
        self.organization = dice.random() < 0.2
        self.slow = dice.choice([0.0, 0.0, 0.5, 5.0])
        self.cuts = [10 ** dice.uniform(-1, 3)] * dice.choice([0, 0, 1, 1, 2])
        self.kill = dice.random() < 0.5
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
        attempt.began = anyio.current_time()

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
        hints = deepcopy(self.hints)
        with anyio.fail_after(FOR_EVER):
            async with attempt.ending(cut, kill=self.kill):
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
        if attempt.killed:
            self.hints = hints  # nobody has written what it learned
        attempt.seconds = anyio.current_time()
        attempt.told = {at: set(names) for at, names in world.told.items()}
        attempt.told_regions = set(world.told_regions)
        attempt.ends, attempt.troubled, attempt.asked = world.ends.of, world.ends.troubled(), world.asked
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
        if whole and result.outcome in (Outcome.OK, Outcome.EMPTY):
            units.add((*at, None))
    return units | attempt.sink.held  # type: ignore[return-value]  # each has a registry and a region
