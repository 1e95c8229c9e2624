"""Follow nextToken to the end of one chain, and stop loudly where there is none."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from hashlib import blake2b
from typing import TypeVar

from crawler.errors import ChainBroken
from crawler.model import Chain, Fetch, Page

T = TypeVar("T")

#: Consecutive empty pages that are followed. Services may send some where a filter leaves nothing of a page.
EMPTY_PAGES_CAP = 100


def token_hash(token: str) -> str:
    """A short name for a token: 32 hex digits. Tokens are opaque, long, and not for logs."""
    return blake2b(token.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


async def pages(fetch: Fetch[T], chain: Chain, *, empty_pages_cap: int = EMPTY_PAGES_CAP) -> AsyncGenerator[Page[T]]:
    """Yield the pages of one chain in order, empty ones included, and keep `chain` up to date.

    Raises `ChainBroken` when a token comes a second time, however far apart the two are (botocore's paginator sees only
    neighbours, so tokens A, B, A, B would keep it busy for ever), or after `empty_pages_cap` empty pages in a row.
    Each page is yielded before its token is judged: what was fetched is never withheld. Consume under `aclosing`.
    """
    seen: set[str] = set()
    empty = 0
    token: str | None = None
    while True:
        page = await fetch(token)
        chain.pages += 1
        chain.items += len(page.items)
        yield page
        token = page.next_token
        if token is None:
            return
        mark = token_hash(token)
        if mark in seen:
            raise ChainBroken("RepeatedToken", f"page {chain.pages} points back to an earlier page: token {mark}")
        seen.add(mark)
        chain.last_token_hash = mark
        empty = 0 if page.items else empty + 1
        if empty >= empty_pages_cap:
            raise ChainBroken("EmptyPages", f"{empty} empty pages in a row, each with a token for one more")
