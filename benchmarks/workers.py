"""Two workers beside one, and one beside none: what several processes bring, and what having them costs.

On two cores there is none left for the emulator, so it shares one with whoever crawls: it needs about a twentieth of
what a client does at full pages (`pages`: wrk). Nothing is pinned but the emulator, to the first core.

So two things are told: the wall clock, of which the emulator and the first process have their part; and the CPU of the
busiest process, which is what is left of it where each has a core of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import IO, Any

from benchmarks.clients import CRAWLER
from benchmarks.machine import Failed, multiset, run
from benchmarks.report import table
from benchmarks.server import Server, serving
from benchmarks.works import Work

_AT_LEAST, _OVERHEAD_AT_MOST = 1.6, 0.05
_ANY_CORE = -1
_LOOK_EVERY = 0.02
_FORMS = {"to the null device": (), "published": ("--format", "parquet")}
_ENGINES = {"in this process": (), "--workers 1": ("--workers", "1"), "--workers 2": ("--workers", "2")}


@dataclass(frozen=True)
class _Cost:
    """Seconds of wall clock, of CPU in all, and of CPU of the busiest process."""

    wall: float
    cpu: float
    busiest: float


@dataclass
class _Samples:
    whole: list[_Cost] = field(default_factory=list[_Cost])
    startup: list[_Cost] = field(default_factory=list[_Cost])
    served: list[float] = field(default_factory=list[float])

    def each(self, name: str) -> list[float]:
        """Of each crawl, less start-up."""
        startup = median(getattr(cost, name) for cost in self.startup)
        return [getattr(cost, name) - startup for cost in self.whole]

    def of(self, name: str) -> float:
        """Median of a crawl, less start-up."""
        return float(median(self.each(name)))

    def to(self, other: _Samples, name: str) -> list[float]:
        """So many times as much as the other took in the same round: the machine is not as fast in each."""
        return [ours / theirs for ours, theirs in zip(self.each(name), other.each(name), strict=True)]


def measure(work: Work, rounds: int, say: Callable[[str], None], *, quick: bool) -> tuple[str, dict[str, Any]]:
    """The tables, and their figures. Every row is checked first. Raises `Failed`."""
    samples = {form: {name: _Samples() for name in _ENGINES} for form in _FORMS}
    with serving(work, quick=quick) as server:
        whole, none = server.folder / "accounts.yaml", server.folder / "none.yaml"
        whole.write_text(work.accounts_yaml())
        none.write_text(work.accounts_yaml(empty=True))
        rows = _check(work, server, whole)
        for number in range(1, rounds + 1):
            say(f"workers: round {number} of {rounds}")
            for form, output in _FORMS.items():
                for name, options in list(_ENGINES.items())[:: 1 if number % 2 else -1]:  # none is always the first
                    sample = samples[form][name]
                    sample.startup.append(_run(none, (*options, *output), server))
                    before = server.cpu()
                    sample.whole.append(_run(whole, (*options, *output), server, rows))
                    sample.served.append(server.cpu() - before)
    told = [_told(work, form, rows, samples[form]) for form in _FORMS]
    figures = {"work": work.title, "rows": rows} | {
        form: figures for form, (_, figures) in zip(_FORMS, told, strict=True)
    }
    return "\n".join(text for text, _ in told), {"workers": figures}


def _run(accounts: Path, options: tuple[str, ...], server: Server, rows: int = 0) -> _Cost:
    """A crawl; a published one in a folder of its own, which has so many rows then."""
    if "--format" not in options:
        return _crawl([*CRAWLER.on(accounts), *options], server)
    with TemporaryDirectory() as folder:
        cost = _crawl([*CRAWLER.on(accounts), *options, "--output", f"{folder}/", "--run-id", "r"], server)
        found = json.loads(Path(folder, "runs", "r", "manifest.json").read_bytes())["rows"]
    if found != rows:
        raise Failed(f"{' '.join(options)} published {found:,} rows, and the estate has {rows:,}")
    return cost


def _crawl(command: list[str], server: Server) -> _Cost:
    started, busy = time.perf_counter(), dict[int, float]()
    with subprocess.Popen(command, env=server.env, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            for pid in (process.pid, *_children(process.pid)):
                with suppress(OSError, IndexError):  # it has just ended
                    busy[pid] = _cpu(pid)
            time.sleep(_LOOK_EVERY)
        wall = time.perf_counter() - started
    if process.returncode:
        raise Failed(f"{' '.join(command)} ended with {process.returncode}")
    return _Cost(wall, sum(busy.values()), max(busy.values()))


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _check(work: Work, server: Server, accounts: Path) -> int:
    found: list[tuple[int, int]] = []

    def read(output: IO[bytes]) -> None:
        found.append(multiset(output))

    truth = multiset(work.lines())
    for options in _ENGINES.values():
        run([*CRAWLER.on(accounts), *options], server.env, read=read, core=_ANY_CORE)
        if found.pop() != truth:
            raise Failed(f"{' '.join(options) or 'one process'} wrote other rows than the estate has")
    return truth[0]


def _told(work: Work, form: str, rows: int, samples: dict[str, _Samples]) -> tuple[str, dict[str, Any]]:
    none, one, two = samples.values()
    cells = [
        [
            name,
            f"{rows / each.of('wall'):,.0f}",
            f"{each.of('wall'):.2f}",
            f"{each.of('cpu'):.2f}",
            f"{each.of('busiest'):.2f}",
            f"{median(each.served):.2f}",
            f"{median(cost.wall for cost in each.startup):.2f}",
        ]
        for name, each in samples.items()
    ]
    headings = ["rows/s", "wall s", "CPU s", "busiest process, CPU s", "emulator, CPU s", "start-up s"]
    text = table([f"{work.title}, {form}", *headings], cells)
    text += f"\n{rows:,} rows: 0 lost, 0 repeated. Wall and CPU are less start-up.\n\n"
    figures: dict[str, Any] = {}
    for name, told in (("wall", "by wall clock"), ("busiest", "by CPU of the busiest process")):
        ratios, parts = one.to(two, name), [ratio - 1 for ratio in one.to(none, name)]
        times, overhead = median(ratios), median(parts)
        text += (
            f"- {_met(times >= _AT_LEAST)}: two workers are {times:.2f} × one {told}, at least {_AT_LEAST:g} "
            f"({min(ratios):.2f} to {max(ratios):.2f} by round)\n"
            f"- {_met(overhead <= _OVERHEAD_AT_MOST)}: one worker takes {overhead:+.1%} beside none {told}, "
            f"at most {_OVERHEAD_AT_MOST:.0%} ({min(parts):+.1%} to {max(parts):+.1%} by round)\n"
        )
        figures[name] = {"two_times_one": round(times, 3), "overhead_of_one": round(overhead, 4)}
    return text, figures


def _met(reached: bool) -> str:  # noqa: FBT001  (its one argument)
    return "reached" if reached else "NOT REACHED"
