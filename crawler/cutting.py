"""Accounts into shards: many more than there are workers, so that whoever runs dry finds another one waiting."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence

from crawler.hints import Hints
from crawler.model import Account

#: Shards for each worker, at least, where there are as many accounts: the last one is then 1/64 of its work.
SHARES = 64

#: Accounts of a shard at most. Each shard costs a record and a part, and is crawled anew if its worker is killed.
MOST = 50


def size_of(accounts: int, workers: int) -> int:
    """How many accounts make a shard, where nothing is known of them."""
    return max(1, min(MOST, accounts // (workers * SHARES)))


def cut(accounts: Sequence[Account], hints: Hints, workers: int) -> Iterator[tuple[Account, ...]]:
    """The accounts in groups, those first that hints know to take longest: a long one gets a group to itself."""
    size = size_of(len(accounts), workers)
    fair = sum(map(hints.seconds, accounts)) / (workers * SHARES)
    group: list[Account] = []
    seconds = 0.0
    for account in sorted(accounts, key=hints.seconds, reverse=True):
        group.append(account)
        seconds += hints.seconds(account)
        if len(group) >= size or (fair and seconds >= fair):
            yield tuple(group)
            group, seconds = [], 0.0
    if group:
        yield tuple(group)


async def cut_listed(accounts: AsyncIterator[Account], workers: int) -> AsyncGenerator[tuple[Account, ...]]:
    """The accounts of a listing in groups, the larger the longer it turns out to be. Consume under `aclosing`."""
    seen = 0
    group: list[Account] = []
    async for account in accounts:
        seen += 1
        group.append(account)
        if len(group) >= size_of(seen, workers):
            yield tuple(group)
            group = []
    if group:
        yield tuple(group)


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
