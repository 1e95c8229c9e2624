"""A world made from a seed, in which everything goes wrong that can: what `crawl.py` sees of AWS, on a virtual clock.

Each decision hangs on the seed and on what is asked for the how-manieth time, never on who asks first: one seed is one
story. Roles are assumed, end, and are renewed by the crawler's own code.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable
from copy import copy
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from math import inf
from random import Random
from typing import Generic, TypeVar

import anyio

from crawler.aws.keys import RoleKeys, with_keys
from crawler.aws.signing import Keys
from crawler.errors import CrawlError, Denied, Fatal, Gone, KeysExpired, KeysUnknown, Refused, Throttled, Transient
from crawler.model import Account, Fetch, ImageId, ImageStatus, Organization, Page, Part, Split, TagStatus, Target
from crawler.retry import RetryPolicy
from tests.simulation.ends import Ends
from tests.simulation.estate import Region, Repository, a_region
from tests.simulation.temper import Temper

T = TypeVar("T")

#: (registry id, region), and the same with the name of a repository, or None for the registry itself.
Place = tuple[str, str]
Name = tuple[str, str, str | None]

LASTING = [
    Throttled("ThrottlingException", "for ever"),
    Transient("ServerException", "for ever"),
    Denied("AccessDeniedException", "for ever"),
    Refused("InvalidParameterException", "for ever"),
]

#: With how much patience roles are assumed.
OF_ROLES = RetryPolicy(uniform=lambda _, high: high)


@dataclass
class World:
    """A `Registries`. What it did is in `ends` (failures that may end a unit), `told` (names given out) and `peaks`."""

    seed: int
    ends: Ends
    timeout: float = 60.0
    regions_of: dict[str, list[str]] = field(default_factory=dict)
    places: dict[Place, Region] = field(default_factory=dict)
    accounts: list[Account] = field(default_factory=list)

    def __post_init__(self) -> None:
        dice = Random(self.seed)  # noqa: S311 - a story, no secret
        self.temper = Temper.of(dice)
        self.asked = 0
        #: When the keys of an account end for good, whatever their session says.
        self.taken_back: dict[str, float] = {}
        self.told: dict[Place, set[str]] = defaultdict(set)
        self.told_regions: set[str] = set()
        self.hinted: dict[Place, list[str]] = {}
        self.flying: Counter[Place] = Counter()
        self.peaks: Counter[Place] = Counter()
        self._asked: Counter[tuple[object, ...]] = Counter()
        self._ended: set[Keys] = set()
        self._sources: dict[str, RoleKeys] = {}
        self._serial = count()
        self._tokens_at: dict[tuple[object, ...], float] = {}
        for number in range(dice.randint(1, 3)):
            self._add_account(f"{number:012}", dice)

    def restart(self) -> None:
        """Forget what a process forgets: its keys, and what it was told. The world goes on as it was."""
        self.ends = Ends(self.ends.policy, self.ends.restarts)
        self.asked = 0
        self.told.clear()
        self.told_regions.clear()
        self._sources.clear()
        self._tokens_at.clear()

    def _add_account(self, account_id: str, dice: Random) -> None:
        registries = (f"9{account_id[1:]}",) if dice.random() < 0.2 else ()
        self.accounts.append(Account(account_id, registries=registries))
        self.taken_back[account_id[1:]] = dice.uniform(0, 60) if dice.random() < self.temper.taken_back else inf
        regions = [f"region-{n}" for n in range(dice.randint(0 if dice.random() < 0.1 else 1, 3))]
        self.regions_of[account_id] = regions
        for region in regions:
            for registry_id in (account_id, *registries):
                self.places[registry_id, region] = a_region(dice, self.temper)

    def dice(self, *what: object) -> Random:
        """Chance for one more time of the same."""
        self._asked[what] += 1
        return Random(f"{self.seed}{what}{self._asked[what]}")  # noqa: S311  (nothing secret: the same in each run)

    async def members(self, organization: Organization) -> AsyncGenerator[Account]:  # noqa: ARG002  (its protocol's)
        for account in self.accounts:
            self.asked += 1
            await anyio.sleep(self.temper.latency)
            yield account

    async def regions(self, account: Account) -> dict[str, bool]:
        await self.source(account).keys()
        self.told_regions.add(account.account_id)
        return dict.fromkeys(self.regions_of[account.account_id], False)

    async def open(self, target: Target) -> Registry:
        await self.source(target.account).keys()
        place = target.registry_id, target.region
        # Who opens it again asks whether the keys are known, and for nothing that has to be crawled.
        told = set[str]() if place in self.told else self.told[place]
        return Registry(self, place, self.source(target.account), told)

    def source(self, account: Account) -> RoleKeys:
        """The keys of an account, by the crawler's own renewal."""
        if account.account_id not in self._sources:
            assume = partial(self._assume, account.account_id)
            self._sources[account.account_id] = RoleKeys(account.account_id, assume, OF_ROLES, now=anyio.current_time)
        return self._sources[account.account_id]

    async def _assume(self, account_id: str) -> Keys:
        self.asked += 1
        try:
            keys = await self._assumed(account_id)
        except CrawlError as error:
            self.ends.failed((account_id, None, None), account_id, error, OF_ROLES)
            raise
        self.ends.answered((account_id, None, None), account_id)
        return keys

    async def _assumed(self, account_id: str) -> Keys:
        denied = Random(f"{self.seed}{account_id}").random() < self.temper.role / 3  # noqa: S311  (nothing secret: the same in each run)
        dice = self.dice("assume", account_id)
        await anyio.sleep(dice.uniform(0, self.temper.latency))
        if denied:
            raise Denied("AccessDenied", "not this role")
        if dice.random() < self.temper.role:
            raise dice.choice([Transient("ServiceUnavailable", ""), Throttled("Throttling", "")])
        ends = anyio.current_time() + self.temper.session
        return Keys(f"ASIA{account_id}{next(self._serial)}", "s", "t", ends)

    async def request(self, unit: Name, page: int, keys: Keys) -> None:
        """Be asked once: return in time, late or never, or fail."""
        place, temper, dice = unit[:2], self.temper, self.dice(unit, page)
        self.asked += 1
        self.flying[place] += 1
        self.peaks[place] = max(self.peaks[place], self.flying[place])
        try:
            with anyio.fail_after(self.timeout):
                await anyio.sleep(dice.uniform(0, temper.latency))
                if dice.random() < temper.stall:
                    await anyio.sleep_forever()
        except TimeoutError:
            raise Transient("Timeout", "stalled") from None
        finally:
            self.flying[place] -= 1
        self._refuse(unit, page, keys, dice)

    def _refuse(self, unit: Name, page: int, keys: Keys, dice: Random) -> None:
        temper, now = self.temper, anyio.current_time()
        if dice.random() < temper.clock:
            raise Fatal("ClockSkew", "the clock is wrong")
        if self.places[unit[:2]].disabled or now >= self.taken_back[unit[0][1:]]:
            raise KeysUnknown("UnrecognizedClientException", "not enabled, or not known any more")
        if dice.random() < temper.ended:
            self._ended.add(keys)
        if keys in self._ended or (keys.expires or now) < now:
            raise KeysExpired("ExpiredTokenException", "too late")
        lasting = Random(f"{self.seed}{unit}{page}")  # noqa: S311  (nothing secret: the same in each run)
        if lasting.random() < temper.lasting:
            raise copy(lasting.choice(LASTING))
        if dice.random() < temper.transient:
            raise Transient("ServerException", "a hiccup")
        bucket = (unit[:2], unit[2] is None)
        free = max(self._tokens_at.get(bucket, 0.0), now - 3 / temper.rate) + 1 / temper.rate
        if free > now + 1 / temper.rate or dice.random() < temper.throttle:
            raise Throttled("ThrottlingException", "Rate exceeded", dice.choice([None, None, 0.5, 7.5]))
        self._tokens_at[bucket] = free


@dataclass
class Registry:
    """A `Registry` of the world: each chain has tokens of its own, and takes no others."""

    world: World
    place: Place
    source: RoleKeys
    told: set[str]

    def repositories(self) -> Fetch[str]:
        async def at(page: int, keys: Keys) -> list[list[str]]:
            await self.world.request((*self.place, None), page, keys)
            names = self.world.places[self.place].names
            self.told.update(names[page])
            if page == 0:  # and with it what an earlier night knew to be long
                self.told.update(self.world.hinted.get(self.place, ()))
            return names

        return Chain(((*self.place, None), None), self, at, "").fetch

    def parts(self, split: Split) -> list[Part]:
        tags = [TagStatus.ANY] if split is Split.NO else [TagStatus.TAGGED, TagStatus.UNTAGGED]
        statuses = [ImageStatus.ANY]
        if split is Split.ALL:
            statuses = [ImageStatus.ACTIVE, ImageStatus.ARCHIVED, ImageStatus.ACTIVATING]
        return [Part(tag, status) for tag in tags for status in statuses]

    def images(self, repository: str, part: Part | None = None) -> Fetch[ImageId]:
        unit = (*self.place, repository)
        there = self.world.places[self.place].repositories.get(repository) or Repository([[]], deleted_at=0.0)

        async def at(page: int, keys: Keys) -> list[list[ImageId]]:
            await self.world.request(unit, page, keys)
            if anyio.current_time() >= there.deleted_at:
                raise Gone("RepositoryNotFoundException", "deleted")
            return there.of(part)

        return Chain((unit, part), self, at, there.odd).fetch


class Chain(Generic[T]):
    """One chain of pages; `odd` ones lead nowhere."""

    def __init__(
        self,
        of: tuple[Name, Part | None],
        registry: Registry,
        at: Callable[[int, Keys], Awaitable[list[list[T]]]],
        odd: str,
    ) -> None:
        (self._unit, self._part), self._registry, self._at, self._odd = of, registry, at, odd
        self._world = registry.world
        self._mark = f"{self._world.seed}-{next(self._world._serial)}"
        self._rejected: set[str] = set()
        self._sent = 0

    async def fetch(self, token: str | None) -> Page[T]:
        """See `Fetch`."""
        mark, _, number = (token or f"{self._mark}/0").partition("/")
        assert mark == self._mark, f"{token} is of another chain"
        page = int(number.partition("#")[0])
        pages = await self._asked_for(token, page)
        self._sent += 1
        items = pages[page]
        if self._odd == "empty":
            items = []
        return Page(items, self._next(page, len(pages)), fingerprint=hash(json.dumps(items)))

    async def _asked_for(self, token: str | None, page: int) -> list[list[T]]:
        """All pages, as they are once this one is answered; its failures are told to the world's `ends`."""
        ends, renewed = self._world.ends, False

        async def ask(keys: Keys) -> list[list[T]]:
            nonlocal renewed
            try:
                self._honour(token)
                return await self._at(page, keys)
            except KeysExpired as error:
                if renewed:  # the first time is for the keys to be renewed
                    ends.failed(self._unit, (self._mark, page), error)
                renewed = True
                raise
            except Refused as error:
                # Of a list of repositories every token is good, and its chain is the only one.
                ends.refused(self._unit, self._part, error, first=not (token and self._unit[2]))
                raise
            except CrawlError as error:
                ends.failed(self._unit, (self._mark, page), error)
                raise

        pages = await with_keys(self._registry.source, ask)
        ends.answered(self._unit, (self._mark, page))
        return pages

    def _honour(self, token: str | None) -> None:
        if token and (token in self._rejected or self._world.dice("token", self._unit).random() < self._rejection()):
            self._rejected.add(token)
            raise Refused("InvalidParameterException", "the token")

    def _rejection(self) -> float:
        # Of a list of repositories every token is good: it is not listed anew, and would always fail.
        return self._world.temper.rejected if self._unit[2] else 0.0

    def _next(self, page: int, pages: int) -> str | None:
        if self._odd == "empty":
            return f"{self._mark}/{page}#{self._sent}"
        if self._odd == "same" and page:
            return f"{self._mark}/{page}"
        if self._odd == "cycle" and page == pages - 1:
            return f"{self._mark}/{min(1, page)}"
        return f"{self._mark}/{page + 1}" if page + 1 < pages else None
