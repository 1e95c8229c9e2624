"""A run published in a store: who begins it, takes its rows, and says when it may be read."""

from __future__ import annotations

import gzip
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, cast

from crawler import __version__
from crawler.aws.buckets import buckets
from crawler.destination import AlreadyPublished, Learn, Take
from crawler.errors import Fatal, UsageError
from crawler.ledger import Ledger, fields
from crawler.local_files import discard, local_file, told
from crawler.model import Account, Outcome, Result, RowKind
from crawler.runs import layout
from crawler.runs.attempt import Published, begin, join, leave, living
from crawler.runs.catalog import Cleaned, clean
from crawler.runs.documents import Claim, Manifest
from crawler.runs.journal import Journal
from crawler.runs.publish import follow, merged, publish, require_parts
from crawler.runs.resuming import to_resume
from crawler.shard import Held, Report
from crawler.sinks import Sink
from crawler.sinks.encoding import SCHEMA_VERSIONS, Encoding
from crawler.sinks.formats import encoding_of
from crawler.sinks.parts import PartSink
from crawler.sinks.writer import Send, writing
from crawler.store import Store
from crawler.tables import Table, iceberg_table
from crawler.tables.commit import check, commit
from crawler.timeline import Timeline
from crawler.wording import counted


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be published, and where. `settings` are those that decide which rows the run has."""

    output: str
    format: str
    run_id: str | None
    resume: bool
    settings: Mapping[str, Any]
    rows: RowKind = RowKind.IDS
    iceberg: str | None = None
    delta: str | None = None
    publish_partial: bool = False


@asynccontextmanager
async def opened(output: str, *, writes: bool = True) -> AsyncGenerator[Store]:
    """The store that `DIR/` or `s3://bucket/prefix/` names. Raises `UsageError` or `Fatal` where it cannot be used."""
    if not output.startswith("s3://"):
        yield Store.local(output) if writes else Store.existing(output)
        return
    name, prefix = layout.place_in_bucket(output)
    async with buckets() as s3:
        yield Store.s3(await s3.find(name), prefix)


async def clean_store(output: str, older_than: timedelta) -> Cleaned:
    """Remove what no reader will ever read: see `runs.catalog.clean`; and on S3 uploads that nobody will end."""
    async with opened(output, writes=False) as store:  # a folder that is not there is a slip of the pen
        cleaned = await clean(store, older_than)
    if output.startswith("s3://"):
        name, prefix = layout.place_in_bucket(output)
        async with buckets() as s3:
            bucket = await s3.find(name)
            for folder in layout.FOLDERS:
                cleaned.uploads += await s3.abort_stale_uploads(bucket, prefix + folder, older_than)
    return cleaned


class Publication:
    """See `Destination`. Made by `publication`."""

    def __init__(
        self,
        store: Store,
        claim: Claim,
        journal: Journal,
        tables: Callable[[], Awaitable[Sequence[Table]]],
        *,
        rows: RowKind,
        publish_partial: bool,
    ) -> None:
        self.claim = claim
        self.run_id = claim.run
        self._rows = rows
        self._tables = tables
        self._publish_partial = publish_partial
        self.manifest: Manifest | None = None
        self.there = False
        self._store = store
        self._journal = journal
        self._encoding = cast("Encoding[object]", encoding_of(claim.format, claim.run, rows))
        self._ledger_file = local_file()

    def close(self) -> None:
        """Remove local files."""
        discard(self._ledger_file)
        self._journal.close()

    @asynccontextmanager
    async def taking(self, ledger: Ledger) -> AsyncGenerator[Sink]:  # noqa: ARG002  (its protocol's)
        """See `Destination`. Ends with `Fatal` once a newer attempt has the run."""
        sink = PartSink(self._encoding, self._journal)
        async with living(self._store, self.claim), sink.running():
            yield sink

    @asynccontextmanager
    async def gathering(self) -> AsyncGenerator[Take]:
        """See `Destination`. Ends with `Fatal` once a newer attempt has the run."""
        async with living(self._store, self.claim):
            yield self.accept

    async def accept(self, report: Report) -> None:
        """Rest on what a shard has committed."""
        if report.record:
            self._journal.accept(report.record, report.parts)

    def held(self, account: Account) -> Iterable[Held]:
        """See `Destination`."""
        return self._journal.held_of(account.account_id)

    @asynccontextmanager
    async def keeping(self) -> AsyncGenerator[Send]:
        """See `Destination`."""
        with ExitStack() as exits:
            compressed = gzip.GzipFile(fileobj=self._ledger_file, mode="wb", compresslevel=6, mtime=0)
            exits.callback(discard, compressed)

            def write(data: bytes) -> None:
                with told():
                    compressed.write(data)

            async with writing(write) as send:
                yield send
            with told():
                compressed.close()
                self._ledger_file.flush()

    async def recall(self, record: Callable[[Result], Awaitable[None]], learn: Learn) -> None:
        """See `Destination`."""
        try:
            await self._journal.recall(record, learn)
        except UsageError as unfit:  # a record that is damaged, or of a later program
            raise Fatal("RecordUnfit", str(unfit)) from unfit

    async def publish(self, status: str, ledger: Ledger, timeline: Timeline) -> None:
        """See `Destination`."""
        claim, journal = self.claim, self._journal
        path, timeline_path = layout.ledger(claim.run, claim.attempt), layout.timeline(claim.run, claim.attempt)
        async with living(self._store, claim):
            await require_parts(self._store, claim, journal.parts)
            parts = await merged(self._store, journal, self._encoding)
            self._ledger_file.seek(0)
            await self._store.put(path, self._ledger_file)
            await self._store.put(timeline_path, timeline.encode())
            self.manifest = Manifest(
                run=claim.run,
                status=status,
                date=claim.date,
                format=claim.format,
                schema_version=SCHEMA_VERSIONS[self._rows],
                started=claim.started,
                published=datetime.now(UTC).isoformat(timespec="seconds"),
                attempt=claim.attempt,
                rows=sum(part.rows for part in parts),
                missing=ledger.incomplete(),
                targets={str(outcome): ledger.totals.targets[outcome] for outcome in Outcome},
                repositories={str(outcome): ledger.totals.repositories[outcome] for outcome in Outcome},
                parts=parts,
                ledger=path,
                records=journal.records,
                settings=claim.settings,
                program=__version__,
                failures=[{**fields(failure.first), "units": failure.units} for failure in ledger.failures],
                timeline=timeline_path,
            )
            await publish(self._store, journal, self.manifest)
            self.there = True
            # Of several last shares more than one may come here: manifests of the same second are equal, which is no
            # conflict. Tables take a run once. Opened anew: the keys of before the crawl may end within the hour.
            await commit(self._store, self.manifest, await self._tables(), partial_too=self._publish_partial)

    def published(self) -> str:
        """See `Destination`."""
        if self.manifest is None:
            return ""
        return f"run {self.claim.run} is published in {self._store.uri}, {counted(len(self.manifest.parts), 'part')}"

    def left_behind(self) -> str:
        """See `Destination`."""
        if self.there:
            return f"run {self.claim.run} is published; the same command again adds it to tables that do not have it"
        return (
            f"run {self.claim.run} is not published; what was committed stays: go on with --run-id {self.claim.run}, "
            "or --resume"
        )


@asynccontextmanager
async def publication(order: Order) -> AsyncGenerator[Publication]:
    """Begin a run, or go on with one. Raises what `runs.attempt.begin` does, before anything was asked of AWS."""
    async with AsyncExitStack() as exits:
        if order.run_id:
            layout.check_run_id(order.run_id)
        store = await exits.enter_async_context(opened(order.output))
        tables = await _tables(order)
        await check(tables)
        run_id = order.run_id or layout.make_run_id(datetime.now(UTC))
        if order.resume:
            has = [table.has for table in tables]
            run_id = await to_resume(store, order.format, order.settings, has, partial_too=order.publish_partial)
        try:
            claim = await begin(store, run_id, order.format, order.settings)
        except Published as found:
            # What follows from the manifest may be missing yet, if whoever put it was killed.
            await follow(store, found.manifest)
            await commit(store, found.manifest, tables, partial_too=order.publish_partial)
            raise AlreadyPublished(run_id, store.uri, found.manifest.status) from found
        made = exits.enter_context(closing(_publication(store, claim, order)))
        try:
            yield made
        finally:
            if not made.there:  # else nobody asks any more
                await leave(store, claim)


@asynccontextmanager
async def joined(order: Order) -> AsyncGenerator[tuple[Store, Publication]]:
    """A run that several begin together: see `runs.attempt.join`."""
    if order.run_id is None:
        raise UsageError("--shard needs --run-id: the same for all shares of a run")
    layout.check_run_id(order.run_id)
    async with opened(order.output) as store:
        tables = await _tables(order)
        await check(tables)
        try:
            claim = await join(store, order.run_id, order.format, order.settings)
        except Published as found:
            await follow(store, found.manifest)
            await commit(store, found.manifest, tables, partial_too=order.publish_partial)
            raise AlreadyPublished(order.run_id, store.uri, found.manifest.status) from found
        with closing(_publication(store, claim, order)) as publication:
            yield store, publication


def _publication(store: Store, claim: Claim, order: Order) -> Publication:
    return Publication(
        store,
        claim,
        Journal(store, claim),
        partial(_tables, order),
        rows=order.rows,
        publish_partial=order.publish_partial,
    )


async def _tables(order: Order) -> list[Table]:
    if (order.iceberg or order.delta) and order.format != "parquet":
        raise UsageError(f"--format {order.format}: tables are made of parquet")
    tables: list[Table] = []
    if order.iceberg:
        tables.append(iceberg_table(order.iceberg, order.rows))
    if order.delta:
        from crawler.tables.delta import Delta  # noqa: PLC0415  (see `iceberg_table`)

        tables.append(Delta(order.delta, await delta_options(order.delta), order.rows))
    return tables


async def delta_options(uri: str) -> dict[str, str]:
    """What delta-rs must know to reach the bucket that we would."""
    if not uri.startswith("s3://"):
        return {}
    async with buckets() as s3:
        bucket = await s3.find(uri.removeprefix("s3://").partition("/")[0])
        keys = await bucket.credentials()
    options = {
        "AWS_ENDPOINT_URL": bucket.endpoint,
        "AWS_REGION": bucket.region,
        "AWS_ACCESS_KEY_ID": keys["access_key_id"],
        "AWS_SECRET_ACCESS_KEY": keys["secret_access_key"],
        "AWS_ALLOW_HTTP": str(bucket.endpoint.startswith("http://")).lower(),
        "conditional_put": "etag",
        **bucket.way(),
    }
    return options | ({"AWS_SESSION_TOKEN": keys["token"]} if keys["token"] else {})
