"""The runs of a store: which there are, how they stand, and what of them may go."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from anyio import to_thread

from crawler.errors import Fatal, UsageError
from crawler.runs import layout
from crawler.runs.attempt import lineage, lives, newest, read_manifest
from crawler.runs.documents import Claim, Manifest, Record
from crawler.runs.publish import tidy
from crawler.store import Store

#: What is younger may belong to an attempt that lives.
ORPHANED_AFTER = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Listed:
    """One run; without a manifest it is unfinished. `unfit` says why it cannot be read, empty if it can."""

    run: str
    claim: Claim | None = None
    manifest: Manifest | None = None
    unfit: str = ""

    @property
    def status(self) -> str:
        """`unfinished`, `unreadable`, or as in the report."""
        if self.unfit:
            return "unreadable"
        return self.manifest.status if self.manifest else "unfinished"

    @property
    def started(self) -> str:
        """ISO 8601, UTC; empty if nothing is known."""
        return self.manifest.started if self.manifest else self.claim.started if self.claim else ""

    def summary(self) -> dict[str, object]:
        """One line of `crawler runs`."""
        manifest, claim = self.manifest, self.claim
        begun = manifest or claim
        return {
            "run": self.run,
            "status": self.status,
            "startedAt": self.started,
            "publishedAt": manifest.published if manifest else None,
            "attempts": manifest.attempt if manifest else claim.attempt if claim else 0,
            "rows": manifest.rows if manifest else None,
            "missing": manifest.missing if manifest else None,
            "parts": len(manifest.parts) if manifest else None,
            "bytes": sum(part.bytes for part in manifest.parts) if manifest else None,
            "format": manifest.format if manifest else claim.format if claim else None,
            "rowKind": begun.settings.get("rows", "ids") if begun else None,
        }


async def runs(store: Store) -> AsyncGenerator[Listed]:
    """All runs, by id, also those that are damaged or of a newer program; consume under `aclosing`."""
    for run_id in await store.folders(layout.RUNS):
        try:
            found = await find(store, run_id)
        except UsageError as unfit:
            found = Listed(run_id, unfit=str(unfit))
        yield found


async def find(store: Store, run_id: str) -> Listed:
    """One run, as far as it is known. Raises `UsageError` for what is damaged, or of a newer program."""
    manifest = await read_manifest(store, run_id)
    return Listed(run_id, None if manifest else await newest(store, run_id), manifest)


@dataclass(slots=True)
class Cleaned:
    """What was removed; and why some runs were left alone, for they cannot be read."""

    parts: int = 0
    local: int = 0
    uploads: int = 0
    unfit: list[str] = field(default_factory=list[str])


async def clean(store: Store, older_than: timedelta = ORPHANED_AFTER) -> Cleaned:
    """Remove what no reader will ever read: parts that no manifest and no record that counts names, and half files.

    Parts of unfinished runs stay as long as a resume may rest on them; of their attempts' orphans go those that are
    old enough not to belong to a process that lives.
    """
    cleaned = Cleaned()
    async with aclosing(runs(store)) as listed:
        async for run in listed:
            if run.unfit:
                cleaned.unfit.append(run.unfit)
            elif run.manifest:
                cleaned.parts += await tidy(store, run.manifest)
            elif run.claim:
                try:
                    cleaned.parts += await _clean_unfinished(store, run.claim, older_than)
                except UsageError as unfit:  # a record
                    cleaned.unfit.append(str(unfit))
    cleaned.local = await to_thread.run_sync(_remove_unfinished, store, older_than)
    return cleaned


def _remove_unfinished(store: Store, older_than: timedelta) -> int:
    removed = 0
    try:
        for path in store.unfinished(layout.FOLDERS, older_than):
            path.unlink(missing_ok=True)
            removed += 1
    except OSError as error:
        raise Fatal("StoreFailed", f"{error.filename}: {error.strerror}; what is left may be cleaned again") from error
    return removed


async def _clean_unfinished(store: Store, claim: Claim, older_than: timedelta) -> int:
    named: set[str] = set()
    for path in await lineage(store, claim):
        record = Record.decode(store.uri_of(path), await store.read(path) or b"")
        named.update(part.path for part in record.parts)
    latest = datetime.now(UTC) - older_than
    async with aclosing(store.list(layout.data(claim.run, claim.date))) as entries:
        orphans = [entry.path async for entry in entries if entry.path not in named and entry.modified < latest]
    # Parts come before their record. Only where there are any: it may have to be watched.
    own = layout.parts_of(claim.run, claim.date, claim.attempt)
    if any(path.startswith(own) for path in orphans) and await lives(store, claim):
        orphans = [path for path in orphans if not path.startswith(own)]
    for path in orphans:
        await store.delete(path)
    return len(orphans)
