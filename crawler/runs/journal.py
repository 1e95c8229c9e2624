"""What an attempt has committed, and what it need not crawl again."""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Awaitable, Callable, Generator, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import replace
from itertools import count

from crawler.errors import Fatal
from crawler.hints import Memory
from crawler.ledger import line
from crawler.local_files import unwritable
from crawler.model import Result, Target
from crawler.runs import layout
from crawler.runs.attempt import read_manifest, require_ours
from crawler.runs.documents import Claim, Record
from crawler.shard import Held
from crawler.sinks.parts import Part
from crawler.sinks.spool import PartFile
from crawler.store import Store

logger = logging.getLogger(__name__)


class Journal:
    """See `sinks.parts.Journal`. Call `recall` first.

    `records` and `parts` are all that this attempt rests on and has committed. Which units those hold is kept in a
    database without a name, in a temporary file: a run may have a million.
    """

    def __init__(self, store: Store, claim: Claim) -> None:
        self.claim = claim
        self.records: list[str] = []
        self.parts: list[Part] = []
        self._store = store
        self._part_numbers = count(1)
        self._record_numbers = count(1)
        with _told():
            self._held = sqlite3.connect("", isolation_level=None)
            self._held.execute("PRAGMA journal_mode = OFF")
            self._held.execute("CREATE TABLE held (unit BLOB PRIMARY KEY) WITHOUT ROWID")

    def close(self) -> None:
        """Remove the database."""
        self._held.close()

    async def recall(
        self,
        record: Callable[[Result], Awaitable[None]],
        learn: Callable[[Mapping[str, Memory]], None] = lambda _: None,
    ) -> None:
        """Read what earlier attempts have committed, and pass on each unit's result, and what shards have learned.

        A record without its parts counts no more: its units are crawled anew, and so are the targets they belong to,
        which later records may hold as a whole.
        """
        sizes = await self._sizes() if self.claim.base else {}
        open_again: set[bytes] = set()
        for path in self.claim.base:
            data = await self._store.read(path)
            where = self._store.uri_of(path)
            found = Record.decode(where, data or b"")
            results = found.results(where)
            if found.lost or await self._is_lost(path, found, sizes):
                open_again.update(_key_of(result, whole=True) for result in results)
                continue
            results = [result for result in results if result.unit.repository or _key_of(result) not in open_again]
            keys = [(_key_of(result),) for result in results]
            with _told():
                self._held.executemany("INSERT OR IGNORE INTO held VALUES (?)", keys)
            self.records.append(path)
            self.parts.extend(found.parts)
            learn(found.learned)
            for result in results:
                await record(result)

    async def _sizes(self) -> dict[str, int]:
        async with aclosing(self._store.list(layout.data(self.claim.run, self.claim.date))) as entries:
            return {entry.path: entry.size async for entry in entries}

    async def _is_lost(self, path: str, record: Record, sizes: Mapping[str, int]) -> bool:
        """Tell whether parts of a record are not there as they were, and if so mark it, for good."""
        lost = [part for part in record.parts if sizes.get(part.path) != part.bytes]
        if not lost:
            return False
        # Whoever publishes a run removes its small parts next.
        if await self._store.exists(layout.manifest(self.claim.run)):
            raise Fatal("PublishedElsewhere", f"run {self.claim.run}: another attempt has published it meanwhile")
        uri = self._store.uri_of(lost[0].path)
        logger.warning("%s: should be there, with %s bytes, and is not: crawled anew", uri, f"{lost[0].bytes:,}")
        # Before anything is committed in its place: should the part come back, its rows would be there twice.
        await self._store.put(path, replace(record, parts=(), lost=True).encode())
        return True

    def holds(self, target: Target, repository: str | None) -> bool:
        """See `sinks.parts.Journal`."""
        if not self.claim.base:
            return False
        key = _key(target.account.account_id, target.registry_id, target.region, repository)
        with _told():
            return self._held.execute("SELECT 1 FROM held WHERE unit = ?", (key,)).fetchone() is not None

    def held_of(self, account_id: str) -> Iterator[Held]:
        """What is held of an account; nothing below a target that is held as a whole."""
        if not self.claim.base:
            return
        first, last = f"{account_id} ".encode(), f"{account_id}!".encode()  # what follows the space
        whole: set[tuple[str, str]] = set()
        within = "SELECT unit FROM held WHERE unit >= ? AND unit < ? ORDER BY 1"
        with _told():
            keys: list[tuple[bytes]] = self._held.execute(within, (first, last)).fetchall()
        for (key,) in keys:
            _, registry_id, region, repository = key.decode("utf-8", "surrogatepass").split(" ", 3)
            if not repository:  # before its repositories, in the order of keys
                whole.add((registry_id, region))
            if not repository or (registry_id, region) not in whole:
                yield account_id, registry_id, region, repository or None

    def accept(self, record: str, parts: Sequence[Part]) -> None:
        """Rest on what was committed by somebody else, for this attempt."""
        self.records.append(record)
        self.parts.extend(parts)

    async def upload(self, file: PartFile) -> Part:
        """See `sinks.parts.Journal`. The name is this attempt's alone.

        Raises `Fatal` where a newer attempt has the run, and leaves nothing beside what that has published.
        """
        claim = self.claim
        path = layout.part(claim.run, claim.date, claim.attempt, next(self._part_numbers), file.suffix)
        await self._store.put(path, file.reader())
        try:
            await require_ours(self._store, claim)
        except Fatal:
            # Of several last shares each puts this part: it may be another's, and published.
            manifest = await read_manifest(self._store, claim.run)
            if manifest and path not in {part.path for part in manifest.parts}:
                await self._store.delete(path)
            raise
        return Part(path, file.rows, file.size, file.sha256)

    async def commit(self, parts: Sequence[Part], results: Sequence[Result]) -> None:
        """See `sinks.parts.Journal`."""
        claim = self.claim
        path = layout.record(claim.run, claim.attempt, next(self._record_numbers))
        await require_ours(self._store, claim)
        units = [line(result) for result in results]
        await self._store.create(path, Record(claim.run, claim.attempt, parts, units).encode())
        self.records.append(path)
        self.parts.extend(parts)


@contextmanager
def _told() -> Generator[None]:
    """Failures of the database as `Fatal`, in one line."""
    try:
        yield
    except sqlite3.Error as error:
        # Where it is, SQLite tells nobody; its own order of folders: https://www.sqlite.org/tempfiles.html#tempdir
        folder = os.environ.get("SQLITE_TMPDIR") or os.environ.get("TMPDIR")
        where = folder or "/var/tmp"  # noqa: S108  (to be named only)  # nosec B108
        raise unwritable(where, error) from error


def _key_of(result: Result, *, whole: bool = False) -> bytes:
    """The key of a unit; or of the `whole` target that it belongs to."""
    unit = result.unit
    repository = None if whole else unit.repository
    return _key(unit.account.account_id if unit.account else "", unit.registry_id, unit.region, repository)


def _key(account_id: str, registry_id: str | None, region: str | None, repository: str | None) -> bytes:
    # Bytes: text of SQLite cannot be a lone surrogate.
    return f"{account_id} {registry_id} {region} {repository or ''}".encode("utf-8", "surrogatepass")
