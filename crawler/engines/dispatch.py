"""The engine of several processes or machines: shards out, reports in, each of them taken once."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import aclosing, asynccontextmanager
from itertools import count

import anyio

from crawler.cutting import cut, cut_listed
from crawler.engines import Crew, Lost
from crawler.errors import CrawlError, Fatal
from crawler.fanout import for_each, take
from crawler.hints import Hints
from crawler.ledger import Ledger, parse
from crawler.model import Account, Organization, Outcome, Result, Unit
from crawler.shard import Held, Report, Shard
from crawler.wanted import Filter, Unmatched

logger = logging.getLogger(__name__)

#: Workers that one shard may lose: they may be killed for no fault of its own, as machines of a spot market are.
LOSSES = 20

#: Seconds in which a shard that was stopped may still tell what it has; less than the whole run has left then.
LAST_REPORT = 3.0

Members = Callable[[Organization], AsyncGenerator[Account]]


class Dispatch:
    """See `Engine`. Its ledger and hints are those of the run: they learn of a shard once all of it was taken.

    `take` lets the rows of a report count. `held` tells what of an account an earlier attempt has committed. Use under
    `running()`.
    """

    def __init__(
        self,
        crew: Crew,
        ledger: Ledger,
        hints: Hints,
        *,
        take: Callable[[Report], Awaitable[None]],
        held: Callable[[Account], Iterable[Held]],
        members: Members,
        wanted: Filter,
    ) -> None:
        self._crew = crew
        self._ledger = ledger
        self._hints = hints
        self._take = take
        self._held = held
        self._members = members
        self._numbers = count(1)
        self.regions = Unmatched(wanted.regions)
        self.repositories = Unmatched(wanted.repositories)

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[Dispatch]:
        """Take reports while the body runs; also those that come when it is being stopped, each as a whole."""
        async with anyio.create_task_group() as self._takers:
            yield self

    async def accounts(self, accounts: Iterable[Account]) -> None:
        """See `Engine`."""
        waiting = deque(cut(tuple(accounts), self._hints, self._crew.workers))
        try:
            async with aclosing(take(waiting)) as groups:
                await for_each(self._group, groups, at_once=self._crew.at_once)
        finally:
            for group in waiting:
                await self._missed(group)

    async def organization(self, organization: Organization, selects: Callable[[Account], bool]) -> None:
        """See `Engine`."""
        try:
            async with (
                aclosing(self._members(organization)) as members,
                aclosing(_chosen(members, selects)) as chosen,
                aclosing(cut_listed(chosen, self._crew.workers)) as groups,
            ):
                await for_each(self._group, groups, at_once=self._crew.at_once)
        except Fatal:
            raise
        except CrawlError as error:
            await self._ledger.record(Result(Unit(), error.outcome, error.code, error.message))

    async def _group(self, accounts: tuple[Account, ...]) -> None:
        """Have a group of accounts crawled, if need be by several workers one after the other."""
        shard = Shard(
            next(self._numbers),
            accounts,
            frozenset(held for account in accounts for held in self._held(account)),
            self._hints.part(accounts),
        )
        for _ in range(LOSSES):
            try:
                report = await self._crew.crawl(shard)
            except Lost as lost:
                logger.warning(
                    "a worker was lost: what it had under way is crawled again",
                    extra={"worker": str(lost), "shard": shard.number},
                )
                continue
            except BaseException:
                await self._end(shard)
                raise
            await self._hand_in(report).wait()
            return
        await self._given_up(shard)

    async def _end(self, shard: Shard) -> None:
        """Take what a shard has when the run is stopped."""
        report = None
        with anyio.move_on_after(LAST_REPORT, shield=True):
            report = await self._crew.stop(shard)
        if report:
            self._hand_in(report)
        else:
            await self._missed(shard.accounts)

    def _hand_in(self, report: Report) -> anyio.Event:
        """Begin to take a report; the event says that it was taken."""
        taken = anyio.Event()
        self._takers.start_soon(self._taken, report, taken)
        return taken

    async def _taken(self, report: Report, taken: anyio.Event) -> None:
        await self._take(report)
        self._hints.learn(report.learned)
        self.regions.globs &= report.regions
        self.repositories.globs &= report.repositories
        for warning in report.warnings:
            self._ledger.warn(*warning)
        await self._ledger.join(report.totals, report.lines, map(parse, report.left.splitlines()))
        taken.set()

    async def _given_up(self, shard: Shard) -> None:
        message = (
            f"{LOSSES} workers in turn were killed while they had it: is memory short, or is one account too large?"
        )
        for account in shard.accounts:
            await self._ledger.record(Result(Unit(account, account.account_id), Outcome.FAILED, "WorkerLost", message))

    async def _missed(self, accounts: Iterable[Account]) -> None:
        for account in accounts:
            await self._ledger.record(Result.missed(Unit(account, account.account_id)))


async def _chosen(members: AsyncIterator[Account], selects: Callable[[Account], bool]) -> AsyncGenerator[Account]:
    async for member in members:
        if selects(member):
            yield member
