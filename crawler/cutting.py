"""Accounts into shards: many more than there are workers, so that whoever runs dry finds another one waiting.

Many accounts make one shard, and an account that is much of all makes several: its regions are dealt out. Nothing
smaller is: the rate of a registry in a region is learned, and kept, by one process.
"""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass

from crawler.errors import CrawlError, Fatal
from crawler.hints import Hints
from crawler.model import Account, Target

#: Shards for each worker, at least, where there are as many accounts: the last one is then 1/64 of its work.
SHARES = 64

#: Accounts of a shard at most. Each shard costs a record and a part, and is crawled anew if its worker is killed.
MOST = 50

#: The part of what one worker has to do from which on an account is cut. A smaller one stays whole: its regions would
#: have to be asked for before, and each piece is a shard.
LARGE = 1 / 16


@dataclass(frozen=True, slots=True)
class Group:
    """Accounts that make one shard; or one account, whose regions make `pieces` of them, if there are as many."""

    accounts: tuple[Account, ...]
    pieces: int = 1


def size_of(accounts: int, workers: int) -> int:
    """How many accounts make a shard, where nothing is known of them."""
    return max(1, min(MOST, accounts // (workers * SHARES)))


def pieces_of(part: float, workers: int) -> int:
    """How many shards an account makes that is this part of all that there is to do."""
    return math.ceil(part * workers * SHARES) if workers > 1 and part * workers > LARGE else 1


def cut(accounts: Sequence[Account], hints: Hints, workers: int) -> Iterator[Group]:
    """The accounts in groups, those first that hints know to take longest: a long one gets a group to itself."""
    size, total = size_of(len(accounts), workers), sum(map(hints.seconds, accounts))
    group: list[Account] = []
    known = 0.0
    for account in sorted(accounts, key=hints.seconds, reverse=True):
        part = hints.seconds(account) / total if total else 0.0
        if (pieces := pieces_of(max(part, 1 / len(accounts)), workers)) > 1:
            yield Group((account,), pieces)
            continue
        group.append(account)
        known += part
        if len(group) >= size or known >= 1 / (workers * SHARES):
            yield Group(tuple(group))
            group, known = [], 0.0
    if group:
        yield Group(tuple(group))


async def cut_listed(
    accounts: AsyncIterator[Account], hints: Hints, workers: int, waiting: list[Account]
) -> AsyncGenerator[Group]:
    """The accounts of a listing in groups, the larger the longer it turns out to be. Consume under `aclosing`.

    Where the listing fails, what came before is in groups first. Those that wait for others to make a group with are in
    `waiting`: after a cancellation that is what was missed.
    """
    total = sum(hints.accounts().values())
    seen = 0
    failure: CrawlError | None = None
    try:
        async for account in accounts:
            seen += 1
            part = hints.seconds(account) / total if total else 0.0
            if (pieces := pieces_of(max(part, 1 / seen), workers)) > 1:
                yield Group((account,), pieces)
                continue
            waiting.append(account)
            if len(waiting) >= size_of(seen, workers):
                yield _all_of(waiting)
    except Fatal:
        raise
    except CrawlError as error:
        failure = error
    if waiting:
        yield _all_of(waiting)
    if failure:
        raise failure


def _all_of(waiting: list[Account]) -> Group:
    group = Group(tuple(waiting))
    waiting.clear()
    return group


def deal(targets: Iterable[Target], hints: Hints, pieces: int) -> list[list[Target]]:
    """The targets of an account in so many lists at most, the longest first. Those of a region stay together."""
    regions = defaultdict[str, list[Target]](list)
    for target in targets:
        regions[target.region].append(target)
    seconds = {region: sum(map(hints.seconds_of, there)) for region, there in regions.items()}
    dealt: list[list[Target]] = [[] for _ in range(min(pieces, len(regions)))]
    loads = [(0.0, 0)] * len(dealt)  # seconds, and regions: of most no seconds are known
    for region in sorted(regions, key=seconds.__getitem__, reverse=True):
        lightest = min(range(len(dealt)), key=loads.__getitem__)
        dealt[lightest] += regions[region]
        loads[lightest] = loads[lightest][0] + seconds[region], loads[lightest][1] + 1
    return [dealt[index] for index in sorted(range(len(dealt)), key=loads.__getitem__, reverse=True)]


class Shares:
    """The accounts in n shares, 1-based, that need not be told to each other: equal hints give equal ones.

    What hints know to be long is spread evenly, all else by a hash of the account's id. `plan` names the division.
    """

    def __init__(self, shares: int, hints: Hints) -> None:
        self._shares = shares
        self._long: dict[str, int] = {}
        loads = [0.0] * shares
        for account_id, seconds in sorted(hints.accounts().items(), key=lambda item: (-item[1], item[0])):
            lightest = min(range(shares), key=loads.__getitem__)
            loads[lightest] += seconds
            self._long[account_id] = lightest + 1
        told = repr(sorted(self._long.items())).encode()
        self.plan = f"of {shares}" + (f", by hints {hashlib.sha256(told).hexdigest()[:16]}" if self._long else "")

    def of(self, account: Account) -> int:
        """The share that an account is in."""
        if (share := self._long.get(account.account_id)) is not None:
            return share
        digest = hashlib.sha256(account.account_id.encode()).digest()
        return int.from_bytes(digest[:8], "big") % self._shares + 1
