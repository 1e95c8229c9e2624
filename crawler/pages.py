"""Follow nextToken to the end of one chain, and stop loudly where there is none."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
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
    neighbours, so tokens A, B, A, B would keep it busy for ever), when a page does, by its fingerprint, or after
    `empty_pages_cap` empty pages in a row. A page that comes again is not yielded again; any other is, before its token
    is judged: what was fetched is never withheld. Consume under `aclosing`.
    """
    seen: set[str] = set()
    held: set[int] = set()
    empty = 0
    token: str | None = None
    while True:
        page = await fetch(token)
        chain.pages += 1
        if page.items and page.fingerprint is not None:
            if page.fingerprint in held:
                raise ChainBroken("RepeatedPage", f"page {chain.pages} holds what an earlier page of its chain held")
            held.add(page.fingerprint)
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
        del page  # not kept while the next one is fetched, here and below: memory is used again while it is warm
        if empty >= empty_pages_cap:
            raise ChainBroken("EmptyPages", f"{empty} empty pages in a row, each with a token for one more")


async def each_once(
    fetch: Fetch[T], chain: Chain, name: Callable[[T], str], *, empty_pages_cap: int = EMPTY_PAGES_CAP
) -> AsyncGenerator[list[T]]:
    """Yield of each page of one chain the items that no earlier one has named. Consume under `aclosing`.

    Raises `ChainBroken` as `pages` does, and for a page with items that names nothing new: what there is to name has an
    end, so a listing that never ends cannot go on for ever either. Keeps all names; not for images.
    """
    named: set[str] = set()
    async with aclosing(pages(fetch, chain, empty_pages_cap=empty_pages_cap)) as listing:
        async for page in listing:
            new: dict[str, T] = {}
            for item in page.items:
                if (key := name(item)) not in named:
                    new.setdefault(key, item)
            if page.items and not new:
                raise ChainBroken("RepeatedPage", f"page {chain.pages} names nothing that was not named before")
            named.update(new)
            yield list(new.values())


async def unsent(listing: AsyncGenerator[Page[T]], sent: list[int | None], chain: Chain) -> AsyncGenerator[Page[T]]:
    """Yield the pages of a listing that are not those of an earlier one, which a refused token cut off.

    `sent` are the fingerprints of the pages yielded so far, and grows. Not a hash for each row, which would find new
    ones in any order: that is a tenth of all our CPU, spent for a token that hardly any run sees refused. What came
    before takes its items back from `chain`. Raises `ChainBroken` where it does not come again as it was, since which
    rows are new cannot be told then. Consume under `aclosing`; closes `listing`.
    """
    again = deque(sent)
    async with aclosing(listing):
        async for page in listing:
            if page.items and again:
                chain.items -= len(page.items)
                known = again.popleft()
                if known is None or known != page.fingerprint:
                    message = "the token of a page was refused, and what is listed anew is not what was; run again"
                    raise ChainBroken("ListingChanged", message)
            elif page.items:
                yield page
                sent.append(page.fingerprint)
            del page
