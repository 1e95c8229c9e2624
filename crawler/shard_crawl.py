"""The one function that crawls a shard, wherever that is: a `Crawl` with the registries and the sinks of every run."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncGenerator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from math import inf
from typing import TYPE_CHECKING, Protocol

import anyio
from anyio import to_thread

from crawler import log_context, logs
from crawler.crawl import Crawl
from crawler.descriptors import raise_descriptors
from crawler.errors import Fatal, UsageError
from crawler.hints import Hints
from crawler.ledger import Ledger, line
from crawler.local_files import discard, local_file, told
from crawler.model import COMPLETE, Account, Chain, Result, RowKind
from crawler.registry import Registries
from crawler.rehearsal import Narrowed
from crawler.settings import Settings
from crawler.shard import Report, Shard
from crawler.sinks import Sink
from crawler.sinks.memory import Memory
from crawler.sinks.ndjson import NdjsonSink
from crawler.sinks.writer import writing
from crawler.timeline import Paces
from crawler.verdict import fatal
from crawler.wiring import registries_of

if TYPE_CHECKING:
    from crawler.runs.documents import Claim
    from crawler.store import Store
    from crawler.telemetry import Telemetry


@dataclass(frozen=True, slots=True)
class Assignment:
    """What whoever crawls shards must know, whatever the shard. It holds no keys: each finds its own.

    Under `claim` the shards of a run are committed; without one, their rows go to a stream. `log` are format and
    verbosity, `traceparent` is the run in its trace.
    """

    settings: Settings
    run_id: str
    claim: Claim | None
    log: tuple[logs.LogFormat, int]
    traceparent: str | None = None


class _Place(Protocol):
    """Where rows and ledger of one shard go. `finish` says so in the report, once `taking` has ended."""

    def taking(self) -> AbstractAsyncContextManager[Sink]: ...

    def tell(self, result: Result) -> None: ...

    async def finish(self, report: Report) -> Report: ...

    def discard(self) -> None: ...


class Workplace:
    """Where shards are crawled: one pool of connections and one set of identities. Made by `workplace`."""

    def __init__(self, assignment: Assignment, registries: Registries, store: Store | None) -> None:
        self.warnings: list[tuple[str, str]] = []
        self._assignment = assignment
        self._registries = registries
        self._store = store
        self._targets = anyio.Semaphore(assignment.settings.targets_at_once, fast_acquire=True)
        self._ledgers: list[Ledger] = []
        self._memory = Memory()
        self.paces = Paces()
        self.telemetry: Telemetry | None = None

    async def crawl_shard(self, shard: Shard, work: anyio.CancelScope) -> Report:
        """Crawl the shard; where `work` is cancelled, what came of it until then.

        Raises `Fatal` for what no other shard would survive either.
        """
        settings, place = self._assignment.settings, self._place(shard)
        known = self._registries if shard.regions is None else _Found(self._registries, shard.regions)
        telemetry, named = self.telemetry, log_context.watch(known)

        def tell(result: Result) -> None:
            place.tell(result)
            if telemetry:
                telemetry.record(result)

        ledger = Ledger(tell=tell)
        hints = Hints.of_part(shard.known, settings.rows)
        self._ledgers.append(ledger)
        try:
            async with place.taking() as sink:
                crawl = Crawl(
                    telemetry.watch(named) if telemetry else named,
                    sink,
                    ledger,
                    limits=settings.limits(),
                    policy=settings.policy(),
                    wanted=settings.filter(),
                    rows=settings.rows,
                    hints=hints,
                    governors=self.paces.governors,
                    targets=self._targets,
                )
                with work:
                    await crawl.accounts(shard.accounts)
            report = Report(shard.number, b"", b"", ledger.totals)
            report.regions, report.repositories = frozenset(crawl.regions.globs), frozenset(crawl.repositories.globs)
            report.warnings, self.warnings[:] = tuple(self.warnings), ()
            report.learned = hints.learned
            return await place.finish(report)
        except BaseException:
            place.discard()
            raise
        finally:
            self._ledgers.remove(ledger)

    def _place(self, shard: Shard) -> _Place:
        assignment = self._assignment
        if self._store is None or assignment.claim is None:
            return _File(assignment.settings.rows)
        return _Parts(self._store, assignment.claim, shard, assignment.settings.rows, self._memory)

    def under_way(self) -> Chain:
        """Sums of the shards that have not ended."""
        sums = Chain()
        for ledger in self._ledgers:
            running = list(ledger.under_way())
            sums.pages += ledger.totals.pages + sum(chain.pages for chain in running)
            sums.items += ledger.totals.rows
            sums.attempts += ledger.totals.requests + sum(chain.attempts for chain in running)
            sums.throttled += ledger.totals.throttled + sum(chain.throttled for chain in running)
        return sums


class _Found(Narrowed):
    """`Registries` of an account whose regions were asked for before."""

    def __init__(self, behind: Registries, regions: Mapping[str, bool]) -> None:
        super().__init__(behind, lambda _, registry: registry)
        self._regions = regions

    async def regions(self, account: Account) -> Mapping[str, bool]:  # noqa: ARG002  (its protocol's)
        """See `Registries`."""
        return self._regions


@asynccontextmanager
async def workplace(assignment: Assignment) -> AsyncGenerator[Workplace]:
    """Open what all shards need. Raises `Fatal` or `UsageError` where the run's store cannot be used from here."""
    warnings: list[tuple[str, str]] = []
    async with AsyncExitStack() as exits:
        store = None
        if assignment.claim is not None:
            from crawler.publication import opened  # noqa: PLC0415  (its libraries are an extra, and heavy)
            from crawler.runs import layout  # noqa: PLC0415  (its libraries are an extra)

            store = await exits.enter_async_context(opened(assignment.settings.output))
            if not await store.exists(layout.claim(assignment.claim.run, assignment.claim.attempt)):
                raise Fatal(
                    "OutputNotShared",
                    f"{store.uri}: run {assignment.claim.run} is not there, as seen from where its shards are crawled: "
                    "name an --output that all machines share, s3://… or a folder by its whole path",
                )
        registries = await exits.enter_async_context(
            registries_of(assignment.settings, lambda message, where: warnings.append((message, where)))
        )
        log_context.begin(assignment.run_id)
        place = Workplace(assignment, registries, store)
        place.warnings = warnings
        if assignment.settings.otel:
            from crawler.telemetry import otlp  # noqa: PLC0415  (its libraries are an extra)

            place.telemetry = otlp(assignment.settings.rows.operations, assignment.traceparent)
            exits.push_async_callback(partial(to_thread.run_sync, place.telemetry.close, abandon_on_cancel=True))
        yield place


def crawl_alone(assignment: Assignment, shard: Shard) -> Report | Fatal:
    """Crawl one shard in a process that has nothing else to do; after SIGINT, return what came of it until then.

    What no shard would survive is returned as it is.
    """
    os.umask(0o077)  # a cluster's processes have that of whoever has started it; see `cli.main`
    raise_descriptors()
    logs.configure(*assignment.log)

    async def main() -> Report:
        work = anyio.CancelScope()
        async with workplace(assignment) as place, _interrupted(work):
            return await place.crawl_shard(shard, work)

    try:
        return anyio.run(main, backend_options={"use_uvloop": find_spec("uvloop") is not None})
    except (Exception, BaseExceptionGroup) as error:
        if failure := told_as(error):
            return failure
        raise


@asynccontextmanager
async def _interrupted(work: anyio.CancelScope) -> AsyncGenerator[None]:
    """Cancel the work at SIGINT, which ends no more than that while the body runs."""

    async def listen() -> None:
        async for _ in signals:
            work.cancel()

    with anyio.open_signal_receiver(signal.SIGINT) as signals:
        async with anyio.create_task_group() as group:
            group.start_soon(listen)
            yield
            group.cancel_scope.cancel()


def told_as(error: BaseException) -> Fatal | None:
    """What a worker tells of an error that ends it, None if it is a bug."""
    return Fatal("WorkerFailed", str(error)) if isinstance(error, UsageError) else fatal(error)


class _File:
    """Rows for a stream: in a local file without a name, since a shard that is lost must leave none behind."""

    def __init__(self, rows: RowKind) -> None:
        self._rows = rows
        self._file = local_file()
        # Lines, too: each `Result` takes a kilobyte.
        self._whole, self._left = local_file(), local_file()

    @asynccontextmanager
    async def taking(self) -> AsyncGenerator[Sink]:
        def write(data: bytes) -> None:
            with told():
                self._file.write(data)

        # Nobody reads it before its end: a batch may wait until it is full.
        async with writing(write, linger=inf) as send:
            yield NdjsonSink(send, self._rows)

    def tell(self, result: Result) -> None:
        with told():
            (self._whole if result.outcome in COMPLETE else self._left).write(line(result))

    async def finish(self, report: Report) -> Report:
        with told(), self._whole as whole, self._left as left:
            self._file.flush()
            whole.seek(0)
            left.seek(0)
            report.units, report.left = whole.read(), left.read()
        report.rows = self._file
        return report

    def discard(self) -> None:
        for file in (self._file, self._whole, self._left):
            discard(file)


class _Parts:
    """Rows for a store, in parts that count once the record of the shard is there."""

    def __init__(self, store: Store, claim: Claim, shard: Shard, rows: RowKind, memory: Memory) -> None:
        from crawler.runs.shards import ShardJournal  # noqa: PLC0415  (their libraries are an extra, and heavy)
        from crawler.sinks.formats import encoding_of  # noqa: PLC0415  (its libraries are an extra)
        from crawler.sinks.parts import PartSink, Sizes  # noqa: PLC0415  (its libraries are an extra)

        # A part ends when it is full, and not before: nothing of it counts until all of the shard does.
        sizes = Sizes(seconds=inf, share=0.0)
        self._journal = ShardJournal(store, claim, shard.number, shard.held)
        self._sink = PartSink(encoding_of(claim.format, claim.run, rows), self._journal, sizes, memory)

    @asynccontextmanager
    async def taking(self) -> AsyncGenerator[Sink]:
        async with self._sink.running():
            yield self._sink

    def tell(self, result: Result) -> None:
        self._journal.tell(line(result))

    async def finish(self, report: Report) -> Report:
        with closing(self._journal):
            sealed = await self._journal.seal(report)
            if sealed is report:
                report.units = self._journal.units()
            return sealed

    def discard(self) -> None:
        # Its parts are named by no record: `crawler clean`, or the publication, removes them.
        self._journal.close()
