"""Bounded fan-out: a slot first, then the item, then the task."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable
from typing import TypeVar

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
    is `Fatal`; then it is raised bare.
    """
    slots = anyio.Semaphore(at_once, fast_acquire=True) if isinstance(at_once, int) else at_once
    iterator = aiter(items)
    failure: CrawlError | None = None

    async def run(item: T) -> None:
        try:
            await work(item)
        finally:
            slots.release()

    async with anyio.create_task_group() as group:
        while True:
            await slots.acquire()
            try:
                item = await anext(iterator)
            except BaseException as error:
                slots.release()
                if isinstance(error, StopAsyncIteration):
                    break
                if isinstance(error, CrawlError):
                    failure = error
                    if isinstance(error, Fatal):
                        group.cancel_scope.cancel()
                    break
                raise
            group.start_soon(run, item)
    if failure:
        raise failure


async def take(waiting: deque[T]) -> AsyncGenerator[T]:
    """Hand out what waits, leaving in `waiting` what was never taken: after a cancellation that is what was missed.

    Consume under `aclosing`.
    """
    while waiting:
        yield waiting.popleft()
