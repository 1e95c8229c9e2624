"""A published run read from its store, and its page written where it was wanted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anyio import to_thread

from crawler.comparison import readable, side
from crawler.diff import Side
from crawler.local_files import local_folder
from crawler.overview.figures import Figures, Run, figures
from crawler.overview.page import page
from crawler.publication import opened
from crawler.runs import layout
from crawler.runs.attempt import read_manifest
from crawler.runs.documents import Manifest, decode_timeline
from crawler.runs.publish import published
from crawler.sinks.output import Output
from crawler.store import Store
from crawler.timeline import Timeline

#: Runs that are looked at for one to compare with, before it is given up: each is a request.
_LOOKED_AT = 30


async def write_page(output: str, run_id: str, to: str, since: str | None) -> Figures:
    """Write the page of a run to the file `to` (`-`: standard output), which appears whole. Return what it says.

    It is compared with the run `since`, or with the one before it. Raises `UsageError` or `Fatal`.
    """
    async with opened(output, writes=False) as store:
        manifest = await published(store, run_id)
        before = await published(store, since) if since else await _run_before(store, manifest)
        # Not before the runs are known to be there: a misspelt one shall leave no file. Before all that takes long.
        with Output(to) as file, local_folder() as folder:
            timeline = await _timeline(store, manifest)
            sides = [await side(store, manifest, folder / "later")]
            if before:
                sides.append(await side(store, before, folder / "earlier"))

            def read(later: Side, earlier: Side | None = None) -> Figures:
                compared = Run(before, earlier) if before and earlier else None
                return figures(store.uri, Run(manifest, later), timeline, compared, folder)

            found = await to_thread.run_sync(readable, read, sides, folder)
            await to_thread.run_sync(file.write, await to_thread.run_sync(page, found))
            await to_thread.run_sync(file.publish)
    return found


async def _run_before(store: Store, manifest: Manifest) -> Manifest | None:
    """The run before this one, as ids sort (by date, as all ids do that are made up here), of the same selection.

    The accounts file may have changed, and the kind of rows: what both runs have listed is compared by image IDs.
    """
    earlier = [run_id for run_id in await store.folders(layout.RUNS) if run_id < manifest.run]
    for run_id in reversed(earlier[-_LOOKED_AT:]):
        found = await read_manifest(store, run_id)
        if found and found.started <= manifest.started and _filters(found) == _filters(manifest):
            return found
    return None


def _filters(manifest: Manifest) -> Mapping[str, Any]:
    chosen = {name: value for name, value in manifest.settings.items() if name not in ("accounts", "rows")}
    return {**chosen, "filters": manifest.filters}


async def _timeline(store: Store, manifest: Manifest) -> Timeline | None:
    """None for a run of an older program, and where somebody removed the file: the rest of the page does without."""
    data = await store.read(manifest.timeline) if manifest.timeline else None
    return decode_timeline(store.uri_of(manifest.timeline or ""), data) if data else None
