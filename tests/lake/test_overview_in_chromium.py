"""The page of ten thousand repositories in a browser: how large, how soon it is there, what it says to the console."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.lake.browser import CHROMIUM, LOOKS, pictures
from tests.lake.conftest import Zygote
from tests.lake.made_up import two_nights

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not CHROMIUM, reason="needs chromium: apt-get install chromium")]

MOST_BYTES, MOST_SECONDS = 5_000_000, 2.0


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, forks: Zygote) -> Path:
    folder = tmp_path_factory.mktemp("large")
    two_nights(folder / "out", 10_000)
    program, to = Zygote(folder, forks.process, {"TMPDIR": str(folder)}), folder / "page.html"
    assert program.run("report", "nightly-2026-01-31", "--output", f"{folder}/out/", "-o", str(to)) == 0, program.said()
    return to


def test_it_is_small_and_opens_at_once_and_asks_for_nothing(page: Path, tmp_path: Path) -> None:
    assert page.stat().st_size <= MOST_BYTES
    seconds, taken, complaints, width = asyncio.run(pictures(page, tmp_path))
    assert seconds <= MOST_SECONDS
    assert complaints == []
    assert len(set(taken.values())) == len(LOOKS)
    assert min(map(len, taken.values())) > 50_000  # of one colour it would be a few hundred bytes
    # No part of the page stands out of it on a narrow screen: what is wide scrolls in its own box.
    assert width <= LOOKS["narrow"][0]
