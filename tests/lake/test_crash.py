"""SIGKILL at random moments and at each write to the store, then the same command again: nothing lost, nothing twice.

`make test` takes a few of each; `make crash` a hundred moments, of runs of each kind, and every write (CRASHES=100).
"""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from pathlib import Path

import pytest
from deltalake import DeltaTable

from crawler.emulator import Emulator, Estate, Options, running
from crawler.emulator.images import EVERYTHING
from tests.lake.conftest import KILLED, Place, Zygote, company, rows_of

CRASHES = int(os.environ.get("CRASHES", "0"))


def command(place: Place, run_id: str) -> list[str]:
    return ["--accounts", "accounts.yaml", "--output", place.output, "--run-id", run_id, "--quiet"]


def check_unpublished_or_whole(place: Place, run_id: str, expected: Counter[object]) -> None:
    """Nothing torn is visible: until the manifest is there, nothing that readers go by; then all of it."""
    names = place.names()
    if f"runs/{run_id}/manifest.json" in names:
        assert place.rows(run_id) == expected
    else:
        ours = [name for name in names if f"/run={run_id}/" in name]
        assert not [name for name in ours if name.endswith(("_SUCCESS", "symlink.txt"))]


def check_published(place: Place, run_id: str, expected: Counter[object]) -> None:
    assert place.rows(run_id) == expected
    ledger = place.ledger(run_id)
    units = {(line["registryId"], line["region"], line["repositoryName"]) for line in ledger}
    assert len(units) == len(ledger), "a unit has two lines"
    assert sum(line["rows"] for line in ledger) == expected.total()
    manifest = place.manifest(run_id)
    assert manifest
    # Hidden ones are what killed processes left: readers of folders skip them, and `clean` removes them.
    names = [name for name in place.names() if not name.rpartition("/")[2].startswith(".")]
    data = {name for name in names if name.startswith("data/") and f"/run={run_id}/" in name}
    success = f"data/date={manifest['date']}/run={run_id}/_SUCCESS"
    assert data == {*(part["path"] for part in manifest["parts"]), success}
    (links,) = [name for name in names if name.startswith("hive/") and f"/run={run_id}/" in name]
    assert len(place.read(links).splitlines()) == len(manifest["parts"])


def go_on(program: Zygote, place: Place, run_id: str) -> None:
    assert program.run(*command(place, run_id)) == 0, program.said()


@pytest.mark.slow
def test_at_each_write(program: Zygote, place: Place, estate: Estate) -> None:
    """Each run is killed at one write, before or after it, and then goes on to its end."""
    expected = Counter(estate.rows())
    step, at, killed = (1 if CRASHES else 23), 1, 0
    while True:
        run_id = f"w{at}"
        code = program.run(*command(place, run_id), kill_at_write=at)
        if code != KILLED:
            assert code == 0, program.said()
            break
        killed += 1
        check_unpublished_or_whole(place, run_id, expected)
        go_on(program, place, run_id)
        assert place.rows(run_id) == expected
        at += step
    assert killed >= (12 if CRASHES else 2)
    check_published_alone(program, place, expected)


def check_published_alone(program: Zygote, place: Place, expected: Counter[object]) -> None:
    """One more run, in a place of its own, looked at in every detail."""
    alone = Place(f"{place.output}alone/", place.folder / "alone" if place.folder else None, place.s3)
    assert program.run(*command(alone, "r"), kill_at_write=20) in (KILLED, 0)
    go_on(program, alone, "r")
    check_published(alone, "r", expected)


#: What is killed, by turns: one process, several, one of two shares; and what they may have to do besides.
KINDS: list[list[str]] = [
    [],
    ["--workers", "2"],
    ["shard"],
    ["--delta", "table"],
    ["--rows", "details"],
    ["--split-chains", "all", "--hints", "hints.json", "--page-size", "100"],
]


@pytest.mark.parametrize("seed", range(max(CRASHES // 2, 1)))
def test_at_a_random_moment(program: Zygote, place: Place, estate: Estate, emulator: Emulator, seed: int) -> None:
    """Killed once for certain, after some of its requests; then up to twice, drawn from all of a run's length."""
    moments = random.Random(seed)  # noqa: S311  (repeatable, and no secret)
    expected, kind = Counter(estate.rows()), KINDS[seed % len(KINDS)]
    commands = [[*command(place, "r"), *kind]]
    if kind == ["shard"]:
        commands = [["shard", share, *command(place, "r")] for share in ("1/2", "2/2")]
    if "--hints" in kind:  # what is long is known from the night before
        assert program.run(*command(place, "before"), *kind) == 0, program.said()
    pages = sum(pages_of(estate).values()) // len(commands) ** 2  # a share has a third of them
    enough = requests(emulator) + moments.randrange(pages)
    assert program.run(*commands[-1], until=lambda: requests(emulator) >= enough) == KILLED
    check_unpublished_or_whole(place, "r", expected)
    for _ in range(moments.randrange(3)):
        seconds = moments.uniform(0.05, 6.0 if "--workers" in kind else 1.6)
        code = program.run(*moments.choice(commands), kill_after=seconds)
        assert code in (KILLED, 0), program.said()
        check_unpublished_or_whole(place, "r", expected)
    for words in commands:
        assert program.run(*words) == 0, program.said()
    check_published(place, "r", expected)
    if "--delta" in kind:
        assert rows_of_table(program.folder / "table") == expected


def rows_of_table(table: Path) -> Counter[object]:
    """What a Delta table of this machine holds."""
    files = [Path(str(file).removeprefix("file://")) for file in DeltaTable(str(table)).file_uris()]
    return Counter(row for file in files for row in rows_of(file.read_bytes(), file.name))


def pages_of(estate: Estate) -> dict[tuple[str, str, str], int]:
    """How many requests each repository takes."""
    return {
        (account.id, region, name): max(1, -(-repository.images.total(EVERYTHING) // 1000))
        for account, region, repositories in estate.registries()
        for name, repository in repositories.items()
    }


def requests(emulator: Emulator) -> int:
    made = emulator.stats()["requests"]
    return int(made.get("ecr:ListImages", 0) + made.get("ecr:DescribeImages", 0))


def killed_late(program: Zygote, place: Place, emulator: Emulator, estate: Estate, paced: list[str]) -> float:
    """Kill a run when nine tenths of its requests were answered; return the part of all that its resume made again.

    A resume asks for the repositories that no record holds, for their pages, and for no other: that is exact.
    """
    pages = pages_of(estate)
    whole = sum(pages.values())
    late = requests(emulator) + 0.9 * whole
    assert program.run(*command(place, "r"), *paced, until=lambda: requests(emulator) >= late) == KILLED
    names = [name for name in place.names() if "/records/" in name and "/." not in name]
    units = [json.loads(line) for name in names for line in place.read(name).splitlines()[1:]]
    held = {(unit["registryId"], unit["region"], unit["repositoryName"]) for unit in units}
    before = requests(emulator)
    go_on(program, place, "r")
    again = requests(emulator) - before
    assert again == sum(number for repository, number in pages.items() if repository not in held)
    return again / whole


def test_a_resume_asks_for_what_no_record_holds_and_no_more(
    program: Zygote, place: Place, emulator: Emulator, estate: Estate
) -> None:
    """The run takes a second, so what is in flight and not yet in a record is a good part of it: see the next test."""
    killed_late(program, place, emulator, estate, ["--max-rps", "10", "--requests-per-target", "2"])


@pytest.mark.slow
def test_a_run_that_was_killed_late_is_resumed_in_a_fifth_of_it(program: Zygote, place: Place, tmp_path: Path) -> None:
    """Of some seconds, with what was not done yet: still far shorter, and so worse in this, than any real night."""
    large = company(repositories=60)
    (tmp_path / "accounts.yaml").write_text(large.accounts_yaml())
    with running(large, Options(latency=0.004)) as emulator:
        program.environment |= {**emulator.environment(), **(place.s3.environment() if place.s3 else {})}
        again = killed_late(program, place, emulator, large, ["--max-rps", "15", "--requests-per-target", "2"])
    assert again <= 0.2
