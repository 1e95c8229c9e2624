"""What a shard commits: its parts under names that nobody else uses, and one record, which only one can create."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import closing
from dataclasses import asdict
from hashlib import blake2b
from io import BytesIO
from itertools import count
from shutil import copyfileobj
from typing import Any

from crawler.errors import Fatal, UsageError
from crawler.ledger import Ledger, line, parse
from crawler.local_files import discard, local_file, told
from crawler.model import Result, Target
from crawler.runs import layout
from crawler.runs.attempt import require_ours
from crawler.runs.documents import Claim, Record
from crawler.shard import Held, Report
from crawler.sinks.parts import Part
from crawler.sinks.spool import PartFile
from crawler.store import Exists, Store


class ShardJournal:
    """See `sinks.parts.Journal`. What it was told to commit counts once `seal` has put the record of the shard.

    Not a record for each checkpoint, as one process has them: whoever was held for lost may still be at work, and then
    two would each have committed a half. Lines wait in local files: a shard may have half a million, and each `Result`
    takes a kilobyte. Of what is whole only digests are kept. Close it.
    """

    def __init__(self, store: Store, claim: Claim, number: int, held: Iterable[Held]) -> None:
        self._told = local_file()
        self._units = local_file()
        self._whole: set[bytes] = set()
        self._store = store
        self._claim = claim
        self._number = number
        self._held = frozenset(held)
        self._parts: list[Part] = []
        self._nonce = secrets.token_hex(4)
        self._part_numbers = count(1)

    def close(self) -> None:
        """Remove local files."""
        discard(self._told)
        discard(self._units)

    def tell(self, lines: bytes) -> None:
        """Take the lines of units that have ended, whole or not."""
        with told():
            self._told.write(lines)

    def left(self) -> bytes:
        """The lines that were told, but for those of what is whole."""
        with told():
            self._told.seek(0)
            return b"".join([text for text in self._told if _digest(text) not in self._whole])

    def units(self) -> bytes:
        """The lines of what is whole."""
        with told():
            self._units.seek(0)
            return self._units.read()

    def holds(self, target: Target, repository: str | None) -> bool:
        """See `sinks.parts.Journal`."""
        return (target.account.account_id, target.registry_id, target.region, repository) in self._held

    async def upload(self, file: PartFile) -> Part:
        """See `sinks.parts.Journal`. The name is that of whoever crawls the shard this time.

        Raises `Fatal` where the run was published meanwhile, and leaves nothing beside it.
        """
        claim, number = self._claim, next(self._part_numbers)
        piece = self._number, self._nonce, number
        path = layout.part_of_shard(claim.run, claim.date, claim.attempt, piece, file.suffix)
        await self._store.put(path, file.reader())
        if await self._store.exists(layout.manifest(claim.run)):
            await self._store.delete(path)
            raise Fatal(
                "PublishedElsewhere",
                f"run {claim.run} was published while this process was held for lost: nothing more is written here",
            )
        return Part(path, file.rows, file.size, file.sha256)

    async def commit(self, parts: Sequence[Part], results: Sequence[Result]) -> None:
        """See `sinks.parts.Journal`."""
        self._parts += parts
        for result in results:
            text = line(result)
            self._whole.add(_digest(text))
            with told():
                self._units.write(text)

    async def seal(self, report: Report) -> Report:
        """Put the record. Returns the report of whoever was first to do so, which is this one most often.

        What is whole is not in the report yet, but in the record.
        """
        claim = self._claim
        path = layout.record(claim.run, claim.attempt, self._number)
        report.left = self.left()
        head = Record(claim.run, claim.attempt, self._parts, (), _rest(report)).encode()
        await require_ours(self._store, claim)
        try:
            await self._store.create(path, self._with_units(head))
        except Exists:
            # Beside a published run readers would take them for its own; and it may be published by now.
            for part in self._parts:
                await self._store.delete(part.path)
            return await read_report(self._store, path, self._number)
        report.parts, report.record = self._parts, path
        return report

    def _with_units(self, head: bytes) -> bytes:
        # In a file: put together in memory it would be there three times.
        with told(), closing(local_file()) as record:
            record.write(head)
            self._units.seek(0)
            copyfileobj(self._units, record)
            record.seek(0)
            return record.read()


async def read_report(store: Store, path: str, number: int, but: AbstractSet[bytes] = frozenset()) -> Report:
    """What the record of a shard says, without those lines of what is missing that are in `but`.

    Raises `Fatal` for one that is damaged.
    """
    where = store.uri_of(path)
    try:
        with closing(await store.opened(path)) as file:
            record = Record.decode(where, file.readline())
            units = file.read()
        rest: Mapping[str, Any] = record.rest or {}
        missing = [text.encode("ascii") for text in rest.get("left", ())]
        left = b"".join([text for text in missing if text not in but])
        ledger = Ledger()
        for text in BytesIO(units):
            await ledger.record(parse(text))
        record.require_rows(where, ledger.totals.rows)
        for text in BytesIO(left):
            await ledger.record(parse(text))
        ledger.totals.accounts = int(rest.get("accounts", 0))
        return Report(
            number,
            units,
            left,
            ledger.totals,
            frozenset(rest.get("regions", ())),
            frozenset(rest.get("repositories", ())),
            [(message, where) for message, where in rest.get("warnings", ())],
            record.learned,
            record.parts,
            path,
        )
    except UsageError as unfit:
        raise Fatal("RecordUnfit", str(unfit)) from unfit
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise Fatal("RecordUnfit", f"{where}: is damaged ({error}): use another --run-id") from error


def _digest(text: bytes) -> bytes:
    return blake2b(text, digest_size=16).digest()


def _rest(report: Report) -> dict[str, Any]:
    return {
        "left": report.left.decode("ascii").splitlines(keepends=True),
        "accounts": report.totals.accounts,
        "regions": sorted(report.regions),
        "repositories": sorted(report.repositories),
        "warnings": list(report.warnings),
        "learned": {key: asdict(memory) for key, memory in report.learned.items()},
    }
