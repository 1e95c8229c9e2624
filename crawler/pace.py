"""The rate of one operation, learned from what the service refuses.

AWS counts requests with token buckets: each request takes a token, a refused one none, tokens flow in at a fixed rate
and no more than a burst of them is kept (https://docs.aws.amazon.com/AmazonECR/latest/userguide/common-errors.html;
the numbers for listing are not published). So we keep the same bucket here, and correct it at each refusal:

- A refusal says that the bucket is dry. From one to the next as many tokens flowed in as requests were answered, give
  or take one: counting tells the rate, and its error is 1 / seconds counted.
- A little more is asked for than is known to flow in, so that a refusal comes now and then, and the count goes on.
- When none comes although more was answered than the rate explains, the rate has grown: ask for more, soon much more.
- When more is missing than the count can err, it has shrunk: count anew from where it went missing.

Rejected, since they pay again and again for what counting learns once (figures: benchmarks/README.md): AIMD, which
gives up half at each refusal, and CUBIC as in botocore's adaptive mode.
"""

from __future__ import annotations

from dataclasses import dataclass

#: Seconds of inflow that a full bucket is taken for at the first refusal, when its burst and rate cannot be told apart.
_BURST_SECONDS = 2.0

#: The lowest rate guessed there: a refusal after a few answers may only say that somebody else had just asked a lot.
_LOWEST_FIRST = 2.0

#: Tokens that a guessed rate is worth beside those counted after it.
_GUESSED = 2.0

#: Seconds that a rate known from elsewhere is worth beside those counted here, and that are counted at most.
_MEMORY = 300.0

#: Surplus asked for: one token in so many seconds, growing; at most the first part of a low rate, at least the second
#: part of a high one. This is the price of knowing: 0.5 to 3 % of the requests are refused for it.
_PROBE_SECONDS, _PROBE_MOST, _PROBE_LEAST = 8.0, 0.015, 0.005

#: Tokens unexplained that prove a higher rate; beside them, in seconds of the rate, what latency leaves uncertain.
_PROOF, _PROOF_SECONDS = 1.5, 0.02

#: From there on, so many tokens more double what is asked for.
_RAMP, _RAMP_SECONDS = 4.0, 0.5

#: Tokens by which a count may err, and by how many it proves another rate.
_NOISE, _NOISE_SECONDS = 1.0, 0.03
_DISPROOF, _DISPROOF_SECONDS = 3.0, 0.05
_MISSED = 0.5

#: Seconds between two requests, at most, while none is answered; and the lowest rate that is ever guessed.
_OUTAGE_SPACING = 5.0
_LOWEST = 1 / _OUTAGE_SPACING

#: With a share of the rate only: tokens counted before it is held, and seconds before the rate is looked for again.
_LEARNED, _HELD = 20.0, 300.0

#: Seconds for which nothing starts, at most, when the service names more: it may mean one request, and days.
_LONGEST_PAUSE = 60.0

#: Tokens that may flow over before the bucket is taken for full.
_LOST = 2.0

_TINY = 1e-9


@dataclass(frozen=True, slots=True)
class Quota:
    """A token bucket: `rate` tokens flow in a second, `burst` are kept at most."""

    rate: float
    burst: float


class Ceiling:
    """A rate that is never exceeded by all who share it, its starts evenly spaced: no debt is made up for."""

    def __init__(self, rate: float) -> None:
        self.spacing = 1 / rate
        self.next = 0.0


class Inflow:
    """How many tokens flow in a second, counted between refusals. Times in seconds."""

    def __init__(self, rate: float, seconds: float) -> None:
        self.rate = rate
        self.tokens = rate * seconds
        self.seconds = seconds
        self._missing = 0.0
        self._since = (0.0, 0.0)  # tokens and seconds, from where they began to go missing

    @classmethod
    def guess(cls, rate: float) -> Inflow:
        """A rate that the next few tokens may overrule."""
        rate = max(rate, _LOWEST)
        return cls(rate, _GUESSED / rate)

    def count(self, tokens: float, seconds: float, asked: float) -> Inflow | None:
        """What is known after one window more, at whose end `asked` was the rate asked for; None: nothing flows."""
        more = tokens - self.rate * seconds
        tolerance = _DISPROOF + _DISPROOF_SECONDS * self.rate
        if more > tolerance:
            # What was asked for outran the rate by twice at most, or the bucket had saved little: then it was counted.
            return max(Inflow.guess(asked / 2), Inflow(tokens / seconds, seconds), key=lambda inflow: inflow.rate)
        # A window of a rate that has shrunk misses about one token, whatever its length; one that misses less speaks
        # against those before it.
        self._missing = max(self._missing - more, 0.0) if more < -_MISSED else self._missing / 2
        if self._missing <= _NOISE + _NOISE_SECONDS * self.rate:
            self._since = (0.0, 0.0)
        else:
            self._since = (self._since[0] + tokens, self._since[1] + seconds)
        if self._missing > tolerance:
            tokens, seconds = self._since
            return Inflow(tokens / seconds, seconds) if tokens else None
        self.add(tokens, seconds)
        self.rate = self.tokens / self.seconds
        if self.seconds > 2 * _MEMORY:
            self.tokens, self.seconds = self.tokens / 2, self.seconds / 2
        return self

    def add(self, tokens: float, seconds: float) -> None:
        """Count what tells nothing yet: the rate stands until the next window."""
        self.tokens += tokens
        self.seconds += seconds


class Pace:
    """When the next request may start. It has no clock: times are given, in seconds.

    Nothing is held back before the first refusal, unless a quota is `known` or there is a `ceiling`. `share` is
    the part of the learned rate that is used: the rest is left to others.

    `limited` is False while every request may start at once. `epoch` names the time between two corrections: requests
    that started in an earlier one say nothing against the present rate.
    """

    def __init__(self, *, known: Quota | None = None, ceiling: Ceiling | None = None, share: float = 1.0) -> None:
        self._ceiling = ceiling
        self._share = share
        self._inflow = Inflow(known.rate, _MEMORY) if known else None
        self._burst = known.burst if known else 1.0
        self._held = known is not None and share < 1
        self._begun = self._ramping = False
        self._level = self._at = self._not_before = 0.0
        # The window since the newest refusal, or since the bucket was full: answers in it, and what has flowed over.
        self._answers, self._since, self._full, self._lost = 0, 0.0, True, 0.0
        # Answers and seconds until the first refusal, and whether the newest one emptied a bucket that had been full:
        # to what was under way then, answers come late.
        self._first: tuple[int, float] | None = None
        self._emptied = False
        self._outage: float | None = None
        self.limited = True
        self.epoch = 0

    def __repr__(self) -> str:
        learned = f"{self._inflow.rate:.4g}/s burst={self._burst:.4g}" if self._inflow else "unlimited"
        return f"<Pace {learned}{' outage' if self._outage else ''}>"

    @property
    def quota(self) -> Quota | None:
        """What is known of the service's bucket; None while nothing was refused, or little was counted since."""
        if self._inflow is None or (self._inflow.tokens < _LEARNED and not self._outage):
            return None
        return Quota(self._outage or self._inflow.rate, self._burst)

    def wait(self, now: float) -> float:
        """Seconds to wait before asking again whether a request may start. 0: it may, and counts as started."""
        if not self._begun:
            self._begin(now)
        start = max(now, self._not_before, self._ceiling.next if self._ceiling else 0.0)
        if self._inflow:
            rate = self._asked(self._inflow, now)
            self._fill(now, rate)
            start = max(start, now + (1.0 - self._level) / rate)
        if start > now + _TINY:
            return start - now
        self._level -= 1.0
        if self._ceiling:
            self._ceiling.next = start + self._ceiling.spacing
        return 0.0

    def answer(self, epoch: int) -> None:
        """Count a request that started in `epoch` and was let in: it took a token."""
        if self._first and epoch != self.epoch:
            # Under way when the first refusal came: the bucket had held one more.
            self._identify(self._first[0] + 1, self._first[1])
        elif self._emptied and epoch != self.epoch:
            self._burst += 1
        else:
            self._answers += 1
        if self._outage and self._inflow:
            # A service that was out is not slow: back to the rate that it had, in a few steps.
            self._inflow = Inflow.guess(min(self._outage, 4 * self._inflow.rate))
            if self._inflow.rate >= self._outage:
                self._outage, self._answers, self._since = None, 0, self._at

    def refuse(self, now: float, epoch: int, retry_after: float | None = None) -> None:
        """Correct the rate: a request that started in `epoch` was refused. Nothing starts for `retry_after` seconds."""
        if not self._begun:
            self._begin(now)
        if epoch == self.epoch:
            self.epoch += 1
            self._correct(now, max(now - self._since, _TINY))
        elif self._inflow and not self._first and not self._outage:
            # Dry still: what flowed in since is counted, and says nothing against the rate.
            self._inflow.add(self._answers, now - self._since)
        self.limited = True
        self._not_before = max(self._not_before, now + min(retry_after or 0.0, _LONGEST_PAUSE))
        self._level, self._at = min(self._level, 0.0), max(self._at, now)
        self._answers, self._since, self._full, self._lost = 0, now, False, 0.0
        self._ramping = False

    def _begin(self, now: float) -> None:
        self._begun = True
        self._since = self._at = now
        self._level = self._burst * self._share
        self.limited = self._inflow is not None or self._ceiling is not None

    def _asked(self, inflow: Inflow, now: float) -> float:
        """The rate to ask for now."""
        rate, seconds = inflow.rate, now - self._since
        if self._outage:
            return rate
        if self._held:
            if seconds < _HELD:
                return rate * self._share
            # Nobody was refused for long: others may need less now, or AWS grant more.
            self._held, self._full, self._answers, self._since, seconds = False, True, 0, now, 0.0
        probe = max(min(1 / _PROBE_SECONDS, rate * _PROBE_MOST), rate * _PROBE_LEAST)
        rate_asked = rate + max(probe * (1 + seconds / _PROBE_SECONDS), 1 / inflow.seconds)
        explained = rate * seconds + (self._burst if self._full else 0.0)
        unexplained = self._answers - explained - _PROOF - _PROOF_SECONDS * rate
        self._ramping = unexplained > 0
        return rate_asked * (1 + max(unexplained, 0.0) / (_RAMP + _RAMP_SECONDS * rate))

    def _fill(self, now: float, rate: float) -> None:
        """Let tokens flow in since the last time."""
        self._level += max(now - self._at, 0.0) * rate
        self._at = max(self._at, now)
        over = self._level - max(1.0, self._burst * self._share)
        if over <= 0 or self._ramping:
            return
        # What flows over is lost, so its time does not count.
        self._level -= over
        self._lost += over
        self._since += over / rate
        if self._lost > _LOST and not self._held:
            self._full, self._answers, self._since = True, 0, now

    def _correct(self, now: float, seconds: float) -> None:
        """The bucket is dry, `seconds` after the window began."""
        if self._inflow is None:
            self._identify(self._answers, seconds)
            return
        self._first, self._emptied = None, False
        if self._outage:
            if self._answers:
                self._outage, self._inflow = None, Inflow(self._answers / seconds, seconds)
            else:
                self._inflow = Inflow.guess(self._inflow.rate / 2)
            return
        tokens, rate = float(self._answers), self._inflow.rate
        if self._full:
            if rate * seconds < self._burst:
                self._burst, self._emptied = max(1.0, tokens - rate * seconds), True
                return
            tokens = max(tokens - self._burst, 0.0)
        part = self._share if self._held else 1.0
        counted = self._inflow.count(tokens / part, seconds, self._asked(self._inflow, now))
        if counted is None:
            self._outage, counted = rate, Inflow.guess(min(1 / seconds, rate / 2))
        self._inflow = counted
        self._held = self._share < 1 and counted.tokens >= _LEARNED

    def _identify(self, tokens: int, seconds: float) -> None:
        """Guess at the first refusal, after so many answers in so many seconds: tokens = burst + rate × seconds."""
        self._first = (tokens, seconds)
        self._inflow = Inflow.guess(max(tokens / (seconds + _BURST_SECONDS), _LOWEST_FIRST))
        self._burst = max(1.0, tokens - self._inflow.rate * seconds)
