"""Throttling in tables and in a chart: the real program, and what was simulated."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import estate, throttled
from benchmarks.report import table
from benchmarks.throttle import Throttled, bound
from benchmarks.works import Work
from crawler.crawl import Limits
from crawler.model import Split

#: What must be reached with the real program: times the bound, and the share refused.
_GOALS = {"crawler, cold": (1.06, 0.05), "crawler, last night's hints": (1.02, 0.01)}

#: The part of the time that splitting may take, and the refusals of a polite crawl's neighbour.
_SPLIT_AT_MOST, _NEIGHBOUR_AT_MOST = 0.6, 0.02
_ESTATE_AT_MOST = 1.10

#: Seconds that one point of the chart stands for.
_STEP = 0.5

_COLORS = {"crawler": "#0b6e4f", "aiobotocore": "#9aa5b1"}


@dataclass(frozen=True)
class Report:
    """Text for people, and figures for `results.json`."""

    text: str
    results: dict[str, Any]


def of_programs(work: Work, runs: Sequence[Throttled], *, quick: bool) -> Report:
    """The runs of the real program and of its peers."""
    rows = []
    for each in runs:
        ratio = each.timeline.seconds / bound(work)
        at_most, refused_at_most = _GOALS.get(each.name, (0.0, 0.0))
        met = ratio <= at_most and each.share <= refused_at_most and each.exact
        expected = work.repositories * work.images
        rows.append([
            each.name,
            f"{each.timeline.seconds:.1f}",
            f"{ratio:.3f}",
            f"{each.timeline.refused:,}",
            f"{each.share:.1%}",
            f"{expected - each.rows:,}",
            ("reached" if met else "NOT REACHED") if at_most and not quick else "",
            f"{each.wall:.1f}",
        ])  # fmt: skip
    title = f"{work.title}, {work.rate:g}/s, burst {work.burst:g}, {1000 * work.latency:g} ms"
    headings = [title, "seconds", "× bound", "refused", "of requests", "rows lost", "goal", "wall s"]
    text = (
        f"{table(headings, rows)}\nThe bound is {bound(work):.1f} s, from the first request for images to the last.\n"
    )
    figures = {
        each.name: {
            "seconds": round(each.timeline.seconds, 2),
            "wall": round(each.wall, 2),
            "refused": each.timeline.refused,
            "requests": each.timeline.requests,
            "rows": each.rows,
        }
        for each in runs
    }
    return Report(text, {"throttle": {"work": title, "bound": bound(work), "runs": figures}})


def of_laws(say: Callable[[str], None], *, quick: bool) -> Report:
    """Every law in every case, beside the bound."""
    rows, results = [], {}
    chosen = list(throttled.cases())
    for case in chosen[:2] if quick else chosen:
        say(f"simulate: {case.title}")
        cells = [case.title]
        for name, governors in throttled.LAWS.items():
            simulated = case.run(governors)
            cells.append(f"{simulated.ratio:.3f}, {simulated.share:.1%}")
            results.setdefault(case.title, {})[name] = [round(simulated.ratio, 4), round(simulated.share, 4)]
            if name == next(iter(throttled.LAWS)):
                met = simulated.ratio <= case.at_most and simulated.share <= case.refused_at_most
                goal = f"{case.at_most:g}, {case.refused_at_most:.0%}: {'reached' if met else 'NOT REACHED'}"
        rows.append([*cells, goal])
    headings = ["times the bound, and requests refused", *throttled.LAWS, "goal"]
    return Report(table(headings, rows), {"laws": results})


def of_others() -> Report:
    """An outage, a neighbour, a chain that is split."""
    out = throttled.outage()
    rows = [["refused for 60 s", f"{out.during} requests meanwhile, {out.simulated.lost} pages lost", ""]]
    for share in (1.0, 0.5):
        asked, refused, simulated = throttled.neighbour(share)
        told = f"it is refused {refused / asked:.2%} of {asked:,} times; the crawl {simulated.share:.2%}"
        met = refused <= _NEIGHBOUR_AT_MOST * asked
        goal = f"at most {_NEIGHBOUR_AT_MOST:.0%}: {'reached' if met else 'NOT REACHED'}" if share < 1 else ""
        rows.append([f"a neighbour that uses 40 %, --rate-share {share:g}", told, goal])
    whole, parts = throttled.split(Split.NO).seconds, throttled.split(Split.TAGS).seconds
    met = parts <= _SPLIT_AT_MOST * whole
    goal = f"at most {_SPLIT_AT_MOST:g} ×: {'reached' if met else 'NOT REACHED'}"
    rows.append(
        ["100 pages of 50 ms, half untagged, split", f"{whole:.2f} s, {parts:.2f} s: {parts / whole:.2f} ×", goal]
    )
    figures = {"outage_requests": out.during, "split": [whole, parts]}
    return Report(table(["simulated", "what came of it", "goal"], rows), {"cases": figures})


def of_estate(*, quick: bool) -> Report:
    """The company that is larger than this machine could serve."""
    skewed = estate.Skewed(accounts=20) if quick else estate.Skewed()
    started = time.process_time()
    found = estate.crawl(skewed, Limits(targets_at_once=1024))
    simulated = found.simulated
    met = simulated.ratio <= _ESTATE_AT_MOST and not simulated.lost
    rows = [
        ["targets", f"{found.targets:,}"],
        ["requests", f"{simulated.requests:,}"],
        *([f"bound by {name}", f"{seconds:,.1f} s"] for name, seconds in found.bounds.items()),
        ["makespan", f"{simulated.seconds:,.1f} s, {simulated.ratio:.3f} × the largest bound"],
        ["requests refused", f"{simulated.share:.2%}"],
        ["pages lost", f"{simulated.lost:,}"],
        ["peak memory of the simulation", f"{found.rss / 1e6:,.0f} MB"],
        ["time to simulate it", f"{found.took:,.0f} s, {time.process_time() - started:,.0f} s of CPU"],
    ]
    if not quick:
        rows.append(["goal", f"at most {_ESTATE_AT_MOST:g} ×: {'reached' if met else 'NOT REACHED'}"])
    title = f"{skewed.accounts:,} accounts × {skewed.regions} regions"
    figures = {"ratio": round(simulated.ratio, 4), "bounds": found.bounds, "requests": simulated.requests}
    return Report(table([title, "simulated"], rows), {"estate": figures})


def draw(runs: Sequence[Throttled], path: Path) -> bool:
    """The rate over time, let in and refused, for each run; False where matplotlib is not installed."""
    try:
        import matplotlib as mpl  # noqa: PLC0415  (a dependency of the chart alone)
        from matplotlib.figure import Figure  # noqa: PLC0415  (the same)
    except ModuleNotFoundError:
        return False
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "benchmarks", "font.size": 9})
    figure = Figure(figsize=(8, 1.3 * len(runs)), layout="constrained")
    for axes, each in zip(figure.subplots(len(runs), 1, sharex=True), runs, strict=True):
        seconds, passed, refused = _rates(each.timeline.looks)
        color = _COLORS[each.name.partition(",")[0]]
        axes.fill_between(seconds, passed, step="post", color=color, linewidth=0)
        axes.step(seconds, refused, where="post", color="#c0392b", linewidth=1)
        axes.axhline(20, color="#57606a", linewidth=0.6, linestyle="dotted")
        axes.set_ylim(0, 60)
        told = f"{each.name}: {each.timeline.seconds:.1f} s, {each.timeline.refused} refused (red)"
        axes.set_title(told, loc="left", color="#57606a")
        axes.tick_params(length=0, colors="#57606a")
        axes.spines[:].set_visible(False)
    figure.supxlabel("seconds", color="#57606a")
    figure.supylabel("requests a second", color="#57606a")
    figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    return True


def _rates(looks: Sequence[Sequence[float]]) -> tuple[list[float], list[float], list[float]]:
    """Points in time since the first request, and what was let in and refused a second, over `_STEP` each."""
    begun = next(at for at, passed, refused in looks if passed + refused)
    seconds, let_in, sent_back = [0.0], [0.0], [0.0]
    last_at, last_passed, last_refused = begun - _STEP, 0.0, 0.0
    for at, passed, refused in looks:
        if at - last_at >= _STEP:
            seconds.append(at - begun)
            let_in.append((passed - last_passed) / (at - last_at))
            sent_back.append((refused - last_refused) / (at - last_at))
            last_at, last_passed, last_refused = at, passed, refused
    return seconds, let_in, sent_back
