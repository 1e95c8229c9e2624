"""Two workers beside one, and one beside none: what several processes bring, and what having them costs.

On two cores there is none left for the emulator, so it shares one with whoever crawls: it needs about a twentieth of
what a client does at full pages (`pages`: wrk). Nothing is pinned but the emulator, to the first core.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import IO, Any

from benchmarks.clients import CRAWLER
from benchmarks.machine import Cost, Failed, multiset, run
from benchmarks.report import table
from benchmarks.server import Server, serving
from benchmarks.works import Work

_AT_LEAST, _OVERHEAD_AT_MOST = 1.6, 0.05
_ANY_CORE = -1
_ENGINES = {"in this process": (), "--workers 1": ("--workers", "1"), "--workers 2": ("--workers", "2")}


@dataclass
class _Samples:
    whole: list[Cost] = field(default_factory=list[Cost])
    startup: list[Cost] = field(default_factory=list[Cost])
    served: list[float] = field(default_factory=list[float])

    def wall(self) -> float:
        """Seconds of a crawl, less start-up."""
        return median(cost.wall for cost in self.whole) - median(cost.wall for cost in self.startup)

    def cpu(self) -> float:
        """The same in seconds of CPU, of all its processes."""
        return median(cost.cpu for cost in self.whole) - median(cost.cpu for cost in self.startup)


def measure(work: Work, rounds: int, say: Callable[[str], None], *, quick: bool) -> tuple[str, dict[str, Any]]:
    """The table, and its figures. Every row is checked first. Raises `Failed`."""
    samples = {name: _Samples() for name in _ENGINES}
    with serving(work, quick=quick) as server:
        whole, none = server.folder / "accounts.yaml", server.folder / "none.yaml"
        whole.write_text(work.accounts_yaml())
        none.write_text(work.accounts_yaml(empty=True))
        rows = _check(work, server, whole)
        for number in range(1, rounds + 1):
            say(f"workers: round {number} of {rounds}")
            for name, options in _ENGINES.items():
                samples[name].startup.append(_run(none, options, server))
                before = server.cpu()
                samples[name].whole.append(_run(whole, options, server))
                samples[name].served.append(server.cpu() - before)
    return _told(work, rows, samples)


def _run(accounts: Path, options: tuple[str, ...], server: Server) -> Cost:
    return run([*CRAWLER.on(accounts), *options], server.env, core=_ANY_CORE)


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


def _told(work: Work, rows: int, samples: dict[str, _Samples]) -> tuple[str, dict[str, Any]]:
    none, one, two = samples.values()
    cells = [
        [
            name,
            f"{rows / each.wall():,.0f}",
            f"{each.wall():.2f}",
            f"{each.cpu():.2f}",
            f"{median(each.served):.2f}",
            f"{median(cost.wall for cost in each.startup):.2f}",
        ]
        for name, each in samples.items()
    ]
    times, overhead = one.wall() / two.wall(), one.wall() / none.wall() - 1
    more_cpu = one.cpu() / none.cpu() - 1
    text = table([work.title, "rows/s", "wall s", "CPU s", "emulator's CPU s", "start-up s"], cells)
    text += (
        f"\n{rows:,} rows: 0 lost, 0 repeated. Wall and CPU are less start-up.\n\n"
        f"- {_met(times >= _AT_LEAST)}: two workers are {times:.2f} × one, at least {_AT_LEAST:g}\n"
        f"- {_met(overhead <= _OVERHEAD_AT_MOST)}: one worker takes {overhead:+.1%} of wall clock beside none "
        f"({more_cpu:+.1%} of CPU, which another core may do), at most {_OVERHEAD_AT_MOST:.0%}\n"
    )
    figures = {
        name: {"wall": round(each.wall(), 3), "cpu": round(each.cpu(), 3), "emulator": round(median(each.served), 3)}
        for name, each in samples.items()
    }
    return text, {"workers": {"work": work.title, "rows": rows, "times": round(times, 3), "engines": figures}}


def _met(reached: bool) -> str:  # noqa: FBT001
    return "reached" if reached else "NOT REACHED"
