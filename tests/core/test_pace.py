"""The law of the pace, exact: against buckets that refuse as AWS documents them, on a clock of numbers."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawler.pace import Ceiling, Inflow, Pace, Quota


@dataclass
class Bucket:
    """`rate_at` tells tokens a second at a time; `starts` is what was asked for: when, and whether it was let in."""

    rate_at: Callable[[float], float]
    burst: float
    level: float = field(init=False)
    at: float = 0.0
    starts: list[tuple[float, bool]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.level = self.burst

    @classmethod
    def steady(cls, rate: float, burst: float) -> Bucket:
        return cls(lambda _: rate, burst)

    def take(self, now: float) -> bool:
        self.level = min(self.burst, self.level + (now - self.at) * self.rate_at(now))
        self.at = now
        passed = self.level >= 1 - 1e-9
        self.level -= passed
        self.starts.append((now, passed))
        return passed

    def refused(self, start: float = 0.0, end: float = 1e9) -> int:
        return sum(not passed for time, passed in self.starts if start <= time < end)

    def asked(self, start: float = 0.0, end: float = 1e9) -> int:
        return sum(start <= time < end for time, _ in self.starts)


def crawl(pace: Pace, bucket: Bucket, requests: int, *, slots: int = 8, latency: float = 0.03) -> float:
    """Ask until `requests` were let in; tell when the last answer came. Who is refused asks again."""
    now, left = 0.0, requests
    flying: list[tuple[float, int, bool]] = []
    while left:
        wait = latency
        while len(flying) < min(slots, left):
            wait = pace.wait(now) if pace.limited or not bucket.starts else 0.0
            if wait:
                break
            heapq.heappush(flying, (now + latency, pace.epoch, bucket.take(now)))
        if not flying or (wait and now + wait < flying[0][0]):
            now += min(wait, 1.0)
            continue
        now, epoch, passed = heapq.heappop(flying)
        if passed:
            left -= 1
            pace.answer(epoch)
        else:
            pace.refuse(now, epoch)
    return now


@pytest.mark.parametrize("seconds", [1, 2, 10])
@pytest.mark.parametrize("rate", [5, 20, 50, 200])
def test_whatever_the_bucket_it_is_emptied_and_seldom_refuses(rate: int, seconds: int) -> None:
    bucket = Bucket.steady(rate, rate * seconds)
    requests = max(400, rate * (seconds + 60))
    took = crawl(Pace(), bucket, requests, slots=16 if rate == 200 else 8)
    bound = (requests - rate * seconds) / rate
    assert bound <= took <= 1.06 * bound
    assert bucket.refused() <= 0.05 * bucket.asked()


@pytest.mark.parametrize("rate", [5, 20, 50])
def test_a_rate_that_halves_and_comes_back_is_followed(rate: int) -> None:
    bucket = Bucket(lambda now: rate / 2 if 60 <= now < 120 else rate, rate)
    took = crawl(Pace(), bucket, rate * 151)
    assert 180 <= took <= 1.10 * 180
    assert bucket.refused() <= 0.05 * bucket.asked()


def test_what_was_known_is_used_from_the_first_request() -> None:
    bucket = Bucket.steady(20, 40)
    took = crawl(Pace(known=Quota(20, 40)), bucket, 400)
    assert 18 <= took <= 1.02 * 18
    assert bucket.refused() <= 0.01 * bucket.asked()


def test_what_was_learned_is_what_the_bucket_is() -> None:
    pace = Pace()
    crawl(pace, Bucket.steady(20, 40), 1240)
    assert pace.quota is not None
    assert pace.quota.rate == pytest.approx(20, rel=0.005)
    assert pace.quota.burst == pytest.approx(40, abs=3)


@pytest.mark.parametrize("wrong", [Quota(40, 80), Quota(20, 400), Quota(5, 1), Quota(60, 1)])
def test_what_was_known_may_be_wrong(wrong: Quota) -> None:
    bucket = Bucket.steady(20, 40)
    took = crawl(Pace(known=wrong), bucket, 1240)
    assert took <= 1.25 * 60
    assert bucket.refused() <= 0.05 * bucket.asked()


@given(rate=st.floats(1, 200), seconds=st.floats(0.5, 20), latency=st.floats(0.002, 0.2))
def test_no_bucket_stops_it_or_is_overrun(rate: float, seconds: float, latency: float) -> None:
    bucket = Bucket.steady(rate, max(1.0, rate * seconds))
    requests = int(bucket.burst + 30 * rate)
    took = crawl(Pace(), bucket, requests, latency=latency)
    bound = max((requests - bucket.burst) / rate, requests * latency / 8)
    assert took <= 1.5 * bound + 5
    assert bucket.refused() <= 30 + 0.05 * bucket.asked()


def test_nothing_is_held_back_before_the_first_refusal() -> None:
    pace = Pace()
    assert [pace.wait(0.0) for _ in range(1000)] == [0.0] * 1000
    assert not pace.limited
    assert pace.quota is None


def test_the_first_refusal_gives_a_guess_that_late_answers_mend() -> None:
    pace = Pace()
    assert pace.wait(10.0) == 0.0
    for _ in range(40):
        pace.answer(0)
    pace.refuse(12.0, 0)
    # 40 tokens in 2 s, and a burst of 2 s of inflow: 10 a second, 20 of them the burst.
    assert repr(pace) == "<Pace 10/s burst=20>"
    pace.answer(0)
    assert repr(pace) == "<Pace 10.25/s burst=20.5>"
    assert pace.quota is None  # a guess is nothing to remember


def test_counting_from_refusal_to_refusal_tells_the_rate() -> None:
    inflow = Inflow.guess(30.0)
    for _ in range(50):
        counted = inflow.count(20.0, 1.0, 20.0)
        assert counted is not None
        inflow = counted
    assert inflow.rate == pytest.approx(20.0, rel=0.01)
    assert Inflow(20.0, 100.0).count(0.0, 1.0, 20.0) is None


def test_refusals_of_the_same_moment_correct_once() -> None:
    pace = Pace()
    pace.wait(0.0)
    pace.refuse(1.0, 0)
    before = repr(pace)
    for _ in range(7):
        pace.refuse(1.0, 0)
    assert repr(pace) == before
    assert pace.epoch == 1


def test_while_nothing_is_let_in_the_spacing_doubles_up_to_five_seconds() -> None:
    bucket = Bucket(lambda now: 20.0 if now < 10 or now >= 70 else 0.0, 40)
    took = crawl(Pace(), bucket, 1200)
    during = [time for time, _ in bucket.starts if 10.2 < time < 70]
    assert len(during) <= 20
    assert max(after - before for before, after in pairwise(during)) == pytest.approx(5.03)
    # Twenty a second again within seconds: 58 s of work, and 60 s of outage.
    assert took <= 58 + 60 + 6


def test_an_outage_of_a_very_slow_service_ends_too() -> None:
    pace = Pace(known=Quota(0.1, 1))
    pace.wait(0.0)
    now = 0.0
    for _ in range(60):
        now += 60
        pace.refuse(now, pace.epoch)
    assert "outage" in repr(pace)
    for _ in range(5):
        pace.answer(pace.epoch)
    assert "outage" not in repr(pace)


def test_what_the_service_asks_for_is_waited_for() -> None:
    pace = Pace()
    assert pace.wait(0.0) == 0.0
    pace.refuse(1.0, 0, retry_after=7.0)
    assert pace.wait(2.0) == 6.0
    pace.refuse(2.0, 1, retry_after=86400.0)
    assert pace.wait(2.0) == 60.0


def test_a_ceiling_spaces_the_starts_of_all_who_share_it() -> None:
    ceiling = Ceiling(4)
    listing, images = Pace(ceiling=ceiling), Pace(ceiling=ceiling)
    assert (listing.wait(0.0), images.wait(0.0)) == (0.0, 0.25)
    assert (images.wait(0.25), listing.wait(0.25)) == (0.0, 0.25)
    # No debt is made up for.
    assert (images.wait(9.0), images.wait(9.0)) == (0.0, 0.25)


def test_a_share_is_held_once_the_rate_is_known() -> None:
    bucket = Bucket.steady(20, 20)
    crawl(Pace(share=0.5), bucket, 1000)
    assert bucket.asked(20, 80) == pytest.approx(600, rel=0.1)
    assert bucket.refused(20, 80) == 0


def test_a_neighbour_that_needs_two_fifths_is_hardly_ever_refused() -> None:
    bucket = Bucket.steady(20, 40)
    refused = asked = 0
    take = bucket.take

    def shared(now: float) -> bool:
        nonlocal refused, asked
        while asked / 8 <= now:  # 8 a second, in step
            asked += 1
            before = len(bucket.starts)
            refused += not take(max(bucket.at, (asked - 1) / 8))
            del bucket.starts[before:]
        return take(max(bucket.at, now))

    bucket.take = shared  # type: ignore[method-assign]  # a fake in its place
    crawl(Pace(share=0.5), bucket, 1000)
    assert asked > 500
    assert refused <= 0.02 * asked


@pytest.mark.parametrize(
    ("pace", "shown"),
    [
        (Pace(), "<Pace unlimited>"),
        (Pace(known=Quota(20, 40)), "<Pace 20/s burst=40>"),
    ],
)
def test_it_shows_what_it_knows(pace: Pace, shown: str) -> None:
    assert repr(pace) == shown
