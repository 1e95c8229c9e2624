"""Bounded fan-out: a slot first, then the item, then the task."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable
from typing import Generic, TypeVar

import anyio
from anyio.abc import TaskGroup

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
    iterator = aiter(items)
    if isinstance(at_once, anyio.Semaphore):
        await _FanOut(work, iterator, at_once).run()
        return
    # Most registries hold nothing, and what is only made for more is a tenth of what such a one costs.
    try:
        first = await anext(iterator)
    except StopAsyncIteration:
        return
    slots = anyio.Semaphore(at_once, fast_acquire=True)
    slots.acquire_nowait()
    await _FanOut(work, iterator, slots).run((first,))


class _FanOut(Generic[T]):
    """Tasks that take items in turn, each with a slot; what ends the items for one ends them for all.

    Not functions within a function: one that starts itself is a cycle, which only the collector takes away.
    """

    def __init__(self, work: Callable[[T], Awaitable[None]], items: AsyncIterator[T], slots: anyio.Semaphore) -> None:
        self._work = work
        self._items = items
        self._slots = slots
        self._turn = anyio.Semaphore(1, fast_acquire=True)  # a Lock looks up its task at every turn
        self._waiting = 1
        self._ended = False
        self._failure: CrawlError | None = None

    async def run(self, taken: tuple[T] | None = None) -> None:
        """Until all have ended. `taken` is an item that has a slot already."""
        if first := taken or await self._take():
            async with anyio.create_task_group() as group:
                await self._worker(group, first)
        if self._failure:
            raise self._failure

    async def _worker(self, group: TaskGroup, taken: tuple[T] | None) -> None:
        # One item after another: a task for each would cost a tenth of what a small repository does in all.
        while taken := taken or await self._take():
            self._waiting -= 1
            if not self._waiting:
                self._waiting += 1
                group.start_soon(self._worker, group, None)
            try:
                await self._work(*taken)
            finally:
                self._slots.release()
            taken = None
            self._waiting += 1
        if isinstance(self._failure, Fatal):
            group.cancel_scope.cancel()

    async def _take(self) -> tuple[T] | None:
        """The next item, and a slot that is the caller's to release; None when there is none any more."""
        # The turn before the slot: while the source is slow, one slot waits for it, and not all that are free.
        async with self._turn:
            if self._ended:
                return None
            await self._slots.acquire()
            try:
                return (await anext(self._items),)
            except BaseException as error:
                self._slots.release()
                if isinstance(error, CrawlError):
                    self._failure = error
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
