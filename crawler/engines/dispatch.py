"""The engine of several processes or machines: shards out, reports in, each of them taken once."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from itertools import count

import anyio

from crawler.cutting import Group, cut, cut_listed, deal
from crawler.doubts import Doubts
from crawler.engines import Crew, Lost
from crawler.errors import CrawlError, Fatal
from crawler.fanout import for_each, take
from crawler.hints import Hints
from crawler.ledger import Ledger, line, parse
from crawler.model import INTERRUPTED, Account, Organization, Outcome, Result, Target, Unit
from crawler.registry import Registries
from crawler.shard import Held, Report, Shard
from crawler.wanted import Filter, Unmatched

logger = logging.getLogger(__name__)

#: Workers that one shard may lose: they may be killed for no fault of its own, as machines of a spot market are.
LOSSES = 20

#: Seconds in which a shard that was stopped may still tell what it has; less than the whole run has left then.
LAST_REPORT = 3.0


class Dispatch:
    """See `Engine`. Its ledger and hints are those of the run: they learn of a shard once all of it was taken.

    `take` lets the rows of a report count. `held` tells what of an account an earlier attempt has committed.
    `registries` are asked for the members of an organization and, of accounts that are to be cut, for the regions.
    `ask` finds out whether keys that not all regions know are still known. Both by our own keys, where workers may have
    others. Use under `running()`.
    """

    def __init__(
        self,
        crew: Crew,
        ledger: Ledger,
        hints: Hints,
        *,
        take: Callable[[Report], Awaitable[None]],
        held: Callable[[Account], Iterable[Held]],
        registries: Registries,
        ask: Callable[[Doubts], Awaitable[None]],
        wanted: Filter,
    ) -> None:
        self._crew = crew
        self._ledger = ledger
        self._hints = hints
        self._take = take
        self._held = held
        self._registries = registries
        self._ask = ask
        self._wanted = wanted
        self._numbers = count(1)
        self._slots = anyio.Semaphore(crew.at_once, fast_acquire=True)
        self._doubts: dict[str, Doubts] = {}  # of accounts in pieces: there are as few as large ones can be
        self.regions = Unmatched(wanted.regions)
        self.repositories = Unmatched(wanted.repositories)

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[Dispatch]:
        """Take reports while the body runs; also those that come when it is being stopped, each as a whole."""
        failure: Exception | None = None
        try:
            async with anyio.create_task_group() as self._takers:
                try:
                    yield self
                except Exception as error:  # noqa: BLE001  (raised again below: in the group it would stop the takers)
                    failure = error
        finally:
            await self._count([result for doubts in self._doubts.values() for result in doubts.settled()])
        if failure:
            raise failure

    async def accounts(self, accounts: Iterable[Account]) -> None:
        """See `Engine`."""
        waiting = deque(cut(tuple(accounts), self._hints, self._crew.workers))
        try:
            async with aclosing(take(waiting)) as groups:
                await for_each(self._group, groups, at_once=self._crew.at_once)
        finally:
            for group in waiting:
                await self._missed(map(_whole, group.accounts))

    async def organization(self, organization: Organization, selects: Callable[[Account], bool]) -> None:
        """See `Engine`."""
        waiting: list[Account] = []
        try:
            async with (
                aclosing(self._registries.members(organization)) as members,
                aclosing(_chosen(members, selects)) as chosen,
                aclosing(cut_listed(chosen, self._hints, self._crew.workers, waiting)) as groups,
            ):
                await for_each(self._group, groups, at_once=self._crew.at_once)
        except BaseException as error:
            if isinstance(error, CrawlError) and not isinstance(error, Fatal):
                await self._ledger.record(Result(Unit(), error.outcome, error.code, error.message))
                return
            # Who else is in it nobody knows.
            message = "the run stopped while the organization was listed"
            await self._ledger.record(Result(Unit(), Outcome.FAILED, INTERRUPTED, message))
            raise
        finally:
            await self._missed(map(_whole, waiting))

    async def _group(self, group: Group) -> None:
        """Have the accounts of a group crawled, in one shard or in several."""
        pieces = await self._in_pieces(group.accounts[0], group.pieces) if group.pieces > 1 else []
        await self._shards(pieces or [self._shard(group.accounts)])
        if pieces:
            doubts = self._doubts[group.accounts[0].account_id]
            await self._ask(doubts)
            await self._count(doubts.settled())
            self._ledger.totals.accounts += 1

    async def _shards(self, shards: Iterable[Shard]) -> None:
        waiting = deque(shards)
        try:
            async with aclosing(take(waiting)) as taken:
                await for_each(self._crawl, taken, at_once=self._slots)
        finally:
            for shard in waiting:
                await self._missed(self._units(shard))

    def _shard(self, accounts: tuple[Account, ...]) -> Shard:
        held = frozenset(held for account in accounts for held in self._held(account))
        return Shard(next(self._numbers), accounts, held, self._hints.part(accounts))

    async def _in_pieces(self, account: Account, pieces: int) -> list[Shard]:
        """The shards of a large account; none where there is nothing to cut, or its regions cannot be asked for."""
        try:
            regions = await self._registries.regions(account)
        except CrawlError:  # whoever crawls it asks again, and tells what is wrong
            return []
        except BaseException:
            await self._missed([_whole(account)])
            raise
        targets = self._wanted.targets(account, regions)
        held = frozenset(self._held(account))
        self._doubts[account.account_id] = Doubts(regions, targets, [each for each in targets if _held(each) in held])
        return [self._piece(account, regions, piece, held) for piece in deal(targets, self._hints, pieces)]

    def _piece(
        self, account: Account, regions: Mapping[str, bool], targets: Sequence[Target], held: AbstractSet[Held]
    ) -> Shard:
        """A shard of some targets of an account: of all that it has in their regions."""
        public = any(target.public for target in targets)
        private = {target.region: regions[target.region] for target in targets if not target.public}
        places = {(target.registry_id, target.region) for target in targets}
        held = frozenset(unit for unit in held if unit[1:3] in places)
        known = self._hints.part_of(targets)
        return Shard(next(self._numbers), (replace(account, public=public),), held, known, private)

    async def _crawl(self, shard: Shard) -> None:
        """Have a shard crawled, if need be by several workers one after the other."""
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
            await self._hand_in(shard, report).wait()
            return
        await self._given_up(shard)

    async def _end(self, shard: Shard) -> None:
        """Take what a shard has when the run is stopped."""
        report = None
        with anyio.move_on_after(LAST_REPORT, shield=True):
            report = await self._crew.stop(shard)
        if report:
            self._hand_in(shard, report)
        else:
            await self._missed(self._units(shard))

    def _hand_in(self, shard: Shard, report: Report) -> anyio.Event:
        """Begin to take a report; the event says that it was taken."""
        taken = anyio.Event()
        self._takers.start_soon(self._taken, shard, report, taken)
        return taken

    async def _taken(self, shard: Shard, report: Report, taken: anyio.Event) -> None:
        try:
            await self._take(report)
        except BaseException:  # none of it is OK, whatever its rows have come to
            await self._join(shard, report.unwritten())
            raise
        self._hints.learn(report.learned)
        self.regions.globs &= report.regions
        self.repositories.globs &= report.repositories
        for warning in report.warnings:
            self._ledger.warn(*warning)
        await self._join(shard, report)
        taken.set()

    async def _join(self, shard: Shard, report: Report) -> None:
        """Count in what was recorded of a shard; of a piece, what need not wait for the account's others."""
        if shard.regions is not None:
            report.totals.accounts = 0  # it ends with all of its pieces
            doubts = self._doubts[shard.accounts[0].account_id]
            if not report.totals.pages:  # nobody knew the keys here: no line but one for each target
                results = map(parse, report.lines.splitlines())
                await self._count([result for result in results if not doubts.holds(result)])
                return
            doubts.answered(self._targets(shard))
        await self._ledger.join(report.totals, report.lines, map(parse, report.left.splitlines()))

    async def _count(self, results: Sequence[Result]) -> None:
        """Count in what whoever crawled it has told already, to its log and its metrics."""
        summed = Ledger()
        for result in results:
            await summed.record(result)
        await self._ledger.join(summed.totals, b"".join(map(line, results)), results)

    async def _given_up(self, shard: Shard) -> None:
        message = (
            f"{LOSSES} workers in turn were killed while they had it: is memory short, or is one account too large?"
        )
        for unit in self._units(shard):
            await self._ledger.record(Result(unit, Outcome.FAILED, "WorkerLost", message))

    async def _missed(self, units: Iterable[Unit]) -> None:
        for unit in units:
            await self._ledger.record(Result.missed(unit))

    def _units(self, shard: Shard) -> Iterator[Unit]:
        """What is known of a shard before anybody has crawled it, and is not held."""
        if shard.regions is None:
            return map(_whole, shard.accounts)
        return map(Unit.of, self._targets(shard))

    def _targets(self, shard: Shard) -> list[Target]:
        """The targets of a piece, but for those that are held."""
        (account,) = shard.accounts
        targets = self._wanted.targets(account, shard.regions or ())
        return [target for target in targets if _held(target) not in shard.held]


def _whole(account: Account) -> Unit:
    return Unit(account, account.account_id)


def _held(target: Target) -> Held:
    return target.account.account_id, target.registry_id, target.region, None


async def _chosen(members: AsyncIterator[Account], selects: Callable[[Account], bool]) -> AsyncGenerator[Account]:
    async for member in members:
        if selects(member):
            yield member
