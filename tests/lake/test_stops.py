"""A published run that is told to stop in the middle: in good time, and the same command goes on with what it has."""

from __future__ import annotations

import json
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from crawler.emulator import Emulator, Estate
from tests.lake.conftest import Place, Zygote
from tests.lake.test_crash import check_published, check_unpublished_or_whole, command, pages_of, requests
from tests.lake.test_workers import started
from tests.program.test_signals import IN_TIME

#: Requests take their time, so that a stop in the middle finds some repositories done, begun, and not begun.
PACED = ["--max-rps", "10", "--requests-per-target", "2"]


@pytest.fixture
def local(tmp_path: Path) -> Place:
    return Place(f"{tmp_path}/out/", folder=tmp_path / "out")


def held(place: Place) -> set[tuple[str, str, str | None]]:
    """What records hold."""
    names = [name for name in place.names() if "/records/" in name and "/." not in name]
    units = [json.loads(line) for name in names for line in place.read(name).splitlines()[1:]]
    return {(unit["registryId"], unit["region"], unit["repositoryName"]) for unit in units}


def stopped(program: Zygote, emulator: Emulator, number: signal.Signals, after: int, words: list[str]) -> None:
    """Send the signal once so many requests were made."""
    with started(program, *words, *PACED) as process:
        at = requests(emulator)
        while requests(emulator) - at < after:
            time.sleep(0.005)
        sent = time.monotonic()
        process.send_signal(number)
        assert process.wait(30) == 128 + number, program.said()
        assert time.monotonic() - sent < IN_TIME


@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGTERM])
@pytest.mark.parametrize("how", ["one process", "workers", "shard"])
def test_a_run_that_is_stopped_goes_on_with_what_no_record_holds(
    program: Zygote, local: Place, estate: Estate, emulator: Emulator, *, how: str, number: signal.Signals
) -> None:
    """Of a share nothing is committed before its end: one that is stopped is asked for anew, and no other."""
    words = [*command(local, "r"), *(["--workers", "2"] if how == "workers" else [])]
    if how == "shard":
        assert program.run("shard", "1/2", *words) == 0, program.said()
        words = ["shard", "2/2", *words]
    pages, expected, before = pages_of(estate), Counter(estate.rows()), held(local)
    whole = sum(number for repository, number in pages.items() if repository not in before)
    stopped(program, emulator, number, whole // 2, words)
    check_unpublished_or_whole(local, "r", expected)
    there = held(local)
    assert (there == before) if how == "shard" else there
    asked = requests(emulator)
    assert program.run(*words) == 0, program.said()
    again = requests(emulator) - asked
    assert again == sum(number for repository, number in pages.items() if repository not in there)
    assert (again == whole) if how == "shard" else again < whole
    check_published(local, "r", expected)
