"""The laws that lost: what `crawler.pace` was compared with, behind the same methods."""

from __future__ import annotations

from abc import ABC, abstractmethod


class _Paced(ABC):
    """A token bucket that is filled at `rate`, as the laws change it; unlimited before the first refusal."""

    def __init__(self) -> None:
        self.limited, self.epoch = True, 0
        self.rate = 0.0
        self.burst = 1.0
        self._level = self._at = self._now = 0.0
        self._answers, self._since = 0, 0.0

    quota = None

    def wait(self, now: float) -> float:
        """See `Pace`."""
        self._now = now
        if not self.rate:
            self.limited = False
            return 0.0
        self.grow(now)
        self._level = min(self.burst, self._level + (now - self._at) * self.rate)
        self._at = now
        if self._level < 1 - 1e-9:
            return (1 - self._level) / self.rate
        self._level -= 1
        return 0.0

    def answer(self, epoch: int) -> None:  # noqa: ARG002  (as the protocol has it)
        """See `Pace`."""
        self._answers += 1

    def refuse(self, now: float, epoch: int, retry_after: float | None = None) -> None:  # noqa: ARG002  (as the protocol has it)
        """See `Pace`."""
        self._now, self.limited = now, True
        self._level, self._at = min(self._level, 0.0), max(self._at, now)
        if epoch == self.epoch:
            self.epoch += 1
            self.shrink(now)

    @abstractmethod
    def grow(self, now: float) -> None:
        """Set the rate, since nothing was refused up to now."""

    @abstractmethod
    def shrink(self, now: float) -> None:
        """Set the rate, since something was refused."""


class Aimd(_Paced):
    """Additive increase, multiplicative decrease: as TCP Reno, with a request a second more in each second."""

    INCREASE, DECREASE = 1.0, 0.5

    def grow(self, now: float) -> None:
        """One more a second."""
        self.rate += self.INCREASE * (now - self._since)
        self._since = now

    def shrink(self, now: float) -> None:
        """Half of it; at the first refusal, half of what was measured."""
        measured = self._answers / max(now, 0.5)
        self.rate = max((self.rate or measured) * self.DECREASE, 0.5)
        self._since = now


class Cubic(_Paced):
    """CUBIC, with the numbers of botocore's adaptive mode: β 0.7, C 0.4, between 0.5/s and twice what is measured.

    Written anew from its description in the AWS SDKs' reference guide, on our clock.
    """

    BETA, SCALE, LEAST = 0.7, 0.4, 0.5
    _SMOOTH, _BIN = 0.8, 0.5

    def __init__(self) -> None:
        super().__init__()
        self._measured = self._last_max = self._last_refused = self._bin = 0.0
        self._in_bin = 0

    def answer(self, epoch: int) -> None:
        """See `Pace`."""
        super().answer(epoch)
        self._measure()

    def _measure(self) -> None:
        self._in_bin += 1
        if self._now - self._bin >= self._BIN:
            rate = self._in_bin / (self._now - self._bin)
            self._measured = rate * self._SMOOTH + self._measured * (1 - self._SMOOTH)
            self._in_bin, self._bin = 0, self._now

    def grow(self, now: float) -> None:
        """Along the cubic, from the last refusal on."""
        window = (self._last_max * (1 - self.BETA) / self.SCALE) ** (1 / 3)
        wanted = self.SCALE * (now - self._last_refused - window) ** 3 + self._last_max
        self.rate = max(min(wanted, 2 * self._measured), self.LEAST)
        self.burst = max(self.rate, 1.0)

    def shrink(self, now: float) -> None:
        """To 0.7 of what was measured, or allowed."""
        self._measure()
        used = min(self._measured, self.rate) if self.rate else self._measured
        self._last_max, self._last_refused = used, now
        self.rate = max(used * self.BETA, self.LEAST)
        self.burst = max(self.rate, 1.0)
