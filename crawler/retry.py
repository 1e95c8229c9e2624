"""When to ask again, and how long to wait before: one policy, as one value, carried out by tenacity.

Full jitter (https://aws.amazon.com/builders-library/timeouts-retries-and-backoff-with-jitter/): each wait is uniform
between nothing and an exponential bound, so that callers refused together do not come back together.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import anyio
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception

from crawler.errors import CrawlError, Throttled
from crawler.model import Chain, Fetch, Page

T = TypeVar("T")

logger = logging.getLogger(__name__)

#: Seconds that a service's Retry-After is heeded for, at most. As long as the pace pauses for it.
LONGEST_PAUSE = 60.0


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How one request is repeated. Times are in seconds, read from anyio's clock.

    A wait is drawn from [0, min(cap, base * 2 ** (n - 1))] after the n-th failed attempt, and is never shorter than
    the service's own Retry-After, or `LONGEST_PAUSE`, for it may name days. No further attempt starts once `attempts`
    were made, or when its wait would end more than `seconds` after the first failure. `uniform` is `random.uniform`,
    given so that tests can know it.
    """

    attempts: int = 20
    seconds: float = 900.0
    base: float = 0.25
    cap: float = 20.0
    # Jitter keeps callers apart, it keeps no secret.
    uniform: Callable[[float, float], float] = random.uniform

    def wait(self, attempt: int, error: BaseException | None) -> float:
        """Seconds to wait after the given failed attempt (1-based)."""
        # 2.0 ** 1024 overflows; the bound stopped growing long before.
        bound = min(self.cap, self.base * 2.0 ** min(attempt - 1, 64))
        asked = error.retry_after if isinstance(error, Throttled) and error.retry_after else 0.0
        return max(self.uniform(0.0, bound), min(asked, LONGEST_PAUSE))


def _tell(state: RetryCallState) -> None:
    told = {"attempt": state.attempt_number, "seconds": round(state.upcoming_sleep, 3), "error": str(_failure(state))}
    logger.info("trying again", extra=told)


def _failure(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None


async def persist(call: Callable[[], Awaitable[T]], policy: RetryPolicy) -> T:
    """Await `call()` until it answers, fails for good, or the policy ends; then raise its last error as it is.

    Only `CrawlError`s that say `retryable` are repeated. Any other exception is a bug, or a cancellation.
    """
    try:
        # Outside of tenacity, which costs fifty microseconds a call: only those who need it pay for it.
        return await call()
    except CrawlError as error:
        if not error.retryable:
            raise
        failed: CrawlError | None = error
    first_failure = anyio.current_time()

    async def attempt() -> T:
        nonlocal failed
        if failed:
            # The attempt that was made already: tenacity counts it as the first, and waits before the second.
            error, failed = failed, None
            try:
                raise error
            finally:
                del error  # it holds this frame: a cycle, and with it the half megabyte that its page was read from
        return await call()

    def wait(state: RetryCallState) -> float:
        return policy.wait(state.attempt_number, _failure(state))

    def stop(state: RetryCallState) -> bool:
        # tenacity's own stop_after_delay reads the system clock, which a virtual clock cannot drive.
        late = anyio.current_time() + state.upcoming_sleep > first_failure + policy.seconds
        return late or state.attempt_number >= policy.attempts

    retrying = AsyncRetrying(
        sleep=anyio.sleep,
        wait=wait,
        stop=stop,
        retry=retry_if_exception(lambda error: isinstance(error, CrawlError) and error.retryable),
        before_sleep=_tell,
        reraise=True,
    )
    return await retrying(attempt)


def retry(fetch: Fetch[T], policy: RetryPolicy) -> Fetch[T]:
    """The same Fetch, each page persisted in."""

    def fetch_persistently(token: str | None) -> Awaitable[Page[T]]:
        return persist(partial(fetch, token), policy)

    return fetch_persistently


def counted(fetch: Fetch[T], chain: Chain) -> Fetch[T]:
    """The same Fetch; attempts and throttles are counted into `chain`.

    To be governed after that: what waits for its turn has asked for nothing yet.
    """

    async def fetch_and_count(token: str | None) -> Page[T]:
        chain.attempts += 1
        try:
            page = await fetch(token)
        except CrawlError as error:
            chain.throttled += isinstance(error, Throttled)
            chain.trouble = str(error)
            raise
        chain.trouble = None
        return page

    return fetch_and_count
