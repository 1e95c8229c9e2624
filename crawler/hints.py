"""What one night learned, for the next: rates, and which repositories are long. Small, and safe to delete.

A JSON file. Where it does not fit (corrupt, of a later version, of other accounts) the crawl goes on without it.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from heapq import nlargest, nsmallest
from typing import Annotated, Literal, Self

import orjson
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from crawler.model import COMPLETE, PUBLIC, Account, Result, RowKind, Target
from crawler.pace import Quota

VERSION = 1
_FORMAT: Literal["ecr-inventory-crawler hints"] = "ecr-inventory-crawler hints"

#: Bytes. A file that is larger was not written here.
MAX_BYTES = 64 * 2**20

#: Pages from which on a repository is long. Shorter ones are not remembered: a million of them would be 100 MB.
LONG = 10

#: Targets, accounts, and repositories of a target that are remembered at most. Most targets have nothing to remember.
_MOST, _MOST_LONG = 50_000, 500

#: Days after which a target is forgotten that no run has met: its account has gone, or is crawled no more.
REMEMBERED = 90

#: Seconds taken for a page of one chain, where only its number of pages is known.
_ROUND_TRIP = 0.1

_Positive = Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)]
_Pages = Annotated[int, Field(ge=0, le=10**9)]
_Rows = Annotated[int, Field(ge=0, le=10**12)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Rate(_Strict):
    rate: _Positive
    burst: _Positive


class _Target(_Strict):
    pages: _Pages
    rates: dict[str, _Rate] = {}
    repositories: dict[str, _Pages] = {}
    seen: Annotated[int, Field(ge=0, le=10**6)] = 0


class _File(_Strict):
    format: Literal["ecr-inventory-crawler hints"]
    version: Literal[1]
    estate: list[str]
    selection: str
    pages: _Pages
    repositories: _Pages = 0  # 0: not known, as with the rows
    rows: _Rows = 0
    targets: dict[str, _Target]


_HEAD = TypeAdapter(dict[str, object])


class Unfit(ValueError):
    """A hints file that is of no use. `ours` tells whether the next one may take its place."""

    def __init__(self, text: str, *, ours: bool = True) -> None:
        super().__init__(text)
        self.ours = ours


@dataclass(frozen=True, slots=True)
class Expected:
    """How long a run will be, as the last one tells: `pages` of all units, and `seconds` of the longest target.

    Of `repositories` and `rows` 0 is not known.
    """

    pages: int
    seconds: float
    repositories: int = 0
    rows: int = 0


@dataclass(frozen=True, slots=True)
class Rate:
    """What is known of AWS's bucket for one operation of one target: `rate` tokens a second, `burst` at most."""

    registry_id: str
    region: str
    operation: str
    rate: float
    burst: float


@dataclass(slots=True)
class Memory:
    """Of one target: the rates of its operations, the pages of its long repositories, and of all together.

    `seen` is when a run last met it, in days since 1970 (UTC); 0 where that is not known.
    """

    rates: dict[str, Quota] = field(default_factory=dict[str, Quota])
    repositories: dict[str, int] = field(default_factory=dict[str, int])
    pages: int = 0
    seen: int = 0

    def copy(self) -> Memory:
        """What is known, for a run to correct. Pages are counted anew."""
        return Memory(dict(self.rates), dict(self.repositories))

    def long_repositories(self) -> list[str]:
        """Their names, the longest first."""
        return sorted(self.repositories, key=self.repositories.__getitem__, reverse=True)

    def listed(self, repository: str, result: Result) -> None:
        """Remember how long a repository is, once it was listed; one that failed stays as it was known."""
        pages = result.chain.pages
        self.pages += pages
        if result.outcome in COMPLETE:
            self.repositories.pop(repository, None)
        if pages >= LONG and repository.isascii():  # as ECR's names are; another might not fit into the file
            self.repositories[repository] = max(pages, self.repositories.get(repository, 0))

    def learned(self, rates: Mapping[str, Quota | None]) -> None:
        """Remember the rates of these operations, as far as they are known."""
        self.rates |= {operation: quota for operation, quota in rates.items() if quota}

    def seconds(self, rows: RowKind = RowKind.IDS) -> float:
        """How long the target takes, about: what its rates allow, or its longest chain."""
        images = self.rates.get(rows.operation)
        by_rate = max(self.pages - images.burst, 0.0) / images.rate if images else 0.0
        return max(by_rate, max(self.repositories.values(), default=0) * _ROUND_TRIP)


class Hints:
    """What the last run knew of the estate, and what this one adds.

    `estate` names what is crawled (account ids, or the organization), `selection` the part of it and the filters: the
    last run's number of `pages`, None where unknown, means something for the same selection only. Rates are those of
    the operation that lists `rows`.
    """

    def __init__(self, estate: Iterable[str] = (), selection: str = "", rows: RowKind = RowKind.IDS) -> None:
        self._estate = dict.fromkeys(estate)
        self._selection = selection
        self._rows = rows
        self._known: dict[str, Memory] = {}
        self._met: set[str] = set()
        self.pages: int | None = None
        self._repositories = self._rows_listed = 0

    @classmethod
    def read(cls, text: bytes, estate: Iterable[str], selection: str, rows: RowKind = RowKind.IDS) -> Self:
        """The hints of a file. Raises `Unfit`."""
        hints = cls(estate, selection, rows)
        if len(text) > MAX_BYTES:
            raise Unfit(f"is larger than {MAX_BYTES >> 20} MB, which no crawl has written", ours=False)
        try:
            head = _HEAD.validate_python(orjson.loads(text))
        except ValueError as error:
            raise Unfit("is not what a crawl has written") from error
        version = head.get("version")
        if isinstance(version, int) and version > VERSION:
            later = f"is of version {version}, of a later program; this one knows version {VERSION}"
            raise Unfit(later, ours=False)
        try:
            file = _File.model_validate(head)
        except ValidationError as error:
            first = error.errors()[0]
            raise Unfit(f"is damaged at {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
        if not hints._estate.keys() & set(file.estate):
            raise Unfit("is of another estate: it knows none of these accounts", ours=False)
        hints._known = {key: _memory(target) for key, target in file.targets.items()}
        hints._estate |= dict.fromkeys(file.estate)
        if file.selection == selection:
            hints.pages, hints._repositories, hints._rows_listed = file.pages, file.repositories, file.rows
        return hints

    @property
    def expected(self) -> Expected | None:
        """How long the run will be, if the last one tells."""
        if not self.pages:
            return None
        seconds = max(self._by_account.values(), default=0.0)
        return Expected(self.pages, seconds, self._repositories, self._rows_listed)

    def of(self, target: Target) -> Memory:
        """What is known of a target; nothing, most often."""
        return self._known.get(_key(target)) or Memory()

    def seconds_of(self, target: Target) -> float:
        """How long a target takes, about; 0 where it is not known to take long."""
        return self.of(target).seconds(self._rows)

    def seconds(self, account: Account) -> float:
        """How long the longest registry of an account takes, about; 0 where none is known to take long."""
        return self._by_account.get(account.account_id, 0.0)

    def accounts(self) -> Mapping[str, float]:
        """The accounts that are known to take long, by id, and their `seconds`."""
        return {account_id: seconds for account_id, seconds in self._by_account.items() if seconds > 0}

    def part(self, accounts: Iterable[Account]) -> dict[str, Memory]:
        """What is known of the registries that these accounts read; see `Hints.of_part`."""
        registries = dict.fromkeys(
            registry_id
            for account in accounts
            for registry_id in (account.account_id, *account.registries, PUBLIC + account.account_id)
        )
        keys = (key for registry_id in registries for key in self._by_registry.get(registry_id, ()))
        return {key: self._known[key] for key in keys if key in self._known}

    def part_of(self, targets: Iterable[Target]) -> dict[str, Memory]:
        """What is known of these targets; see `Hints.of_part`."""
        keys = map(_key, targets)
        return {key: self._known[key] for key in keys if key in self._known}

    @classmethod
    def of_part(cls, known: Mapping[str, Memory], rows: RowKind) -> Self:
        """Hints of which only this part is there."""
        hints = cls(rows=rows)
        hints._known = dict(known)
        return hints

    @property
    def learned(self) -> dict[str, Memory]:
        """What this run has found, by target; of a target with nothing to remember any more, an empty memory."""
        return {key: self._known.get(key) or Memory() for key in self._met}

    def learn(self, learned: Mapping[str, Memory]) -> None:
        """Take what was `learned` elsewhere in place of what is known of the same targets."""
        for key, memory in learned.items():
            self._put(key, memory)

    def keep(self, target: Target, memory: Memory, *, whole: bool) -> None:
        """Remember a target, if there is something to remember; its pages, if it was crawled to its `whole` end."""
        key = _key(target)
        before = self._known.get(key)
        if before and not whole:
            memory.pages = max(memory.pages, before.pages)
        longest = nlargest(_MOST_LONG, memory.repositories.items(), key=lambda item: item[1])
        self._put(key, replace(memory, repositories=dict(longest)))

    def _put(self, key: str, memory: Memory) -> None:
        known = self._known.pop(key, None) is not None
        if (memory.rates or memory.repositories) and len(self._known) < _MOST:
            self._known[key] = memory
            known = True
        if known:
            self._met.add(key)

    def slowest(self, most: int) -> list[Rate]:
        """The slowest rates that are known, `most` of them at most."""
        rates = (
            Rate(*_place(key), operation, round(quota.rate, 3), round(quota.burst, 1))
            for key, memory in self._known.items()
            for operation, quota in memory.rates.items()
        )
        return nsmallest(most, rates, key=lambda rate: rate.rate)

    def written(self, pages: int | None, repositories: int = 0, rows: int = 0, *, today: int | None = None) -> bytes:
        """The file. `pages` and the other sums are those of this run, None if it did not reach its end.

        Targets that no run has met for `REMEMBERED` days are left out; `today` is the day since 1970.
        """
        today = int(time.time() // 86_400) if today is None else today
        if pages is None:
            pages, repositories, rows = self.pages, self._repositories, self._rows_listed
        document = {
            "format": _FORMAT,
            "version": VERSION,
            "estate": list(self._estate)[:_MOST],
            "selection": self._selection,
            "pages": pages or 0,
            "repositories": repositories,
            "rows": rows,
            "targets": {key: asdict(memory) for key, memory in self._remembered(today)},
        }
        return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)

    def _remembered(self, today: int) -> Iterator[tuple[str, Memory]]:
        for key, memory in self._known.items():
            # A day to come is that of a clock that was wrong.
            seen = today if key in self._met or not memory.seen else min(memory.seen, today)
            if today - seen <= REMEMBERED:
                yield key, replace(memory, seen=seen)

    @cached_property
    def _by_account(self) -> dict[str, float]:
        longest: dict[str, float] = {}
        for key, memory in self._known.items():
            account = _place(key)[0].removeprefix(PUBLIC)
            longest[account] = max(longest.get(account, 0.0), memory.seconds(self._rows))
        return longest

    @cached_property
    def _by_registry(self) -> Mapping[str, Sequence[str]]:
        keys = defaultdict[str, list[str]](list)
        for key in self._known:
            keys[key.rpartition("/")[0]].append(key)
        return keys


def _place(key: str) -> tuple[str, str]:
    registry_id, _, region = key.rpartition("/")  # the id of a public registry has a slash of its own
    return registry_id, region


def _key(target: Target) -> str:
    return f"{target.registry_id}/{target.region}"


def _memory(target: _Target) -> Memory:
    rates = {operation: Quota(rate.rate, rate.burst) for operation, rate in target.rates.items()}
    return Memory(rates, target.repositories, target.pages, target.seen)
