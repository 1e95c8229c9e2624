"""One of n processes that share a run and know nothing of each other: an array job, a distributed map.

Each crawls its own accounts and commits them in one record. Whoever finds all n records there publishes the run.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import replace
from math import inf
from typing import Any

from crawler.destination import AlreadyPublished, Learn, Take
from crawler.errors import Fatal
from crawler.hints_file import HintsFile
from crawler.ledger import Ledger, Totals, line, nothing_matches, parse
from crawler.model import Account, Outcome, Result, RowKind
from crawler.publication import Order, Publication, joined
from crawler.runs import layout
from crawler.runs.attempt import living, read_manifest
from crawler.runs.documents import Claim
from crawler.runs.shards import ShardJournal, read_report
from crawler.shard import Held, Report
from crawler.sinks import Sink
from crawler.sinks.formats import encoding_of
from crawler.sinks.parts import PartSink, Sizes
from crawler.sinks.writer import Send, writing
from crawler.store import Store
from crawler.timeline import RATES_KEPT, Timeline
from crawler.wanted import told_unmatched


class AlreadyCommitted(AlreadyPublished):
    """This share of the run is there."""

    def __init__(self, said: str, status: str) -> None:
        Exception.__init__(self, said)
        self.status = status


class SharedPublication:
    """See `Destination`: of one `share` of so many. Made by `shared_publication`."""

    def __init__(
        self,
        store: Store,
        publication: Publication,
        hints: HintsFile,
        *,
        rows: RowKind,
        share: tuple[int, int],
        tolerated: AbstractSet[Outcome],
    ) -> None:
        self.run_id = publication.run_id
        self.claim: Claim = publication.claim
        self._store = store
        self._publication = publication
        self._hints = hints
        self._rows = rows
        self._number, self._shares = share
        self._tolerated = tolerated
        self._journal = ShardJournal(store, self.claim, self._number, ())
        self._said = ""

    def close(self) -> None:
        """Remove local files."""
        self._journal.close()

    @asynccontextmanager
    async def taking(self, ledger: Ledger) -> AsyncGenerator[Sink]:  # noqa: ARG002  (its protocol's)
        """See `Destination`."""
        encoding = encoding_of(self.claim.format, self.claim.run, self._rows)
        sink: PartSink[Any] = PartSink(encoding, self._journal, replace(Sizes(), seconds=float("inf"), share=0.0))
        async with living(self._store, self.claim), sink.running():
            yield sink

    @asynccontextmanager
    async def keeping(self) -> AsyncGenerator[Send]:
        """See `Destination`."""
        async with writing(self._journal.tell, linger=inf) as send:
            yield send

    def gathering(self) -> AbstractAsyncContextManager[Take]:
        """See `Destination`. Never asked for: a share is crawled by one process."""
        raise NotImplementedError

    def held(self, account: Account) -> Iterable[Held]:  # noqa: ARG002  (its protocol's)
        """See `Destination`. A share is there as a whole, or not at all."""
        return ()

    async def recall(self, record: Callable[[Result], Awaitable[None]], learn: Learn) -> None:
        """See `Destination`."""

    async def publish(self, status: str, ledger: Ledger, timeline: Timeline) -> None:  # noqa: ARG002  (its protocol's)
        """See `Destination`. Commits the share; and the run, if all others are there."""
        report = Report(self._number, b"", b"", ledger.totals)
        report.regions, report.repositories = map(frozenset, ledger.unmatched)
        report.learned = self._hints.hints.learned
        report.warnings = [(message, where) for message, places in ledger.warnings.items() for where in places]
        await self._journal.seal(report)
        await self.conclude()

    async def conclude(self) -> None:
        """Publish the run if all of its shares are there, and say how it stands."""
        there = set(await self._store.names(layout.records(self.run_id)))
        paths = [layout.record(self.run_id, self.claim.attempt, number) for number in range(1, self._shares + 1)]
        done = sum(path in there for path in paths)
        self._said = f"share {self._number} of run {self.run_id} is committed; {done} of {self._shares} are"
        if done < self._shares:
            return
        try:
            await self._publish(paths)
        except Fatal:
            # Two that end last may both publish, and one of them may find its parts tidied away by the other.
            if not await self._published_elsewhere():
                raise
        self._said = f"run {self.run_id} is published in {self._store.uri}: all of its {self._shares} shares are there"

    async def _published_elsewhere(self) -> bool:
        """Whether the manifest is another's, who then tells of what follows from it, as the tables."""
        there, ours = await read_manifest(self._store, self.run_id), self._publication.manifest
        return there is not None and (ours is None or there.encode() != ours.encode())

    async def _publish(self, paths: Iterable[str]) -> None:
        ledger = Ledger()
        async with self._publication.keeping() as send:
            ledger.sends = [send]
            await self._gather(paths, ledger)
        # Without intervals: those of this share are not the run's, and the others have told none.
        timeline = Timeline(rates=self._hints.hints.slowest(RATES_KEPT))
        await self._publication.publish(status_of(ledger, self._tolerated), ledger, timeline)
        totals = ledger.totals
        await self._hints.publish(totals.pages, totals.repositories.total(), totals.rows)

    async def _gather(self, paths: Iterable[str], ledger: Ledger) -> None:
        """Count in what all shares have. Raises `Fatal` where none of them has found what was asked for."""
        asked: Mapping[str, Sequence[str]] = self.claim.settings
        regions, repositories = set(asked["region"]), set(asked["repository"])
        told: set[bytes] = set()
        for number, path in enumerate(paths, 1):
            report = await read_report(self._store, path, number, told)
            # Of the organization as a whole each share says the same.
            told.update(line(result) for result in map(parse, report.left.splitlines()) if not result.unit.account)
            await self._publication.accept(report)
            self._hints.hints.learn(report.learned)
            regions &= report.regions
            repositories &= report.repositories
            for warning in report.warnings:
                ledger.warn(*warning)
            # Not `report.lines`, which is a copy.
            await ledger.join(report.totals, report.units, ())
            await ledger.join(Totals(), report.left, map(parse, report.left.splitlines()))
        if nothing := nothing_matches(asked, ledger.totals):
            raise Fatal("NothingMatches", f"{nothing}: no share has found any, and run {self.run_id} is not published")
        for warning in told_unmatched(asked, regions, repositories):
            ledger.warn(*warning)

    def published(self) -> str:
        """See `Destination`."""
        return self._said

    def left_behind(self) -> str:
        """See `Destination`."""
        return f"nothing of share {self._number} of run {self.run_id} is committed: give the same command again"


def status_of(ledger: Ledger, tolerated: AbstractSet[Outcome]) -> str:
    """How a run stands, as in the report."""
    if ledger.incomplete(tolerated):
        return "incomplete"
    return "tolerated" if ledger.incomplete() else "complete"


@asynccontextmanager
async def shared_publication(
    order: Order, share: tuple[int, int], plan: str, hints: HintsFile, tolerated: AbstractSet[Outcome]
) -> AsyncGenerator[SharedPublication]:
    """Begin the run, or join those who are at it. `plan` says who crawls what: it must be the same for all.

    Whoever publishes the run leaves what all shares have learned in `hints`.
    Raises `AlreadyPublished` for a run, and for a share, that is there; and what `runs.attempt.join` does.
    """
    settings: Mapping[str, Any] = {**order.settings, "shard": plan}
    async with AsyncExitStack() as exits:
        store, publication = await exits.enter_async_context(joined(replace(order, settings=settings)))
        shared = SharedPublication(store, publication, hints, rows=order.rows, share=share, tolerated=tolerated)
        exits.callback(shared.close)
        path = layout.record(shared.run_id, shared.claim.attempt, share[0])
        if await store.exists(path):
            report = await read_report(store, path, share[0])
            ledger = Ledger()
            await ledger.join(report.totals, b"", ())
            await shared.conclude()
            raise AlreadyCommitted(f"{shared.published()}; nothing was crawled", status_of(ledger, tolerated))
        yield shared
