"""Runs into tables, once each."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from tempfile import NamedTemporaryFile

from anyio import to_thread

from crawler.local_files import discard, told
from crawler.runs.documents import Manifest
from crawler.store import Store
from crawler.tables import Table

logger = logging.getLogger(__name__)

# Who is stopped waits for no table: a commit that is under way happens whole or not at all, and the process ends.
_blocking = partial(to_thread.run_sync, abandon_on_cancel=True)


async def check(tables: Sequence[Table]) -> None:
    """Raise `Fatal` for a table that a run could not be added to."""
    for table in tables:
        await _blocking(table.check)


async def commit(store: Store, manifest: Manifest, tables: Sequence[Table], *, partial_too: bool) -> None:
    """Add a published run to each table that does not have it; one that is not complete only if `partial_too`."""
    if not manifest.complete and not partial_too:
        if tables:
            logger.warning("the run is %s: not added to tables without --publish-partial", manifest.status)
        return
    for table in tables:
        if await _blocking(table.has, manifest.run):
            logger.info("run %s is in the table already", manifest.run)
            continue
        await _add(store, manifest, table)


async def _add(store: Store, manifest: Manifest, table: Table) -> None:
    with ExitStack() as files:
        names: list[str] = []
        for part in manifest.parts:
            if store.folder or not table.copies:
                names.append(store.uri_of(part.path))
                continue
            with told():
                file = NamedTemporaryFile(suffix=".parquet")  # noqa: SIM115  (closed by `discard`)
                files.callback(discard, file)
                await store.fetch(part.path, file.file)
                file.flush()
            names.append(file.name)
        await _blocking(table.add, store, manifest, names)
