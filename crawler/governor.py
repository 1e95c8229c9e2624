"""How many requests are in flight, and when they start."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import TypeVar, TypeVarTuple

import anyio

from crawler.errors import CrawlError, Throttled
from crawler.model import Fetch, Page, RowKind
from crawler.pace import Ceiling, Pace, Quota

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")

#: Seconds after which who waits for its turn looks again: what others were answered meanwhile may shorten the wait.
LONGEST_SLEEP = 1.0


class Governor:
    """Slots and pace of one operation, shared by all who ask for it.

    At most `slots` requests are in flight (a semaphore lets several governors share one bound), and each starts when
    `pace` says so, which learns from every refusal (`Throttled`) on its way to whoever retries. A Fetch governed inside
    its retry, `retry(governor.govern(call))`, gives its slot back while it waits to try again; the other way round one
    throttled chain would hold up its neighbours.
    """

    def __init__(self, *, slots: int | anyio.Semaphore, pace: Pace) -> None:
        self._slots = anyio.Semaphore(slots) if isinstance(slots, int) else slots
        self._turn: anyio.Lock | None = None
        self.pace = pace

    def __repr__(self) -> str:
        return f"<Governor free={self._slots.value} {self.pace!r}>"

    def govern(self, fetch: Fetch[T]) -> Fetch[T]:
        """The same Fetch, started when it has a slot and its turn."""

        def fetch_in_turn(token: str | None) -> Awaitable[Page[T]]:
            return self.run(fetch, token)

        return fetch_in_turn

    async def run(self, call: Callable[[*Arguments], Awaitable[T]], *arguments: *Arguments) -> T:
        """Await `call(*arguments)`, started when it has a slot and its turn."""
        try:
            self._slots.acquire_nowait()  # not `async with`, for which every request would pay
        except anyio.WouldBlock:
            await self._slots.acquire()
        pace = self.pace
        try:
            # Where nobody waits, and nothing has to be waited for, there is no need of a turn.
            if pace.limited and (self._turn or pace.wait(anyio.current_time())):
                await self._wait()
            epoch = pace.epoch
            try:
                answer = await call(*arguments)
            except Throttled as refusal:
                pace.refuse(anyio.current_time(), epoch, refusal.retry_after)
                raise
            except CrawlError:
                pace.answer(epoch)  # whatever was wrong, it was let in
                raise
            pace.answer(epoch)
            return answer
        finally:
            self._slots.release()

    async def _wait(self) -> None:
        # One watches the clock, the others wait for that one: so a correction holds for all who wait.
        if self._turn is None:
            self._turn = anyio.Lock(fast_acquire=True)
        async with self._turn:
            while seconds := self.pace.wait(anyio.current_time()):  # noqa: ASYNC110 - time itself is waited for
                await anyio.sleep(min(seconds, LONGEST_SLEEP))


def of_target(
    *,
    slots: int,
    max_rps: float | None,
    share: float,
    known: Mapping[str, Quota] = MappingProxyType({}),
    operations: tuple[str, str] = RowKind.IDS.operations,
) -> tuple[Governor, Governor]:
    """The governors of what lists repositories and of what lists images in one registry.

    Each of the `operations` has a rate of its own at AWS, which may be `known`. `slots` and `max_rps` hold for both
    together.
    """
    shared = anyio.Semaphore(slots)
    ceiling = Ceiling(max_rps) if max_rps else None
    listing, images = (
        Governor(slots=shared, pace=Pace(known=known.get(operation), ceiling=ceiling, share=share))
        for operation in operations
    )
    return listing, images
