"""What the files of a run say, and their JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self, TypeVar, cast

import orjson
from pydantic import TypeAdapter, ValidationError

from crawler.errors import UsageError
from crawler.hints import Memory
from crawler.ledger import parse
from crawler.model import OTHERS, Result, RowKind
from crawler.rows import from_json, to_line
from crawler.runs.layout import VERSION
from crawler.sinks.parts import Part
from crawler.timeline import Timeline
from crawler.wording import counted

T = TypeVar("T")

#: Made when they are needed: to make one takes a millisecond, and a run may have thousands of records.
_adapters: dict[type, TypeAdapter[Any]] = {}


@dataclass(frozen=True, slots=True)
class Claim:
    """An attempt began. Times are ISO 8601, UTC.

    `settings` are those that decide which rows a run has; they and `date` and `format` are the first attempt's. `base`
    are the records of earlier attempts that this one rests on. `owner` names host and process, for people and for
    `owners.dead`.
    """

    run: str
    attempt: int
    date: str
    format: str
    started: str
    attempt_started: str
    owner: Mapping[str, str]
    settings: Mapping[str, Any]
    base: Sequence[str] = ()
    version: int = VERSION

    def encode(self) -> bytes:
        """As JSON."""
        return _encoded(asdict(self))

    @classmethod
    def decode(cls, where: str, data: bytes) -> Self:
        """From JSON. Raises `UsageError` for what is damaged, or of a version newer than this program."""
        return _checked(cls, where, _object(where, data))


@dataclass(frozen=True, slots=True)
class Manifest:
    """A run is published, and it is these parts. Times are ISO 8601, UTC; `status` is as in the report.

    `settings` are as in `Claim`; `targets` and `repositories` count units by outcome, `missing` those that leave
    something out. `ledger` is a path in the store, and so are `records` and `timeline`, which older runs have not.
    """

    run: str
    status: str
    date: str
    format: str
    schema_version: int
    started: str
    published: str
    attempt: int
    rows: int
    missing: int
    targets: Mapping[str, int]
    repositories: Mapping[str, int]
    parts: Sequence[Part]
    ledger: str
    records: Sequence[str]
    settings: Mapping[str, Any]
    program: str
    failures: Sequence[Mapping[str, Any]] = field(default_factory=list[Mapping[str, Any]])
    timeline: str | None = None
    version: int = VERSION

    @property
    def kind(self) -> RowKind:
        """What its rows are. Raises `UsageError` for a kind that only a newer program knows."""
        named = self.settings.get("rows", RowKind.IDS)  # runs begun before rows had kinds are of image IDs
        try:
            return RowKind(named)
        except ValueError as error:
            raise UsageError(f"run {self.run}: this program knows no rows of the kind {named}") from error

    @property
    def filters(self) -> Mapping[str, str]:
        """Which images of a registry were listed, by its id, as in `TAGGED ANY`; under `OTHERS` of all others."""
        found = self.settings.get("filters")
        if isinstance(found, dict):
            return cast("dict[str, str]", found)
        # Runs of programs that did not write them down: as the options said.
        return {OTHERS: f"{self.settings.get('tag_status', 'ANY')} {self.settings.get('image_status', 'ANY')}"}

    @property
    def complete(self) -> bool:
        """Whether nothing at all is missing."""
        return self.status == "complete"

    def encode(self) -> bytes:
        """As JSON."""
        return _encoded(asdict(self))

    @classmethod
    def decode(cls, where: str, data: bytes) -> Self:
        """From JSON. Raises `UsageError` for what is damaged, or of a version newer than this program."""
        return _checked(cls, where, _object(where, data))


@dataclass(frozen=True, slots=True)
class Record:
    """These parts hold these units whole: a line of its own each in the file, after a first line for the rest.

    `units` are lines of the ledger. The record of a shard also says, in `rest`, what else came of it. Where parts are
    `lost`, it holds nothing: its units are to be crawled again.
    """

    run: str
    attempt: int
    parts: Sequence[Part]
    units: Sequence[bytes]
    rest: Mapping[str, Any] | None = None
    lost: bool = False
    version: int = VERSION

    @property
    def learned(self) -> dict[str, Memory]:
        """What a shard learned of its targets: see `Hints.learned`. Nothing where it is damaged: it is a hint."""
        try:
            return _checked(dict[str, Memory], "", dict((self.rest or {}).get("learned", {})))
        except (UsageError, TypeError, ValueError):
            return {}

    def encode(self) -> bytes:
        """As NDJSON."""
        head: dict[str, Any] = {"version": self.version, "run": self.run, "attempt": self.attempt}
        head["parts"] = [asdict(part) for part in self.parts]
        if self.rest is not None:
            head["rest"] = self.rest
        if self.lost:
            head["lost"] = True
        return to_line(head) + b"".join(self.units)

    @classmethod
    def decode(cls, where: str, data: bytes) -> Self:
        """From NDJSON. Raises `UsageError` for what is damaged, or of a version newer than this program."""
        head, *units = data.splitlines(keepends=True) or [b""]
        return _checked(cls, where, {**_object(where, head), "units": units})

    def results(self, where: str) -> list[Result]:
        """The units as they were recorded. Raises `UsageError` unless they are what the parts hold.

        A record that lost lines would have their repositories crawled again, beside the rows that are there already.
        """
        try:
            results = [parse(unit) for unit in self.units]
        except (LookupError, TypeError, ValueError, RecursionError) as error:
            raise UsageError(f"{where}: is damaged in a line ({error}): use another --run-id") from error
        if self.lost:
            return results
        said = sum(result.chain.items for result in results if result.unit.repository is not None)
        self.require_rows(where, said)
        return results

    def require_rows(self, where: str, said: int) -> None:
        """Raise `UsageError` unless the parts hold as many rows as the units are `said` to have."""
        if (held := sum(part.rows for part in self.parts)) != said:
            found = f"{counted(held, 'row')} in its parts, {said:,} in its lines"
            raise UsageError(f"{where}: is damaged: {found}: use another --run-id")


def decode_timeline(where: str, data: bytes) -> Timeline:
    """From JSON. Raises `UsageError` for what is damaged, or of a version newer than this program."""
    return _checked(Timeline, where, _object(where, data))


def _encoded(document: dict[str, Any]) -> bytes:
    try:
        encoded = orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
        if encoded.isascii():
            return encoded
    except orjson.JSONEncodeError:  # a lone surrogate in a name
        pass
    return json.dumps(document, indent=2).encode("ascii") + b"\n"


def _checked(kind: type[T], where: str, document: dict[str, Any]) -> T:
    try:
        adapter = _adapters.get(kind) or _adapters.setdefault(kind, TypeAdapter(kind))
        checked: T = adapter.validate_python(document)
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(f"{where}: is damaged at {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    return checked


def _object(where: str, data: bytes) -> dict[str, Any]:
    try:
        document = cast("dict[str, Any]", from_json(data))
        version = int(document["version"])
    except (LookupError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise UsageError(f"{where}: is not a file of this program: {error}") from error
    if version > VERSION:
        raise UsageError(
            f"{where}: is of version {version}, and this program knows {VERSION} at most: use the newer program"
        )
    return document
