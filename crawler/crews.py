"""Who crawls, as the settings say: this process, or several."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import anyio

from crawler import log_context
from crawler.crawl import Crawl
from crawler.cutting import SHARES, Shares, pieces_of, size_of
from crawler.destination import Destination
from crawler.doubts import Doubts
from crawler.engines import Crew, Engine
from crawler.engines.dispatch import Dispatch
from crawler.engines.processes import FAREWELL, Processes, Pulse
from crawler.hints import Hints
from crawler.ledger import Running
from crawler.model import Account, Organization, Unit
from crawler.settings import Settings
from crawler.shard_crawl import Assignment, crawl_alone
from crawler.timeline import Watch
from crawler.wiring import registries_of

if TYPE_CHECKING:
    from crawler.telemetry import Telemetry

#: Shards that one worker has at a time, at least; and at most, where each may hold a row group of a part in memory.
_FEWEST, _MOST = 2, 8


def reach_machines(settings: Settings) -> None:
    """Raise `UsageError` where the machines that the settings name cannot be reached."""
    if settings.engine:
        from crawler.engines.ray_tasks import reach  # noqa: PLC0415  (its library is an extra, and heavy)

        reach(settings.address)


@asynccontextmanager
async def machines_of(settings: Settings) -> AsyncGenerator[None]:
    """Have the machines that the settings name while the body runs. Raises `UsageError` where that cannot be."""
    if settings.engine is None:
        yield
        return
    from crawler.engines.ray_tasks import connected  # noqa: PLC0415  (its library is an extra, and heavy)

    # Not in a thread: Ray listens to signals. Use it before others do, who then have them.
    with connected(settings.address):
        yield


@asynccontextmanager
async def engine_of(
    settings: Settings,
    destination: Destination,
    *,
    accounts: int,
    watch: Watch,
    hints: Hints,
    telemetry: Telemetry | None,
) -> AsyncGenerator[Engine]:
    """The engine that the settings ask for, at work. `accounts` is how many there are, 0 if that is not known yet."""
    ledger = watch.ledger
    if settings.workers is None and settings.engine is None:
        async with destination.taking(ledger) as sink, registries_of(settings, ledger.warn) as registries:
            named = log_context.watch(registries)
            crawl = Crawl(
                telemetry.watch(named) if telemetry else named,
                sink,
                ledger,
                limits=settings.limits(),
                policy=settings.policy(),
                wanted=settings.filter(),
                rows=settings.rows,
                hints=hints,
                governors=watch.paces.governors,
            )
            yield _Share(crawl, *settings.share, hints) if settings.share else crawl
        return
    async with (
        destination.gathering() as take,
        registries_of(settings, ledger.warn) as registries,
        _crew(settings, accounts, destination, watch, telemetry) as crew,
        Dispatch(
            crew,
            ledger,
            hints,
            take=take,
            held=destination.held,
            registries=(named := log_context.watch(registries)),
            ask=partial(Doubts.ask, registries=named, policy=settings.policy()),
            wanted=settings.filter(),
        ).running() as dispatch,
    ):
        yield dispatch


class _Share:
    """An engine that crawls one share of the accounts."""

    def __init__(self, engine: Engine, number: int, shares: int, hints: Hints) -> None:
        self._engine = engine
        self._number = number
        self._shares = Shares(shares, hints)
        self.regions, self.repositories = engine.regions, engine.repositories

    async def accounts(self, accounts: Iterable[Account]) -> None:
        """See `Engine`."""
        await self._engine.accounts(account for account in accounts if self._ours(account))

    async def organization(self, organization: Organization, selects: Callable[[Account], bool]) -> None:
        """See `Engine`."""
        # `selects` first: it takes note of what was selected, whoever crawls it.
        await self._engine.organization(organization, lambda account: selects(account) and self._ours(account))

    def _ours(self, account: Account) -> bool:
        return self._shares.of(account) == self._number


def _crew(
    settings: Settings, accounts: int, destination: Destination, watch: Watch, telemetry: Telemetry | None
) -> AbstractAsyncContextManager[Crew]:
    log = (settings.log_format, settings.verbose)
    workers = settings.workers
    if workers is None:
        from crawler.engines.ray_tasks import Cluster  # noqa: PLC0415  (its library is an extra, and heavy)

        return Cluster(crawl_alone, Assignment(settings, destination.run_id, destination.claim, log)).running()

    def pulse(worker: str, told: Pulse | None) -> None:
        if told is None:
            watch.elsewhere.pop(worker, None)
            if running := watch.ledger.running.pop(worker, None):
                watch.lost.append(running.chain)
        else:
            watch.ledger.running[worker] = Running(Unit(), told.chain, anyio.current_time())
            watch.elsewhere[worker] = told.rates

    each = shards_of_each(settings.targets_at_once, accounts, workers, _MOST if settings.publishes else None)
    traceparent, farewell = None, FAREWELL
    if telemetry:
        traceparent, farewell = telemetry.traceparent, FAREWELL + telemetry.last_seconds
    assignment = Assignment(settings, destination.run_id, destination.claim, log, traceparent)
    return Processes(assignment, workers=workers, each=each, pulse=pulse, farewell=farewell).running()


def shards_of_each(targets_at_once: int, accounts: int, workers: int, most: int | None) -> int:
    """How many shards a worker has at a time: enough to keep it busy, and few enough for others to take over.

    `accounts` is 0 where it is not known; `most` is a bound for other reasons.
    """
    size = size_of(accounts, workers)
    to_be_busy = -(-targets_at_once // size)
    # Of few accounts each is cut by region: how many shards that makes is not known before.
    cut = not accounts or pieces_of(1 / accounts, workers) > 1
    shards = workers * SHARES if cut else -(-accounts // size)
    # Half of what a worker is to have: less would be rounds that wait for nothing but latency.
    to_be_fair = -(-shards // (2 * workers)) if workers > 1 else shards
    return max(_FEWEST, min(to_be_busy, to_be_fair, most or to_be_busy))
