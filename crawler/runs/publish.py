"""From committed parts to a published run: small parts become large ones, then one file says what the run is."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import ExitStack, aclosing
from typing import IO

from anyio import to_thread

from crawler.errors import Fatal
from crawler.local_files import discard
from crawler.runs import layout
from crawler.runs.attempt import read_manifest, require_ours
from crawler.runs.documents import Claim, Manifest
from crawler.runs.journal import Journal
from crawler.sinks.encoding import Encoding
from crawler.sinks.parts import Part
from crawler.sinks.spool import PartFile
from crawler.store import Exists, Store

logger = logging.getLogger(__name__)

#: Parts that are smaller are merged, into parts that are not larger.
SMALL_BYTES, MERGED_BYTES = 64 << 20, 128 << 20

#: Parts merged into one, at most: each is an open file, and some systems allow a process a thousand.
MERGED_PARTS = 500


async def require_parts(store: Store, claim: Claim, parts: Sequence[Part]) -> None:
    """Raise `Fatal` unless all these parts are there, as long as they should be: somebody may have removed some."""
    async with aclosing(store.list(layout.data(claim.run, claim.date))) as entries:
        sizes = {entry.path: entry.size async for entry in entries}
    for part in parts:
        if sizes.get(part.path) != part.bytes:
            raise Fatal(
                "PartMissing",
                f"{store.uri_of(part.path)}: should be there, with {part.bytes:,} bytes, and is not: was it removed? "
                "Is --output the same place for all machines? Use another --run-id",
            )


async def merged(store: Store, journal: Journal, encoding: Encoding[object]) -> list[Part]:
    """The parts of the journal, the small ones among them made into larger ones. Those are left for `tidy`.

    Checkpoints end parts early, for a crash shall cost little; and readers pay for each file.
    """
    small = [part for part in journal.parts if part.bytes < SMALL_BYTES]
    parts = [part for part in journal.parts if part.bytes >= SMALL_BYTES]
    while small:
        group = [small.pop(0)]
        size = group[0].bytes
        while small and len(group) < MERGED_PARTS and size + small[0].bytes <= MERGED_BYTES:
            size += small[0].bytes
            group.append(small.pop(0))
        parts.append(await _merge(store, journal, encoding, group) if len(group) > 1 else group[0])
    return parts


async def _merge(store: Store, journal: Journal, encoding: Encoding[object], group: Sequence[Part]) -> Part:
    with ExitStack() as files:
        sources: list[IO[bytes]] = []
        for part in group:
            source = await store.opened(part.path)
            files.callback(discard, source)
            sources.append(source)
        file = files.enter_context(PartFile(encoding.suffix))
        file.rows = sum(part.rows for part in group)
        await to_thread.run_sync(file.merge, encoding, sources)
        await to_thread.run_sync(file.finish)
        return await journal.upload(file)


async def publish(store: Store, journal: Journal, manifest: Manifest) -> None:
    """Put the manifest, which is the moment; then what follows from it. Raises `Fatal` if another attempt was first."""
    await require_ours(store, journal.claim)
    try:
        await store.create(layout.manifest(manifest.run), manifest.encode())
    except Exists:
        raise Fatal(
            "PublishedElsewhere", f"run {manifest.run}: another attempt has published it; ours stays unread"
        ) from None
    await follow(store, manifest)


async def follow(store: Store, manifest: Manifest) -> None:
    """Write what follows from a manifest. Done again after a crash it is the same again."""
    uris = [_hadoop(store.uri_of(part.path)) for part in manifest.parts]
    symlink = layout.symlink(manifest.run, manifest.date, manifest.format, manifest.kind)
    await store.put(symlink, "".join(f"{uri}\n" for uri in uris).encode())
    # First what nobody may read any more: who waits for _SUCCESS may then read all that lies beside it.
    await tidy(store, manifest)
    if manifest.complete:
        await store.put(layout.success(manifest.run, manifest.date), b"")


def _hadoop(uri: str) -> str:
    # Not Path.as_uri(): Hadoop takes what stands after file:// as it is, and would look for %3D.
    return uri if "://" in uri else f"file://{uri}"


async def tidy(store: Store, manifest: Manifest) -> int:
    """Remove parts that a published run does not name; return how many."""
    named = {part.path for part in manifest.parts} | {layout.success(manifest.run, manifest.date)}
    orphans = [path for path in await store.names(layout.data(manifest.run, manifest.date)) if path not in named]
    for path in orphans:
        await store.delete(path)
    return len(orphans)


async def published(store: Store, run_id: str) -> Manifest:
    """The manifest of a run that must be there. Raises `Fatal`, or `UsageError` for what can be no run's id."""
    layout.check_run_id(run_id, "run")
    manifest = await read_manifest(store, run_id)
    if manifest is None:
        listed = f"`crawler runs --output {store.uri}` lists those that are"
        raise Fatal("NotPublished", f"run {run_id} is not published in {store.uri}: {listed}")
    return manifest
