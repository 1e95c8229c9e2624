"""The whole story: accounts → targets → repositories → pages → rows, each step bounded, each unit with one outcome."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterable
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from functools import partial

import anyio

from crawler.doubts import Doubts
from crawler.errors import CrawlError, Fatal, NoRegion, Transient
from crawler.fanout import for_each, take
from crawler.governor import Governor, of_target
from crawler.hints import Hints, Memory
from crawler.ledger import Ledger, Running
from crawler.listing import list_parts
from crawler.model import (
    INTERRUPTED,
    Account,
    Chain,
    Fetch,
    Image,
    ItemT,
    Organization,
    Outcome,
    Part,
    Result,
    RowKind,
    Split,
    Target,
    Unit,
)
from crawler.pages import each_once
from crawler.registry import Registries, Registry
from crawler.retry import RetryPolicy, counted, retry
from crawler.sinks import Rows, Sink
from crawler.wanted import Filter, Unmatched


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of a crawl. Times in seconds.

    `targets_at_once` targets are open at a time, over all accounts, and as many accounts. Each has at most
    `requests_per_target` requests in flight, and twice as many repositories begun, so that one that waits to retry
    leaves its slot to another. `max_rps` is a ceiling for each target, None for none; an account's own wins.
    `rate_share` is the part of what AWS grants that is asked for; long repositories are listed in the parts of `split`.
    `target_seconds` are given to each target, and to finding those of an account.
    """

    targets_at_once: int = 32
    requests_per_target: int = 8
    max_rps: float | None = None
    rate_share: float = 1.0
    split: Split = Split.NO
    target_seconds: float = 6 * 3600.0
    restarts: int = 1


@dataclass(frozen=True, slots=True)
class _Open:
    """A target whose repositories are being crawled."""

    target: Target
    registry: Registry
    governor: Governor
    memory: Memory


@contextmanager
def _within(seconds: float) -> Generator[None]:
    with anyio.CancelScope(deadline=anyio.current_time() + seconds) as time:
        yield
    if time.cancelled_caught:
        raise Transient("TargetTimeout", f"not done within {seconds:g} s")


class Crawl:
    """One run over accounts. Call `run` once.

    Rows go to `sink`, the outcome of every unit to `ledger`. Only what no later unit could survive leaves as an
    exception: `Fatal`, a bug, or a cancellation; then too, every unit that was known has its line. `regions` and
    `repositories` tell which globs of `wanted` have matched none. What `hints` know to be long is begun first, and they
    learn what this run finds. `rows` is what the registries list, each by an operation with a rate of its own. Several
    crawls may share one bound of `targets`.
    """

    def __init__(
        self,
        registries: Registries,
        sink: Sink,
        ledger: Ledger,
        *,
        limits: Limits,
        policy: RetryPolicy,
        wanted: Filter,
        rows: RowKind = RowKind.IDS,
        hints: Hints | None = None,
        governors: Callable[..., tuple[Governor, Governor]] = of_target,
        targets: anyio.Semaphore | None = None,
    ) -> None:
        self._registries = registries
        self._sink = sink
        self._ledger = ledger
        self._limits = limits
        self._policy = policy
        self._wanted = wanted
        self._rows = rows
        self._hints = hints or Hints()
        self._governors = governors
        self.regions = Unmatched(wanted.regions)
        self.repositories = Unmatched(wanted.repositories)
        self._targets = targets or anyio.Semaphore(limits.targets_at_once, fast_acquire=True)

    async def accounts(self, accounts: Iterable[Account]) -> None:
        """Crawl these accounts."""
        waiting = deque(sorted(accounts, key=self._hints.seconds, reverse=True))
        try:
            async with aclosing(take(waiting)) as taken:
                await for_each(self._account, taken, at_once=self._limits.targets_at_once)
        finally:
            for account in waiting:
                await self._ledger.record(Result.missed(Unit(account, account.account_id)))

    async def organization(self, organization: Organization, selects: Callable[[Account], bool]) -> None:
        """Crawl the accounts of an organization that are selected, beginning while it is still being listed."""

        async def crawl_members(_: Chain) -> Outcome:
            async with (
                aclosing(self._registries.members(organization)) as members,
                aclosing(member async for member in members if selects(member)) as selected,
            ):
                await for_each(self._account, selected, at_once=self._limits.targets_at_once)
            return Outcome.OK

        result, error = await self._settle(Unit(), crawl_members)
        if error:
            await self._ledger.record(result)

    async def _account(self, account: Account) -> None:
        regions: dict[str, bool] = {}
        targets: list[Target] = []

        async def find_targets(_: Chain) -> Outcome:
            with _within(self._limits.target_seconds):
                regions.update(await self._registries.regions(account))
            targets.extend(self._wanted.targets(account, regions))
            self.regions.see((*regions, *(target.region for target in targets)))
            if not (regions or targets):
                raise NoRegion(account.regions)
            return Outcome.OK

        result, _ = await self._settle(Unit(account, account.account_id), find_targets)
        if result.outcome is Outcome.OK:
            longest_first = sorted(targets, key=self._hints.seconds_of, reverse=True)
            held, left = list[Target](), deque[Target]()
            for target in longest_first:
                (held if self._sink.holds(target) else left).append(target)
            await self._targets_of(left, Doubts(regions, targets, held))
        else:
            await self._ledger.record(result)
        self._ledger.totals.accounts += 1

    async def _targets_of(self, targets: deque[Target], doubts: Doubts) -> None:
        """Crawl the targets of one account, and tell its regions that are not enabled from keys that are wrong."""

        async def crawl_target(target: Target) -> None:
            result = await self._target(target)
            if not doubts.holds(result):
                await self._record_target(result)

        try:
            async with aclosing(take(targets)) as taken:
                await for_each(crawl_target, taken, at_once=self._targets)
            await doubts.ask(self._registries, self._policy)
        finally:
            for result in doubts.settled():
                await self._record_target(result)
            for target in targets:
                await self._ledger.record(Result.missed(Unit.of(target)))

    async def _record_target(self, result: Result) -> None:
        self._sink.target_ended(result)
        await self._ledger.record(result)

    async def _target(self, target: Target) -> Result:
        limits = self._limits
        known = self._hints.of(target)
        learned = known.copy()
        operations = target.asked(self._rows).operations
        listing, images = self._governors(
            slots=limits.requests_per_target,
            max_rps=target.account.max_rps or limits.max_rps,
            share=limits.rate_share,
            known=known.rates,
            operations=operations,
        )
        waiting: deque[str] = deque()

        async def names(fetch: Fetch[str], chain: Chain) -> AsyncGenerator[str]:
            async with aclosing(each_once(fetch, chain, str)) as found:
                async for new in found:
                    self.repositories.see(new)
                    # A chain is as long as it is: it shall not begin last, on whatever page its name will be.
                    long = known.long_repositories() if chain.pages == 1 else []
                    waiting.extend(
                        name
                        for name in (*long, *(name for name in new if name not in known.repositories))
                        if self._wanted.repository(target.account, name) and not self._sink.holds(target, name)
                    )
                    while waiting:
                        yield waiting.popleft()

        async def list_repositories(chain: Chain) -> Outcome:
            registry = await self._registries.open(target)
            crawl_repository = partial(self._repository, _Open(target, registry, images, learned))
            fetch = self._persistent(registry.repositories(), listing, chain)
            with _within(limits.target_seconds):
                async with aclosing(names(fetch, chain)) as wanted:
                    await for_each(crawl_repository, wanted, at_once=2 * limits.requests_per_target)
            return Outcome.OK if chain.items else Outcome.EMPTY

        whole = False
        try:
            result, error = await self._settle(Unit.of(target), list_repositories)
            whole = error is None
            return result
        finally:
            learned.learned(dict(zip(operations, (listing.pace.quota, images.pace.quota), strict=True)))
            self._hints.keep(target, learned, whole=whole)
            for name in waiting:
                await self._ledger.record(Result.missed(Unit.of(target, name)))

    async def _repository(self, at: _Open, name: str) -> None:
        long = self._limits.split is not Split.NO and name in at.memory.repositories
        parts = at.registry.parts(self._limits.split) if long else (None,)

        def begin(part: Part | None, chain: Chain) -> Fetch[Image]:
            return self._persistent(at.registry.images(name, part), at.governor, chain)

        async def list_images(rows: Rows, chain: Chain) -> Outcome:
            await list_parts(begin, parts, rows, chain, restarts=self._limits.restarts)
            return Outcome.OK if chain.items else Outcome.EMPTY

        with self._sink.repository(at.target, name) as rows:
            result, error = await self._settle(Unit.of(at.target, name), partial(list_images, rows))
            if error is None:
                rows.commit(result)
        at.memory.listed(name, result)
        await self._ledger.record(result)

    def _persistent(self, fetch: Fetch[ItemT], governor: Governor, chain: Chain) -> Fetch[ItemT]:
        return retry(governor.govern(counted(fetch, chain)), self._policy)

    async def _settle(
        self, unit: Unit, work: Callable[[Chain], Awaitable[Outcome]]
    ) -> tuple[Result, CrawlError | None]:
        """Do the work of one unit and tell how it ended; its error, if it had one, beside.

        What ends more than the unit (a cancellation, a `Fatal`, a bug) is recorded for it, and goes on.
        """
        chain = Chain()
        started = anyio.current_time()
        self._ledger.running[id(chain)] = Running(unit, chain, started)
        error: CrawlError | None = None

        def ended(outcome: Outcome, code: str | None = None, message: str | None = None) -> Result:
            return Result(unit, outcome, code, message, chain, anyio.current_time() - started)

        try:
            return ended(await work(chain)), None
        except Fatal as fatal:
            await self._ledger.record(ended(Outcome.FAILED, fatal.code, fatal.message))
            raise
        except CrawlError as failure:
            error = failure
        except BaseException:
            trouble = f"; its last request failed: {chain.trouble}" if chain.trouble else ""
            message = f"the run, or its target, stopped before it ended{trouble}"
            await self._ledger.record(ended(Outcome.FAILED, INTERRUPTED, message))
            raise
        finally:
            del self._ledger.running[id(chain)]
        # Only a repository can be gone. A target that says so has not been listed, and must not count as complete.
        gone_at_large = error.outcome is Outcome.GONE and unit.repository is None
        return ended(Outcome.FAILED if gone_at_large else error.outcome, error.code, error.message), error
