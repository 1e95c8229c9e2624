"""Two published runs fetched, compared, and what changed written where it was wanted."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Literal

from anyio import to_thread

from crawler.diff import Compared, Side, compare
from crawler.errors import UsageError
from crawler.publication import opened
from crawler.runs.documents import Manifest
from crawler.runs.publish import published
from crawler.sinks.output import Output
from crawler.store import Store

_BLOCK = 1 << 20


async def write_changes(
    output: str, earlier: str, later: str, to: str, output_format: Literal["ndjson", "parquet"]
) -> Compared:
    """Compare two runs of an output and write the changes to the file `to` (`-`: standard output), which appears whole.

    Parts in a bucket are copied to local files first, both runs' at a time. Raises `UsageError` or `Fatal`.
    """
    with Output(to) as file, tempfile.TemporaryDirectory() as folder:
        changes = Path(folder, "changes")
        async with opened(output, writes=False) as store:
            manifests = [await published(store, run_id) for run_id in (earlier, later)]
            _require_same_filters(*manifests)
            before = await side(store, manifests[0], Path(folder, "earlier"))
            after = await side(store, manifests[1], Path(folder, "later"))
            compared = await to_thread.run_sync(compare, before, after, changes, output_format)
        await to_thread.run_sync(_copy, changes, file)
    return compared


def _require_same_filters(earlier: Manifest, later: Manifest) -> None:
    """Raise `UsageError` for runs of which one left out images that the other has: those would read as changes."""
    for setting in ("tag_status", "image_status"):
        one, other = earlier.settings.get(setting), later.settings.get(setting)
        if one != other:
            option = f"--{setting.replace('_', '-')}"
            raise UsageError(
                f"diff: {earlier.run} was crawled with {option} {one}, {later.run} with {other}: what one of them left "
                "out would read as added or removed"
            )


async def side(store: Store, manifest: Manifest, folder: Path) -> Side:
    """A run as local files; those of a bucket are copied into `folder`, which is made."""
    folder.mkdir()  # noqa: ASYNC240  (of a temporary folder)
    names = [manifest.ledger, *(part.path for part in manifest.parts)]
    ledger, *parts = [await _local(store, name, folder) for name in names]
    return Side(parts, ledger, parquet=manifest.format == "parquet", kind=manifest.kind)


async def _local(store: Store, name: str, folder: Path) -> Path:
    if store.folder:
        return store.folder / name
    path = folder / name.rpartition("/")[2]
    with path.open("wb") as file:
        await store.fetch(name, file)
    return path


def _copy(changes: Path, file: Output) -> None:
    with changes.open("rb") as source:
        while block := source.read(_BLOCK):
            file.write(block)
    file.publish()
