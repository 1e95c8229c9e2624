"""How many shards a worker has at a time."""

from __future__ import annotations

import pytest

from crawler.crews import shards_of_each
from crawler.cutting import size_of


@pytest.mark.parametrize(
    ("accounts", "workers", "most", "each"),
    [
        (64, 1, None, 32),  # alone: nobody is to be left anything, and latency decides
        (64, 2, None, 16),  # half of what it is to have at once, the rest by who is done
        (64, 2, 8, 8),
        (400, 2, None, 11),  # of three accounts each
        (10_000, 2, None, 2),  # of fifty accounts each
        (16, 2, None, 32),  # cut by region
        (0, 2, None, 32),
        (0, 2, 8, 8),
        (1, 1, None, 2),
    ],
)
def test_a_worker_has_enough_to_be_busy_and_leaves_others_some(
    accounts: int, workers: int, most: int | None, each: int
) -> None:
    assert shards_of_each(32, accounts, workers, most) == each


def test_targets_at_once_are_of_each_worker() -> None:
    assert shards_of_each(64, 256, 2, None) * size_of(256, 2) == 64
