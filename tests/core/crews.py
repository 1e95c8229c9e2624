"""A crew that is this process, what it crawls, and a dispatch that has it."""

from __future__ import annotations

import json
from collections import Counter
from functools import partial
from typing import Any

import anyio

from crawler.doubts import Doubts
from crawler.engines import Crew, Lost
from crawler.engines.dispatch import Dispatch
from crawler.hints import Hints
from crawler.ledger import Ledger
from crawler.model import Account, Identity, Organization
from crawler.settings import Settings
from crawler.shard import Report, Shard
from crawler.shard_crawl import Assignment, Workplace
from tests.fakes import World, small_tree

ACCOUNTS = [Account(f"{number:012}") for number in range(1, 8)]
ORGANIZATION = Organization(Identity(), Account("", role=("inventory",)))


def world(*accounts: Account) -> World:
    trees = {(account.account_id, "east"): small_tree("a", "b") for account in accounts}
    return World(trees, members=accounts)


class Here:
    """A crew that is this process, and may lose what it is given."""

    def __init__(self, world: World, settings: Settings | None = None, workers: int = 2) -> None:
        self.workers, self.at_once = workers, 2 * workers
        settings = settings or Settings(accounts="accounts.yaml")
        self.place = Workplace(Assignment(settings, "r", None, ("text", 0)), world, None)
        self.losses: Counter[str] = Counter()
        self.given: list[Shard] = []
        self.work: dict[int, anyio.CancelScope] = {}
        self.kept: dict[int, Report] = {}
        self.busy = self.peak = 0

    async def crawl(self, shard: Shard) -> Report:
        self.busy += 1
        self.peak = max(self.peak, self.busy)
        try:
            return await self._crawl(shard)
        finally:
            self.busy -= 1

    async def _crawl(self, shard: Shard) -> Report:
        self.given.append(shard)
        first = shard.accounts[0].account_id
        if self.losses[first]:
            self.losses[first] -= 1
            raise Lost("1")
        work = self.work[shard.number] = anyio.CancelScope()
        return await self.place.crawl_shard(shard, work)

    async def stop(self, shard: Shard) -> Report | None:
        return self.kept.get(shard.number)


class Run:
    """A dispatch, and what came of it."""

    def __init__(
        self, world: World, settings: Settings | None = None, workers: int = 2, crew: Crew | None = None
    ) -> None:
        self.world = world
        self.crew: Any = crew or Here(world, settings, workers)
        self.lines: list[dict[str, Any]] = []
        self.rows: list[dict[str, Any]] = []
        self.ledger = Ledger(self._line)
        self.hints = Hints()
        self.dispatch = Dispatch(
            self.crew,
            self.ledger,
            self.hints,
            take=self._take,
            held=lambda _: (),
            registries=world,
            ask=partial(Doubts.ask, registries=world, policy=(settings or Settings(accounts="")).policy()),
            wanted=(settings or Settings(accounts="")).filter(),
        )

    async def _line(self, data: bytes) -> None:
        self.lines += map(json.loads, data.splitlines())

    async def _take(self, report: Report) -> None:
        if report.rows:
            with report.rows as rows:
                rows.seek(0)
                self.rows += map(json.loads, rows)

    def crawl(self, *accounts: Account) -> Run:
        async def main() -> None:
            async with self.dispatch.running():
                if accounts:
                    await self.dispatch.accounts(accounts)
                else:
                    await self.dispatch.organization(ORGANIZATION, lambda _: True)

        anyio.run(main)
        return self

    def check(self) -> None:
        """All rows, all units, each once."""
        assert Counter(tuple(row.values()) for row in self.rows) == self.world.rows()
        units = [(line["registryId"], line["region"], line["repositoryName"]) for line in self.lines]
        assert len(units) == len(set(units)) == 3 * len(self.world.trees)
        totals = self.ledger.totals
        assert (totals.rows, totals.accounts) == (len(self.rows), len(self.world.trees))
        assert totals.outcomes().total() == len(units)
