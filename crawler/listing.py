"""The images of one repository, from its pages into its rows."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing

import anyio

from crawler.errors import CrawlError, Refused
from crawler.model import Chain, Fetch, ImageId
from crawler.pages import pages, unsent
from crawler.sinks import Rows

#: Makes a Fetch that starts a new chain, persists in each page, and counts into the Chain.
Begin = Callable[[Chain], Fetch[ImageId]]

Send = Callable[[Sequence[ImageId]], Awaitable[None]]


async def list_chain(begin: Begin, send: Send, chain: Chain, *, restarts: int) -> None:
    """Send the pages of one chain.

    A token that is no longer honoured says nothing against the repository: it is listed anew, at most `restarts` times,
    and no row is sent twice. Refused on its first page it is the request itself that is wrong, which is raised.
    """
    sent: list[int | None] = []
    for restart in range(restarts + 1):
        try:
            async with aclosing(unsent(pages(begin(chain), chain), sent, chain)) as listing:
                async for page in listing:
                    await send(page.items)
            break
        except Refused:
            if chain.last_token_hash is None or restart == restarts:
                raise
            chain.last_token_hash = None
            chain.restarts += 1


async def list_parts(begins: Sequence[Begin], rows: Rows, chain: Chain, *, restarts: int) -> None:
    """Send the pages of several chains to `rows`, listed at once; `chain` becomes their sum.

    The first that fails ends the others: a repository is listed whole, or not. Its token is then the sum's.
    """
    if len(begins) == 1:
        await list_chain(begins[0], rows.send, chain, restarts=restarts)
        return
    parts = [Chain() for _ in begins]
    failed: list[tuple[CrawlError, Chain]] = []
    turn = anyio.Lock(fast_acquire=True)

    async def send_in_turn(image_ids: Sequence[ImageId]) -> None:
        # The rows of a repository are sent one page at a time: a sink need not be made for more.
        async with turn:
            await rows.send(image_ids)

    async def list_part(begin: Begin, part: Chain) -> None:
        try:
            await list_chain(begin, send_in_turn, part, restarts=restarts)
        except CrawlError as error:
            failed.append((error, part))
            group.cancel_scope.cancel()

    try:
        async with anyio.create_task_group() as group:
            for begin, part in zip(begins, parts, strict=True):
                group.start_soon(list_part, begin, part)
    finally:
        for part in parts:
            chain.add(part)
    if failed:
        error, part = failed[0]
        chain.last_token_hash, chain.trouble = part.last_token_hash, part.trouble
        raise error
