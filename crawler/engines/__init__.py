"""Who crawls which accounts. Never how: no paging, retrying or writing here.

`Crawl` itself is the first engine: this process crawls everything. `Dispatch` is the other: it cuts the accounts into
shards, and has a `Crew` crawl them. A new engine is a new crew (docs/how-to/engine.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from crawler.model import Account, Organization
from crawler.shard import Report, Shard
from crawler.wanted import Unmatched


class Engine(Protocol):
    """Crawls accounts; how each unit ended goes to the ledger. `regions` and `repositories` are as in `Crawl`."""

    regions: Unmatched
    repositories: Unmatched

    async def accounts(self, accounts: Iterable[Account]) -> None:
        """Crawl these accounts."""
        ...

    async def organization(self, organization: Organization, selects: Callable[[Account], bool]) -> None:
        """Crawl the accounts of an organization that are selected, beginning while it is still being listed."""
        ...


class Lost(Exception):
    """Whoever had the shard is no more; nothing of it counts, and it may be crawled again. The text says who it was."""


class Crew(Protocol):
    """Crawls shards elsewhere, each by the one function that crawls shards (`shard_crawl.crawl_shard`).

    At most `at_once` are asked for at a time, which is `workers` times what each of them is to have.
    """

    workers: int
    at_once: int

    async def crawl(self, shard: Shard) -> Report:
        """Have the shard crawled. Raises `Lost`; or `Fatal` for what no shard would survive."""
        ...

    async def stop(self, shard: Shard) -> Report | None:
        """Stop a shard whose `crawl` was cancelled, and return what came of it until then, None if that is lost."""
        ...
