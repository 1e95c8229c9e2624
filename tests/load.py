"""A long crawl in which a small part of all requests fails, watched from outside: `python -m tests.load [ROWS]`.

Twenty million rows, if not told otherwise, from the emulator through a pipe. Resident memory and open descriptors are
looked at every other second; once the crawl has found its pace they must not grow. Every row is counted,
in the pipe and in the ledger.
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
from tempfile import TemporaryDirectory
from typing import NamedTuple

from crawler.emulator import Estate, Options, Rule, running

ROWS, IN_EACH, ACCOUNTS, REGIONS = 20_000_000, 50_000, 5, ("eu-west-1", "us-east-1")

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

#: The growth from the first half of what is left to the second one that is none: of memory, and of descriptors.
_GROWTH, _MORE_DESCRIPTORS = 1.05, 16


class Look(NamedTuple):
    """At a process: `seconds` after its start, bytes that are resident, and open descriptors."""

    seconds: float
    resident: int
    descriptors: int


def look(pid: int, began: float) -> Look | None:
    """None once it has ended."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        descriptors = len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208  (no paths are wanted)
    except (OSError, IndexError):
        return None
    return Look(time.monotonic() - began, pages * resource.getpagesize(), descriptors)


def grown(looks: Sequence[Look]) -> str:
    """What has grown, in a line; empty where nothing did."""
    settled = looks[math.ceil(len(looks) * WARM_UP) :]
    half = len(settled) // 2
    if half < 2:
        return "too short to tell: crawl more rows"
    earlier, later = settled[:half], settled[half:]
    before, after = (statistics.median(each.resident for each in some) for some in (earlier, later))
    if after > before * _GROWTH:
        return f"resident memory has grown from {before / 1e6:.0f} to {after / 1e6:.0f} MB"
    # As many as requests in flight, which come and go; one that each failure left behind would soon be more.
    halves = looks[: len(looks) // 2], looks[len(looks) // 2 :]
    most, most_later = (max(each.descriptors for each in some) for some in halves)
    if most_later > most + _MORE_DESCRIPTORS:
        return f"open descriptors have grown from {most} to {most_later}"
    return ""


def crawl(folder: Path, estate: Estate) -> tuple[int, list[Look]]:
    """Crawl into a pipe; return how many lines came out of it, and what was seen of the process meanwhile."""
    rules = [Rule(fault=fault, probability=part, times=0) for fault, part in FAULTS.items()]
    (folder / "accounts.yaml").write_text(estate.accounts_yaml())
    command = [
        sys.executable, "-m", "crawler", "--accounts", "accounts.yaml", "--ledger", "ledger", "--report", "report",
        "--timeout", str(TIMEOUT),
    ]  # fmt: skip
    with running(estate, Options(faults=rules, seed=1, checks=False)) as emulator:
        environment = {**os.environ, **emulator.environment()}
        began = time.monotonic()
        with subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE) as process:
            assert process.stdout
            rows, looks, due = 0, [], began
            while block := os.read(process.stdout.fileno(), 1 << 20):
                rows += block.count(b"\n")
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
    repositories = max(1, rows // (IN_EACH * ACCOUNTS * len(REGIONS)))
    estate = Estate.uniform(repositories=repositories, images=IN_EACH, accounts=ACCOUNTS, regions=REGIONS)
    with TemporaryDirectory() as name:
        counted, looks = crawl(Path(name), estate)
        wrong = wrong_with(Path(name), estate, counted)
        report = json.loads(Path(name, "report").read_bytes())
    for seen in looks[:: max(1, len(looks) // 20)]:
        print(f"{seen.seconds:8.0f} s {seen.resident / 1e6:8.1f} MB {seen.descriptors:6} descriptors")
    print(
        f"{counted:,} rows in {report['seconds']:.0f} s, {report['requests']:,} requests for {report['pages']:,} pages "
        f"({report['throttled']:,} throttled); at most {max(seen.resident for seen in looks) / 1e6:.0f} MB and "
        f"{max(seen.descriptors for seen in looks)} descriptors"
    )
    found = [one for one in (wrong, grown(looks)) if one]
    print("\n".join(found) or "nothing is missing, nothing came twice, nothing grew")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main(int((sys.argv[1:] or [str(ROWS)])[0])))
