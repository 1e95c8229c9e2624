"""How many small requests a second the emulator answers on one core, with its checks off, as wrk counts them.

A benchmark of a client is only one of the client while the server could do at least three times as much.

    python benchmarks/emulator_ceiling.py [SECONDS]
"""

from __future__ import annotations

import os
import re
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

from crawler.emulator import Account, Emulator, Estate, Options, running

_SCRIPT = Path(__file__).with_name("wrk") / "list_images.lua"
_ROUNDS = 3


def main() -> None:
    """Server on core 0, wrk on core 1; prints each round and the median."""
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    if shutil.which("wrk") is None:
        sys.exit("wrk is not installed: it is the load generator here (apt install wrk)")
    os.sched_setaffinity(0, {0})
    filled = Estate.uniform(repositories=1_000, images=10).accounts["000000000001"]
    # Half of the requests ask the second account, which is empty, as most targets of a real crawl are.
    estate = Estate([filled, Account("000000000002")])
    with running(estate, Options(checks=False)) as emulator:
        # A round to warm up: the answers are made in it, and remembered for those that count.
        _measure(emulator.url, 1)
        before, asked = time.process_time(), _requests(emulator)
        rates = [_measure(emulator.url, seconds) for _ in range(_ROUNDS)]
        per_cpu_second = (_requests(emulator) - asked) / (time.process_time() - before)
        refused = emulator.stats()["errors"]
    print(
        f"requests/s on one core: {', '.join(f'{rate:,.0f}' for rate in rates)}; median {statistics.median(rates):,.0f}"
    )
    print(f"requests per second of the server's own CPU time: {per_cpu_second:,.0f}")
    if refused:
        sys.exit(f"some were refused, so this measures nothing: {refused}")


def _requests(emulator: Emulator) -> int:
    return sum(emulator.stats()["requests"].values())


def _measure(url: str, seconds: int) -> float:
    command = ["taskset", "-c", "1", "wrk", "--threads", "1", "--connections", "50", "--duration", f"{seconds}s"]
    report = subprocess.run([*command, "--script", str(_SCRIPT), url], capture_output=True, text=True, check=True)
    found = re.search(r"Requests/sec:\s+([\d.]+)", report.stdout)
    if found is None or report.stderr:
        sys.exit(f"wrk did not measure what it should:\n{report.stdout}{report.stderr}")
    return float(found[1])


if __name__ == "__main__":
    main()
