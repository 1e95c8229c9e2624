"""The images of one repository, from its pages into its rows."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing

from crawler.errors import Refused
from crawler.model import Chain, Fetch, ImageId
from crawler.pages import pages, unsent
from crawler.sinks import Rows


async def list_chain(begin: Callable[[Chain], Fetch[ImageId]], rows: Rows, chain: Chain, *, restarts: int) -> None:
    """Send the pages of one chain to `rows`. `begin` makes a Fetch that starts a new chain, and persists in each page.

    A token that is no longer honoured says nothing against the repository: it is listed anew, at most `restarts` times,
    and no row is sent twice. Refused on its first page it is the request itself that is wrong, which is raised.
    """
    sent: list[int | None] = []
    for restart in range(restarts + 1):
        try:
            async with aclosing(unsent(pages(begin(chain), chain), sent, chain)) as listing:
                async for page in listing:
                    await rows.send(page.items)
            break
        except Refused:
            if chain.last_token_hash is None or restart == restarts:
                raise
            chain.last_token_hash = None
            chain.restarts += 1
