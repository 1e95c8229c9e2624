"""Which run `--resume` goes on with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from anyio import to_thread

from crawler.errors import UsageError
from crawler.runs import layout
from crawler.runs.attempt import differing
from crawler.runs.catalog import Listed, runs
from crawler.runs.documents import Manifest
from crawler.store import Store

Has = Callable[[str], bool]


async def to_resume(
    store: Store,
    format: str,  # noqa: A002  (the field's own word)
    settings: Mapping[str, Any],
    tables: Sequence[Has],
    *,
    partial_too: bool,
) -> str:
    """The id of the newest unfinished run that was begun with the same settings.

    Or of one that is newer and published, where what follows from that is missing, as after a crash: `tables` tell
    whether they have a run, and want one that is not complete only if `partial_too`. Raises `UsageError` if there is
    none, and tells which were begun with others.
    """
    unfinished: Listed | None = None
    published: Listed | None = None
    others: list[str] = []
    async with aclosing(runs(store)) as listed:
        async for run in listed:
            begun = run.manifest or run.claim
            if begun is None:
                continue
            if names := differing(begun, format, settings):
                others += [f"{run.run} was begun with another {names}"] * (run.manifest is None)
            elif run.manifest:
                published = _newer(published, run)
            else:
                unfinished = _newer(unfinished, run)
    if published and published.manifest and (not unfinished or unfinished.started <= published.started):
        wants = published.manifest.complete or partial_too
        if await _lacks_something(store, published.manifest, tables if wants else ()):
            return published.run
    if unfinished:
        return unfinished.run
    told = f" that was begun with the same: {'; '.join(others)}" if others else "; `crawler runs` lists all"
    raise UsageError(f"--resume: no unfinished run in {store.uri}{told}")


def _newer(one: Listed | None, other: Listed) -> Listed:
    return one if one and one.started > other.started else other


async def _lacks_something(store: Store, manifest: Manifest, tables: Sequence[Has]) -> bool:
    follows = [layout.symlink(manifest.run, manifest.date, manifest.format, manifest.kind)]
    if manifest.complete:
        follows.append(layout.success(manifest.run, manifest.date))
    for path in follows:
        if not await store.exists(path):
            return True
    for has in tables:
        if not await to_thread.run_sync(has, manifest.run, abandon_on_cancel=True):
            return True
    return False
