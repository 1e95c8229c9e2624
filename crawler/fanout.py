"""Bounded fan-out: a slot first, then the item, then the task."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable
from typing import Generic, TypeVar

import anyio

from crawler.errors import CrawlError, Fatal

T = TypeVar("T")


async def for_each(
    work: Callable[[T], Awaitable[None]], items: AsyncIterable[T], *, at_once: int | anyio.Semaphore
) -> None:
    """Run `work` on every item, at most `at_once` at a time; return when all have ended. Order is not kept.

    An item is asked for only when a slot is free, so a slow consumer holds its source back and memory does not grow
    with the number of items. A semaphore in place of a number lets several callers share one bound.

    An exception in `work` cancels the others and leaves in an exception group (anyio's task group). A source that
    fails as expected (`CrawlError`) ends the items: what was begun is finished first, or cancelled where the failure
    is `Fatal`; then it is raised bare. Several tasks take items in turn: the source must not yield inside a scope.
    """
    source = _Source(items, anyio.Semaphore(at_once, fast_acquire=True) if isinstance(at_once, int) else at_once)
    waiting = 1

    async def worker() -> None:
        # One item after another: a task for each would cost a tenth of what a small repository does in all.
        nonlocal waiting
        while taken := await source.take():
            waiting -= 1
            if not waiting:
                waiting += 1
                group.start_soon(worker)
            try:
                await work(*taken)
            finally:
                source.slots.release()
            del taken
            waiting += 1
        if isinstance(source.failure, Fatal):
            group.cancel_scope.cancel()

    async with anyio.create_task_group() as group:
        # The first worker is this task itself: most registries hold nothing, and need no other.
        await worker()
    if source.failure:
        raise source.failure


class _Source(Generic[T]):
    """Items for several tasks, each with a slot; what ends them for one ends them for all."""

    def __init__(self, items: AsyncIterable[T], slots: anyio.Semaphore) -> None:
        self.slots = slots
        self.failure: CrawlError | None = None
        self._iterator = aiter(items)
        self._turn = anyio.Lock(fast_acquire=True)
        self._ended = False

    async def take(self) -> tuple[T] | None:
        """The next item, and a slot that is the caller's to release; None when there is none any more."""
        # The turn before the slot: while the source is slow, one slot waits for it, and not all that are free.
        async with self._turn:
            if self._ended:
                return None
            await self.slots.acquire()
            try:
                return (await anext(self._iterator),)
            except BaseException as error:
                self.slots.release()
                if isinstance(error, CrawlError):
                    self.failure = error
                elif not isinstance(error, StopAsyncIteration):
                    raise
            self._ended = True
            return None


async def take(waiting: deque[T]) -> AsyncGenerator[T]:
    """Hand out what waits, leaving in `waiting` what was never taken: after a cancellation that is what was missed.

    Consume under `aclosing`.
    """
    while waiting:
        yield waiting.popleft()
