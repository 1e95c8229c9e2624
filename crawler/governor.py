"""How many requests a target has in flight, and how fast they start."""

from __future__ import annotations

from typing import TypeVar

import anyio

from crawler.model import Fetch, Page

T = TypeVar("T")


class Governor:
    """Slots and pace of one registry in one region, shared by all its chains.

    `slots` requests at most are in flight; at most `max_rps` start in a second, evenly spaced (None: no limit).
    A Fetch governed inside its retry, `retry(governor.govern(call))`, gives its slot back while it waits to try
    again; the other way round one throttled chain would hold up its neighbours.
    """

    def __init__(self, *, slots: int, max_rps: float | None = None) -> None:
        self._slots = anyio.Semaphore(slots, fast_acquire=True)
        self._spacing = 1 / max_rps if max_rps else 0.0
        self._next_start = 0.0

    def __repr__(self) -> str:
        return f"<Governor free={self._slots.value} spacing={self._spacing:g}s>"

    def govern(self, fetch: Fetch[T]) -> Fetch[T]:
        """The same Fetch, started when it has a slot and its turn."""

        async def fetch_in_turn(token: str | None) -> Page[T]:
            async with self._slots:
                if self._spacing:
                    await self._turn()
                return await fetch(token)

        return fetch_in_turn

    async def _turn(self) -> None:
        now = anyio.current_time()
        start = max(now, self._next_start)
        self._next_start = start + self._spacing
        await anyio.sleep(start - now)
