"""A long crawl in which a small part of all requests fails, watched from outside: `python -m tests.load [ROWS]`.

Twenty million rows, if not told otherwise, from the emulator through a pipe, and then ten times as many into a
published run: in the half minute that it takes that to find the memory it stays at, twenty million are through.
Resident memory and open descriptors are looked at every other second; once the crawl has found its pace they must not
grow. Every row is counted, in the pipe or in the manifest, and in the ledger.
"""

from __future__ import annotations

import json
import math
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from select import select
from tempfile import TemporaryDirectory
from typing import NamedTuple

from crawler.emulator import Estate, Options, Rule, running

ROWS, IN_EACH, ACCOUNTS, REGIONS = 20_000_000, 50_000, 5, ("eu-west-1", "us-east-1")

# All registries at once. With forty, eight at a time, what is resident creeps on by a tenth in three minutes, though
# what is alive does not grow (tracemalloc): each that begins leaves its gaps in the heap of the C library.

#: Parts of all requests. A page that came twice, or was taken for an empty one, would show in the number of rows.
FAULTS = {
    "throttling": 0.002,
    "server-error": 0.001,
    "unavailable": 0.001,
    "reset-before-response": 0.001,
    "reset-mid-body": 0.001,
    "short-fin": 0.001,
    "content-length-too-small": 0.001,
    "malformed-json": 0.001,
    "html": 0.001,
    "empty-body": 0.001,
    "expired-token": 0.0002,
    "stall": 0.0002,
}
#: Seconds; a stalled request is given up after this.
TIMEOUT = 2.0

#: Seconds between two looks, and the first part of all looks, which says nothing: caches and pools fill up.
EVERY, WARM_UP = 2.0, 0.15

#: What is no growth: of memory, over all that is left, on the straight line through it, as a part of it; and more
#: descriptors in the second half of all looks than in the first.
_GROWTH, _MORE_DESCRIPTORS = 0.03, 16


class Look(NamedTuple):
    """At a process: `seconds` after its start, bytes that are resident, and open descriptors."""

    seconds: float
    resident: int
    descriptors: int


def look(pid: int, began: float) -> Look | None:
    """None once it has ended."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])  # none, of one that nobody has waited for yet
        descriptors = len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208  (no paths are wanted)
    except (OSError, IndexError):
        return None
    return Look(time.monotonic() - began, pages * resource.getpagesize(), descriptors) if pages else None


def grown(looks: Sequence[Look]) -> str:
    """What has grown, in a line; empty where nothing did."""
    settled = looks[math.ceil(len(looks) * WARM_UP) :]
    if len(settled) < 4:
        return "too short to tell: crawl more rows"
    line = statistics.linear_regression([each.seconds for each in settled], [each.resident for each in settled])
    before, after = (line.intercept + line.slope * settled[at].seconds for at in (0, -1))
    if after > before * (1 + _GROWTH):
        return f"resident memory has grown from {before / 1e6:.0f} to {after / 1e6:.0f} MB"
    # As many as requests in flight, which come and go; one that each failure left behind would soon be more.
    halves = looks[: len(looks) // 2], looks[len(looks) // 2 :]
    most, most_later = (max(each.descriptors for each in some) for some in halves)
    if most_later > most + _MORE_DESCRIPTORS:
        return f"open descriptors have grown from {most} to {most_later}"
    return ""


def crawl(folder: Path, estate: Estate, *options: str) -> tuple[int, list[Look]]:
    """Crawl with a pipe as output; return how many lines came out of it, and what was seen of the process meanwhile."""
    rules = [Rule(fault=fault, probability=part, times=0) for fault, part in FAULTS.items()]
    (folder / "accounts.yaml").write_text(estate.accounts_yaml())
    command = [
        sys.executable, "-m", "crawler", "--accounts", "accounts.yaml", "--ledger", "ledger", "--report", "report",
        "--timeout", str(TIMEOUT), *options,
    ]  # fmt: skip
    with running(estate, Options(faults=rules, seed=1, checks=False)) as emulator:
        environment = {**os.environ, **emulator.environment()}
        began = time.monotonic()
        with subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE) as process:
            assert process.stdout
            rows, looks, due, open_ = 0, [], began, True
            while open_:
                # A published run writes nothing there until it ends.
                if select([process.stdout], [], [], EVERY)[0]:
                    block = os.read(process.stdout.fileno(), 1 << 20)
                    rows, open_ = rows + block.count(b"\n"), bool(block)
                if time.monotonic() >= due and (seen := look(process.pid, began)):
                    looks.append(seen)
                    due = time.monotonic() + EVERY
    return rows, looks


def wrong_with(folder: Path, estate: Estate, rows: int) -> str:
    """What is missing or came twice, in a line; empty where nothing did."""
    report = json.loads((folder / "report").read_bytes())
    lines = [json.loads(line) for line in (folder / "ledger").read_bytes().splitlines()]
    found = {
        (line["registryId"], line["region"], line["repositoryName"]): line["rows"]
        for line in lines
        if line["repositoryName"]
    }
    truth = {
        (account.id, region, name): IN_EACH for account, region, names in estate.registries() for name in names
    }  # fmt: skip
    if report["status"] != "complete":
        return f"the run is {report['status']}: {report['reason']}"
    if found != truth:
        return f"{sum(found[unit] != truth[unit] for unit in truth)} repositories do not have the rows that are theirs"
    return f"{rows:,} rows of {sum(truth.values()):,}" if rows != sum(truth.values()) else ""


def main(rows: int) -> int:
    """Crawl, and tell; 1 where something grew, is missing, or came twice."""
    found = [*soaked(uniform(rows)), *soaked(uniform(5 * rows), "--output", "out/", "--run-id", "r")]
    print("\n".join(found) or "nothing is missing, nothing came twice, nothing grew")
    return int(bool(found))


def uniform(rows: int) -> Estate:
    """So many rows, or as many as make one repository in each registry."""
    repositories = max(1, rows // (IN_EACH * ACCOUNTS * len(REGIONS)))
    return Estate.uniform(repositories=repositories, images=IN_EACH, accounts=ACCOUNTS, regions=REGIONS)


def soaked(estate: Estate, *options: str) -> list[str]:
    """Crawl once, print what was seen, and return what is wrong with it."""
    with TemporaryDirectory() as name:
        counted, looks = crawl(Path(name), estate, *options)
        if options:
            counted = json.loads(Path(name, "out", "runs", "r", "manifest.json").read_bytes())["rows"]
        wrong = wrong_with(Path(name), estate, counted)
        report = json.loads(Path(name, "report").read_bytes())
    for seen in looks[:: max(1, len(looks) // 20)]:
        print(f"{seen.seconds:8.0f} s {seen.resident / 1e6:8.1f} MB {seen.descriptors:6} descriptors")
    print(
        f"{'published: ' if options else ''}{counted:,} rows in {report['seconds']:.0f} s, "
        f"{report['requests']:,} requests for {report['pages']:,} pages ({report['throttled']:,} throttled); "
        f"at most {max(seen.resident for seen in looks) / 1e6:.0f} MB and "
        f"{max(seen.descriptors for seen in looks)} descriptors"
    )
    return [one for one in (wrong, grown(looks)) if one]


if __name__ == "__main__":
    sys.exit(main(int((sys.argv[1:] or [str(ROWS)])[0])))
