"""A world to crawl that is nothing but data, clock and spies: the protocols of `crawler.registry` without a network.

Every request is an attempt at a spot, and a spot can be given steps, one for each attempt that will come: an
exception is raised, a number of seconds is slept before the answer (`HANG`: no answer at all). Without steps left, the
answer comes at once. On trio's virtual clock the seconds cost nothing, and are exact.
"""

from __future__ import annotations

import copy
import json
import math
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any, TypeVar

import anyio
from anyio.lowlevel import checkpoint
from trio.testing import MockClock

from crawler.crawl import Crawl, Limits
from crawler.errors import Transient
from crawler.hints import Hints
from crawler.ledger import Ledger
from crawler.model import (
    Account,
    Fetch,
    ImageId,
    ImageStatus,
    Organization,
    Page,
    Part,
    Result,
    Split,
    TagStatus,
    Target,
)
from crawler.retry import RetryPolicy
from crawler.wanted import Filter

T = TypeVar("T")

#: One attempt: an exception to raise, or seconds to wait before the answer.
Step = BaseException | float
HANG = math.inf

#: What is asked: ("members",), ("regions", account id), ("open", registry id, region),
#: ("repositories", registry id, region, page) or ("images", registry id, region, repository, page). Pages count from 0.
Spot = tuple[str | int, ...]

#: (registryId, region, repositoryName, imageDigest, imageTag)
Row = tuple[str, str, str, str, str | None]

#: The longest waits that the policy knows, so that every time in a test can be told in advance.
LONGEST = RetryPolicy(uniform=lambda _low, high: high)


def run(main: Callable[[], Awaitable[T]], backend: str = "trio") -> T:
    """Run on the virtual clock of trio, or on asyncio, where seconds are real: there, sleep none."""
    options = {"clock": MockClock(autojump_threshold=0)} if backend == "trio" else {}
    return anyio.run(main, backend=backend, backend_options=options)


def image(digest: str, tag: str | None = None) -> ImageId:
    return {"imageDigest": f"sha256:{digest}"} | ({"imageTag": tag} if tag is not None else {})


@dataclass
class Tree:
    """What one registry holds in one region: pages of names, and pages of image IDs for each name."""

    names: list[list[str]]
    images: dict[str, list[list[ImageId]]]

    @classmethod
    def of(cls, images: Mapping[str, Sequence[Sequence[ImageId]]], *, per_page: int = 1000) -> Tree:
        names = list(images)
        pages = [names[start : start + per_page] for start in range(0, len(names), per_page)]
        return cls(pages or [[]], {name: [list(page) for page in listed] for name, listed in images.items()})

    def rows(self, registry_id: str, region: str) -> Iterator[Row]:
        for name, pages in self.images.items():
            for page in pages:
                for row in page:
                    yield registry_id, region, name, row["imageDigest"], row.get("imageTag")


def small_tree(*names: str) -> Tree:
    """Repositories of two pages of one image each, two names a page."""
    return Tree.of({name: [[image(f"{name}-0", "v0")], [image(f"{name}-1")]] for name in names}, per_page=2)


class World:
    """A `Registries` over trees, by (registry id, region), with spies: see the attributes."""

    def __init__(self, trees: Mapping[tuple[str, str], Tree], *, members: Sequence[Account] = ()) -> None:
        self.trees: dict[tuple[str, ...], Tree] = dict(trees)
        self.accounts = list(members)
        self.steps: dict[Spot, Iterator[Step]] = {}
        self.calls: Counter[Spot] = Counter()
        self.answered: set[Spot] = set()
        self.times: dict[Spot, list[float]] = {}
        self.tokens: dict[int, list[str | None]] = {}  # by chain, as they were sent
        self.flying: Counter[tuple[str, str]] = Counter()
        self.peaks: Counter[tuple[str, str]] = Counter()
        self.peak = 0
        self.timeout = 60.0  # seconds for the answer to a page
        self.members_open = 0
        self.enabled: set[str] = set()  # regions that AWS itself calls enabled
        self.serial = count()

    def will(self, spot: Spot, *steps: Step) -> None:
        """Plan the next attempts at a spot."""
        self.steps[spot] = iter(steps)

    def always(self, spot: Spot, step: Step) -> None:
        self.steps[spot] = iter(lambda: step, None)  # type: ignore[arg-type]  # never None: without end

    def rows(self) -> Counter[Row]:
        return Counter(row for place, tree in self.trees.items() for row in tree.rows(*place))

    async def attempt(self, spot: Spot) -> None:
        """Carry out the next step of a spot."""
        self.calls[spot] += 1
        self.times.setdefault(spot, []).append(anyio.current_time())
        step = next(self.steps.get(spot, iter(())), 0.0)
        await checkpoint()
        if isinstance(step, BaseException):
            raise copy.copy(step)
        if step == HANG:
            await anyio.sleep_forever()
        elif step:
            await anyio.sleep(step)
        self.answered.add(spot)

    async def members(self, organization: Organization) -> AsyncGenerator[Account]:  # noqa: ARG002  (its protocol's)
        self.members_open += 1
        try:
            for index, account in enumerate(self.accounts):
                await self.attempt(("members", index))
                yield account
            await self.attempt(("members",))
        finally:
            self.members_open -= 1

    async def regions(self, account: Account) -> dict[str, bool]:
        await self.attempt(("regions", account.account_id))
        if account.regions != ("all",):
            return dict.fromkeys(account.regions, False)
        return {
            region: region in self.enabled for registry_id, region in self.trees if registry_id == account.account_id
        }

    async def open(self, target: Target) -> FakeRegistry:
        spot = ("open", target.registry_id, target.region)
        if spot in self.steps:  # no request of the target's own: it is not counted unless planned
            await self.attempt(spot)
        return FakeRegistry(self, (target.registry_id, target.region))


@dataclass
class FakeRegistry:
    """A `Registry`: each chain has tokens of its own, and takes no others."""

    world: World
    place: tuple[str, str]

    def repositories(self) -> Fetch[str]:
        return self._chain(("repositories", *self.place), lambda tree: tree.names)

    def images(self, repository: str, part: Part | None = None) -> Fetch[ImageId]:
        tag = part.tag_status if part else TagStatus.ANY
        what = ("images", *self.place, repository)
        if tag is TagStatus.ANY:
            return self._chain(what, lambda tree: tree.images[repository])

        def of_part(tree: Tree) -> list[list[ImageId]]:
            rows = [row for page in tree.images[repository] for row in page]
            tagged = [row for row in rows if (row.get("imageTag") is not None) == (tag is TagStatus.TAGGED)]
            return [tagged[start : start + 2] for start in range(0, len(tagged), 2)] or [[]]

        return self._chain((*what, str(tag)), of_part)

    def parts(self, split: Split) -> list[Part]:
        tags = (TagStatus.ANY,) if split is Split.NO else (TagStatus.TAGGED, TagStatus.UNTAGGED)
        return [Part(tag, ImageStatus.ANY) for tag in tags]

    def _chain(self, what: Spot, of: Callable[[Tree], list[list[T]]]) -> Fetch[T]:
        world, place, serial = self.world, self.place, next(self.world.serial)
        sent = world.tokens.setdefault(serial, [])

        async def fetch(token: str | None) -> Page[T]:
            sent.append(token)
            chain, _, page = (token or f"{serial}/0").partition("/")
            assert int(chain) == serial, f"chain {serial} was given a token of chain {chain}"
            index = int(page)
            world.flying[place] += 1
            world.peaks[place] = max(world.peaks[place], world.flying[place])
            world.peak = max(world.peak, world.flying.total())
            try:
                with anyio.fail_after(world.timeout):
                    await world.attempt((*what, index))
            except TimeoutError:
                raise Transient("Timeout", "") from None
            finally:
                world.flying[place] -= 1
            pages = of(world.trees[place])
            following = f"{serial}/{index + 1}" if index + 1 < len(pages) else None
            return Page(pages[index], following, fingerprint=hash(json.dumps(pages[index])))

        return fetch


class ListSink:
    """A `Sink` that keeps the rows; `steps` as a spot's, one for each page; `held` are units of an earlier attempt."""

    def __init__(self, *steps: Step, held: Iterable[tuple[str | None, ...]] = ()) -> None:
        self.rows: list[Row] = []
        self.steps = iter(steps)
        self.held = set(held)
        self.open: Counter[tuple[str, str, str]] = Counter()
        self.committed: list[Result] = []
        self.targets: list[Result] = []

    def holds(self, target: Target, repository: str | None = None) -> bool:
        return (target.registry_id, target.region, repository) in self.held

    @contextmanager
    def repository(self, target: Target, name: str) -> Iterator[ListRows]:
        unit = (target.registry_id, target.region, name)
        assert not self.open[unit], f"{unit} was begun twice"
        self.open[unit] += 1
        try:
            yield ListRows(self, unit)
        finally:
            self.open[unit] -= 1

    def target_ended(self, result: Result) -> None:
        self.targets.append(result)


@dataclass
class ListRows:
    sink: ListSink
    unit: tuple[str, str, str]

    async def send(self, image_ids: Sequence[ImageId]) -> None:
        step = next(self.sink.steps, 0.0)
        await checkpoint()
        if isinstance(step, BaseException):
            raise step
        if step:
            await anyio.sleep(step)
        self.sink.rows += [(*self.unit, row["imageDigest"] or "", row.get("imageTag")) for row in image_ids]

    def commit(self, result: Result) -> None:
        self.sink.committed.append(result)


@dataclass
class Rehearsal:
    """A crawl of a world, and what came of it."""

    world: World
    sink: ListSink = field(default_factory=ListSink)
    limits: Limits = field(default_factory=Limits)
    policy: RetryPolicy = LONGEST
    wanted: Filter = field(default_factory=Filter)
    lines: list[dict[str, Any]] = field(default_factory=list)
    hints: Hints | None = None

    def __post_init__(self) -> None:
        self.ledger = Ledger(self._line)

    async def _line(self, data: bytes) -> None:
        await checkpoint()
        self.lines.append(json.loads(data))

    def crawl(self) -> Crawl:
        return Crawl(
            self.world,
            self.sink,
            self.ledger,
            limits=self.limits,
            policy=self.policy,
            wanted=self.wanted,
            hints=self.hints,
        )

    async def accounts(self, *accounts: Account) -> None:
        await self.crawl().accounts(accounts)

    def of(self, *accounts: Account, backend: str = "trio") -> Rehearsal:
        """Crawl these accounts to the end."""
        run(lambda: self.accounts(*accounts), backend)
        return self

    @property
    def rows(self) -> Counter[Row]:
        return Counter(self.sink.rows)

    def outcomes(self) -> dict[tuple[str | None, ...], str]:
        """Outcome by (registry, region, repository). Fails where a unit has two lines."""
        found = {place(line): line["outcome"] for line in self.lines}
        assert len(found) == len(self.lines), "a unit has two lines"
        return found

    def line(self, *unit: str | None) -> dict[str, Any]:
        (line,) = [line for line in self.lines if place(line) == (*unit, None, None)[:3]]
        return line

    def known(self, *accounts: Account) -> set[tuple[str | None, ...]]:
        """Units that the crawl of these accounts has heard of, as its answers tell."""
        units: set[tuple[str | None, ...]] = set()
        for account in accounts:
            if ("regions", account.account_id) not in self.world.answered:
                units.add((account.account_id, None, None))
                continue
            for registry_id, region in self.world.trees:
                if registry_id == account.account_id:
                    units.add((registry_id, region, None))
                    units |= {(registry_id, region, name) for name in self._listed(registry_id, region)}
        return units

    def _listed(self, *at: str) -> Iterator[str]:
        for index, names in enumerate(self.world.trees[at].names):
            if ("repositories", *at, index) in self.world.answered:
                yield from names


def place(line: Mapping[str, Any]) -> tuple[str | None, ...]:
    """Tell which unit a line of the ledger is about."""
    return line["registryId"], line["region"], line["repositoryName"]


def leaves(error: BaseException) -> Iterable[BaseException]:
    """The errors inside nested groups."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves(inner)
    else:
        yield error
