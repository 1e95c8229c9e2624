"""How many requests of a work the emulator answers a second, as wrk counts them from the client's core.

A benchmark of a client is only one of the client while the server could do at least three times as much.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from itertools import islice
from pathlib import Path

from benchmarks.machine import CLIENT, Failed
from benchmarks.server import Server
from benchmarks.works import Work

#: How far above the fastest client the emulator has to be.
ENOUGH = 3.0

MISSING = "wrk is not installed: apt install wrk"
_SCRIPT = Path(__file__).with_name("wrk") / "requests.lua"
#: Of each of the two operations. All of `small` would be 20,000, and wrk's own tables would be what is measured.
_MOST = 500


class Ceiling:
    """wrk at the requests of one work. Raises `Failed` where it is not installed."""

    def __init__(self, work: Work, server: Server) -> None:
        if shutil.which("wrk") is None:
            raise Failed(MISSING)
        self._server = server
        self._requests = server.folder / "requests"
        self._requests.write_text("".join(f"{line}\n" for line in _asked(work)))
        self.measure(1)  # the answers are made in it, and remembered for those that count

    def measure(self, seconds: int) -> tuple[float, float]:
        """Requests a second, and requests for each second of the emulator's own CPU time."""
        self._server.reset()
        before = self._server.cpu()
        pinned = ["taskset", "-c", str(CLIENT)] if CLIENT >= 0 else []
        command = [
            *pinned,
            "wrk",
            "--threads=1",
            "--connections=50",
            f"--duration={seconds:g}s",
            "--script",
            str(_SCRIPT),
        ]
        done = subprocess.run(
            [*command, self._server.url, "--", self._requests], capture_output=True, text=True, check=False
        )
        found = re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)
        if found is None or done.stderr:
            raise Failed(f"wrk did not measure what it should:\n{done.stdout}{done.stderr}")
        asked = sum(self._server.stats()["requests"].values())
        return float(found[1]), asked / max(self._server.cpu() - before, 0.01)


def _asked(work: Work) -> list[str]:
    """What the clients ask, some of it: the listing of each target, where there are many, and first pages."""
    lines: list[str] = []
    targets = work.targets()
    if len(targets) > 1:
        lines += [_line("DescribeRepositories", *target, {}) for target in targets[:_MOST]]
    repositories = ((*target, name) for target in targets for name in work.repositories_of(*target))
    for account, region, name in islice(repositories, _MOST):
        lines.append(_line("ListImages", account, region, {"repositoryName": name}))
    return lines


def _line(operation: str, account: str, region: str, body: dict[str, str]) -> str:
    return f"{operation}\tASIA{account}0001\t{region}\t{json.dumps({**body, 'maxResults': 1000})}"
