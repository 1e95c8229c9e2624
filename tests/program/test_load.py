"""What `make load` goes by."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.load import IN_EACH, Look, grown, look, main

MB = 1_000_000


def looks(resident: list[int], descriptors: list[int]) -> list[Look]:
    return [
        Look(2.0 * at, size * MB, open_) for at, (size, open_) in enumerate(zip(resident, descriptors, strict=True))
    ]


@pytest.mark.parametrize(
    ("resident", "descriptors", "told"),
    [
        ([10, 60, 90, *[100] * 17], [*[50] * 20], ""),
        ([10, 60, *[100, 104] * 9], [*[50, 54] * 10], ""),
        ([*range(100, 140, 2)], [*[50] * 20], "resident memory has grown from 106 to 138 MB"),
        ([100 + at // 4 for at in range(20)], [*[50] * 20], "resident memory has grown from 100 to 104 MB"),
        ([*[100] * 20], [*range(50, 90, 2)], "open descriptors have grown from 68 to 88"),
        ([100] * 3, [50] * 3, "too short to tell: crawl more rows"),
    ],
)
def test_what_grows_is_told(resident: list[int], descriptors: list[int], told: str) -> None:
    assert grown(looks(resident, descriptors)) == told


def test_one_that_has_ended_is_not_looked_at() -> None:
    """Nor counted as one of no memory, beside which what came before it would be no growth."""
    assert look(os.getpid(), 0.0)
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert look(process.pid, 0.0) is None


@pytest.mark.slow
def test_every_row_is_counted_though_requests_fail(capsys: pytest.CaptureFixture[str]) -> None:
    main(40 * IN_EACH)
    printed = capsys.readouterr().out
    assert "\n2,000,000 rows in" in printed
    assert "\npublished: 10,000,000 rows in" in printed
