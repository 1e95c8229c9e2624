"""Token buckets, as AWS documents them: refilled at a rate, full at a burst, one for each account, region and API.

https://docs.aws.amazon.com/AmazonECR/latest/userguide/common-errors.html
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Throttle:
    """`rate` requests a second, `burst` at once; `retry_after_ms` goes into x-amz-retry-after (milliseconds)."""

    rate: float
    burst: float = 1.0
    retry_after_ms: int | None = None


class Buckets:
    """One bucket for each key, made full when first asked for."""

    def __init__(self) -> None:
        self._buckets: dict[object, tuple[float, float]] = {}

    def take(self, key: object, limit: Throttle, now: float) -> bool:
        """Whether a request at `now` (seconds) is let through. A refused one costs nothing."""
        level, since = self._buckets.get(key, (limit.burst, now))
        level = min(limit.burst, level + max(0.0, now - since) * limit.rate)
        passed = level >= 1.0
        self._buckets[key] = (level - 1.0 if passed else level, now)
        return passed
