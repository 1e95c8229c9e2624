"""`python -m benchmarks NAME`: measure, print tables, and keep the figures."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter, validators

from benchmarks import chart, lake, report, scale, throttle, throttle_report, workers
from benchmarks.ceiling import ENOUGH, Ceiling
from benchmarks.clients import CRAWLER, many_targets, one_registry
from benchmarks.contest import checked_run, contest, say
from benchmarks.machine import CLIENT, SERVER, Failed, run
from benchmarks.server import serving
from benchmarks.works import Work, works

_HERE = Path(__file__).parent
_MEMORY_GOAL_MB = 150
_ALL = ("startup", "pages", "small", "targets", "memory", "throttle", "simulate", "lake", "workers", "scale")
_STARTUP_GOALS = {"--version": 0.25, "--help": 0.5}  # seconds of CPU

app = App(name="benchmarks", help_format="plaintext", default_parameter=Parameter(negative=()))


@app.default
def main(
    name: Literal[
        "all",
        "pages",
        "small",
        "targets",
        "memory",
        "startup",
        "ceiling",
        "throttle",
        "simulate",
        "lake",
        "workers",
        "scale",
    ],
    *,
    rounds: Annotated[
        int | None, Parameter(validator=validators.Number(gte=1), help="Rounds; medians are told. 5, or 1 if quick.")
    ] = None,
    quick: Annotated[bool, Parameter(help="Tiny works: shows that the benchmark works, keeps no figure.")] = False,
) -> int:
    """Crawl with the crawler and its peers, in turn, on an emulator on another core."""
    if SERVER == CLIENT and not quick:
        say("Two cores are needed, one for the emulator and one for the client, and a Linux that lets us choose them.")
        return 2
    # As what is installed runs, ours and theirs: from the second time on nothing is compiled.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    names = _ALL if name == "all" else (name,)
    # Figures that the emulator may have limited are shown, and kept nowhere.
    refused = False
    for each in names:
        try:
            text, results, sound = _measure(each, works(quick=quick), rounds or (1 if quick else 5), quick=quick)
        except Failed as failure:
            say(f"{each}: {failure}")
            return 1
        sys.stdout.write(f"\n{text}")
        sys.stdout.flush()
        refused |= not sound
        if sound and not quick:
            _keep(each, text, results)
    return 1 if refused and not quick else 0


def _measure(name: str, made: dict[str, Work], rounds: int, *, quick: bool) -> tuple[str, dict[str, Any], bool]:
    """The table, the figures for the file, and whether they are fit to be kept."""
    others: dict[str, Callable[[], tuple[str, dict[str, Any], bool]]] = {
        "startup": lambda: _startup(rounds),
        "memory": lambda: _memory(made, quick=quick),
        "ceiling": lambda: _ceiling(made, rounds, quick=quick),
        "throttle": lambda: _throttle(made["throttle"], quick=quick),
        "simulate": lambda: _simulate(quick=quick),
        "lake": lambda: (*lake.measure(made, rounds, say, quick=quick), True),
        "workers": lambda: (*workers.measure(made["workers"], rounds, say, quick=quick), True),
        "scale": lambda: (scale.compute(_HERE / "results.json", quick=quick), {}, True),
    }
    if name in others:
        return others[name]()
    clients = many_targets(quick=quick) if name == "targets" else one_registry(quick=quick)
    outcome = contest(made[name], clients, rounds=rounds, quick=quick)
    text = report.contest_table(outcome)
    sound = outcome.headroom >= ENOUGH
    if not sound:
        text += (
            f"REFUSED: the emulator is under {ENOUGH:g} × the fastest client, so this may be a benchmark of the "
            "emulator. Is the machine busy with something else?\n"
        )
    return text, {name: report.as_json(outcome)}, sound


def _startup(rounds: int) -> tuple[str, dict[str, Any], bool]:
    rows, results = [], {}
    for flag, goal in _STARTUP_GOALS.items():
        costs = [run([sys.executable, "-m", "crawler", flag], os.environ) for _ in range(rounds)]
        cpu, wall = median(cost.cpu for cost in costs), median(cost.wall for cost in costs)
        rows.append([f"python -m crawler {flag}", f"{cpu:.3f}", f"{goal:g}", f"{wall:.3f}"])
        results[flag.strip("-")] = {"cpu": round(cpu, 3), "wall": round(wall, 3)}
    return report.table(["start-up", "CPU s", "at most", "wall s"], rows), {"startup": results}, True


def _memory(made: dict[str, Work], *, quick: bool) -> tuple[str, dict[str, Any], bool]:
    rows, results = [], {}
    for name in ("memory-1m",) if quick else ("memory-1m", "memory-10m", "memory-targets"):
        work = made[name]
        cost = checked_run(work, CRAWLER, quick=quick)
        rows.append([work.title, f"{cost.rss / 1e6:.0f}", str(_MEMORY_GOAL_MB), f"{cost.wall:.1f}", f"{cost.cpu:.1f}"])
        results[name] = {"work": work.title, "rss": cost.rss, "cpu": round(cost.cpu, 2), "lost": 0, "repeated": 0}
    text = report.table(["memory; every row checked", "peak RSS MB", "at most", "wall s", "CPU s"], rows)
    return text, results, True


def _ceiling(made: dict[str, Work], rounds: int, *, quick: bool) -> tuple[str, dict[str, Any], bool]:
    rows = []
    for name in ("pages", "small", "targets"):
        with serving(made[name], quick=quick) as server:
            ceiling = Ceiling(made[name], server)
            by_wall, by_cpu = zip(*(ceiling.measure(1 if quick else 3) for _ in range(rounds)), strict=True)
        rows.append([made[name].title, f"{median(by_wall):,.0f}", f"{median(by_cpu):,.0f}"])
    return report.table(["the emulator, as wrk sees it", "requests/s", "requests/CPU s"], rows), {}, True


def _throttle(work: Work, *, quick: bool) -> tuple[str, dict[str, Any], bool]:
    runs = throttle.measure(work, say, quick=quick)
    told = throttle_report.of_programs(work, runs, quick=quick)
    if not quick and not throttle_report.draw(runs, _HERE / "throttle.svg"):
        say("no chart: it needs matplotlib (python -m pip install matplotlib)")
    return told.text, told.results, True


def _simulate(*, quick: bool) -> tuple[str, dict[str, Any], bool]:
    parts = [
        throttle_report.of_laws(say, quick=quick),
        throttle_report.of_others(),
        throttle_report.of_estate(quick=quick),
    ]
    results = {name: figures for part in parts for name, figures in part.results.items()}
    return "\n".join(part.text for part in parts), {"simulate": results}, True


def _keep(name: str, text: str, results: dict[str, Any]) -> None:
    report.save(_HERE / "results.json", results)
    for page in (_HERE / "README.md", _HERE.parent / "docs/explanation/scale.md"):
        report.into_readme(page, name, text)
    if not chart.draw(_HERE / "results.json", _HERE / "results.svg"):
        say("no chart: it needs matplotlib (python -m pip install matplotlib)")


if __name__ == "__main__":
    sys.exit(app(result_action="return_value"))
