"""Tables for people, `results.json` for programs. Neither holds a path or a host name."""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.contest import Figures, Outcome

#: What issue and README promise: the work, the peer, and how many times its rate, at least.
GOALS = {
    ("pages", "boto3, 16 threads"): 6.0,
    ("pages", "Go SDK v2, 50 in flight"): 2.0,
    ("small", "boto3, 16 threads"): 5.0,
    ("small", "Go SDK v2, 50 in flight"): 1.0,
    ("targets", "aiobotocore, a client each"): 100.0,
}
_LIBRARIES = ("aiobotocore", "aiohttp", "boto3", "botocore", "orjson", "uvloop")
_MB = 1e6


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown that can be read as it stands: the first column to the left, figures to the right."""
    widths = [max(len(cell) for cell in column) for column in zip(headings, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        first, *others = zip(cells, widths, strict=True)
        padded = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]
        return f"| {' | '.join(padded)} |\n"

    rule = f"|{'-' * (widths[0] + 2)}|{'|'.join('-' * (width + 1) + ':' for width in widths[1:])}|\n"
    return line(headings) + rule + "".join(map(line, rows))


def contest_table(outcome: Outcome) -> str:
    """One work: all clients, and how many times the rate of each the crawler has."""
    work, ours = outcome.work, outcome.figures[0]
    headings = [work.title, f"{work.unit}/s", "crawler ×", "by CPU ×", "wall s", "start-up s", "CPU s"]
    headings += ["peak RSS MB", "first row s", "connections"]
    rows = [
        [
            each.name,
            f"{each.rate:,.0f}",
            f"{ours.rate / each.rate:.2f}",
            f"{ours.cpu_rate / each.cpu_rate:.2f}",
            f"{each.wall:.2f}",
            f"{each.startup:.2f}",
            f"{each.cpu:.2f}",
            f"{each.rss / _MB:.0f}",
            f"{each.first:.2f}",
            f"{each.connections:.0f}",
        ]
        for each in outcome.figures
    ]
    goals = [
        f"- {'reached' if (ratio := ours.rate / each.rate) >= goal else 'NOT REACHED'}: "
        f"{ratio:.2f} × {each.name}, at least {goal:g}\n"
        for each in outcome.figures
        if (goal := GOALS.get((work.name, each.name)))
    ]
    by_wall, by_cpu = outcome.ceiling
    return (
        f"{table(headings, rows)}\n{outcome.rows:,} rows: 0 lost, 0 repeated. The emulator answers wrk "
        f"{by_wall:,.0f} requests/s ({by_cpu:,.0f} a second of its own CPU): "
        f"{outcome.headroom:.1f} × the fastest client.\n\n{''.join(goals)}"
    )


def as_json(outcome: Outcome) -> dict[str, Any]:
    """One work as `results.json` has it."""
    ours = outcome.figures[0]
    return {
        "work": outcome.work.title,
        "unit": outcome.work.unit,
        "rows": {"expected": outcome.rows, "lost": 0, "repeated": 0},
        "wrk": {"requests_per_second": outcome.ceiling[0], "requests_per_cpu_second": outcome.ceiling[1]},
        "clients": [_figures(each, ours) for each in outcome.figures],
    }


def _figures(each: Figures, ours: Figures) -> dict[str, Any]:
    ratios = {"crawler_times_wall": ours.rate / each.rate, "crawler_times_cpu": ours.cpu_rate / each.cpu_rate}
    return {name: _rounded(value) for name, value in {**asdict(each), **ratios}.items()}


def _rounded(value: Any) -> Any:
    """Four digits: more would be noise."""
    return float(f"{value:.4g}") if isinstance(value, float) else value


def save(path: Path, results: dict[str, Any]) -> None:
    """Put these works into the file; what it tells of others stays."""
    known = json.loads(path.read_text()) if path.exists() else {}
    machine = {
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        **{name: version(name) for name in _LIBRARIES},
    }
    works = {**known.get("works", {}), **results}
    path.write_text(json.dumps({"machine": machine, "works": works}, indent=2, sort_keys=True) + "\n")


def into_readme(path: Path, name: str, text: str) -> None:
    """Replace what stands between the marks of one work."""
    page = path.read_text()
    marked = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
    path.write_text(marked.sub(lambda found: f"{found[1]}{text}{found[2]}", page))
