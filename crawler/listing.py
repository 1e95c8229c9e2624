"""The images of one repository, from its pages into its rows."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing

import anyio

from crawler.errors import CrawlError, Refused
from crawler.model import Chain, Fetch, Image, Part
from crawler.pages import pages, unsent
from crawler.sinks import Rows

#: Makes a Fetch that starts a new chain of a part (None: of all), persists in each page, and counts into the Chain.
Begin = Callable[[Part | None, Chain], Fetch[Image]]

Send = Callable[[Sequence[Image]], Awaitable[None]]


async def list_chain(begin: Begin, part: Part | None, send: Send, chain: Chain, *, restarts: int) -> None:
    """Send the pages of one chain.

    A token that is no longer honoured says nothing against the repository: it is listed anew, at most `restarts` times,
    and no row is sent twice. Refused on its first page it is the request itself that is wrong, which is raised.
    """
    sent: list[int | None] = []
    for restart in range(restarts + 1):
        try:
            async with aclosing(unsent(pages(begin(part, chain), chain), sent, chain)) as listing:
                async for page in listing:
                    await send(page.items)
                    del page  # a thousand rows are not kept while the next thousand are fetched
            break
        except Refused:
            if chain.last_token_hash is None or restart == restarts:
                raise
            chain.last_token_hash = None
            chain.restarts += 1


async def list_parts(begin: Begin, parts: Sequence[Part | None], rows: Rows, chain: Chain, *, restarts: int) -> None:
    """Send the pages of all parts to `rows`, their chains listed at once; `chain` becomes their sum.

    The first that fails ends the others: a repository is listed whole, or not. Its token is then the sum's.
    """
    if len(parts) == 1:
        await list_chain(begin, parts[0], rows.send, chain, restarts=restarts)
        return
    failed: list[tuple[CrawlError, Chain]] = []
    turn = anyio.Lock(fast_acquire=True)

    async def send_in_turn(images: Sequence[Image]) -> None:
        # The rows of a repository are sent one page at a time: a sink need not be made for more.
        async with turn:
            await rows.send(images)

    async def list_part(part: Part | None, own: Chain) -> None:
        try:
            await list_chain(begin, part, send_in_turn, own, restarts=restarts)
        except CrawlError as error:
            failed.append((error, own))
            group.cancel_scope.cancel()

    chain.parts = chains = [Chain() for _ in parts]
    try:
        async with anyio.create_task_group() as group:
            for part, own in zip(parts, chains, strict=True):
                group.start_soon(list_part, part, own)
    finally:
        chain.parts = ()
        for own in chains:
            chain.add(own)
    if failed:
        error, own = failed[0]
        chain.last_token_hash, chain.trouble = own.last_token_hash, own.trouble
        raise error
