"""The figures of `results.json` as an SVG that a README can show."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_OURS, _OTHERS, _TEXT = "#0b6e4f", "#9aa5b1", "#57606a"


def draw(results: Path, chart: Path) -> bool:
    """Bars of each contest; False where matplotlib is not installed."""
    try:
        import matplotlib as mpl  # noqa: PLC0415  (a dependency of the chart alone)
        from matplotlib.figure import Figure  # noqa: PLC0415  (the same)
    except ModuleNotFoundError:
        return False
    works = [work for work in json.loads(results.read_text())["works"].values() if "clients" in work]
    # Text stays text, and the same figures give the same bytes.
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "benchmarks", "font.size": 9})
    heights = [len(work["clients"]) + 1 for work in works]
    figure = Figure(figsize=(8, 0.3 * sum(heights) + 0.4), layout="constrained")
    for axes, work in zip(_stacked(figure, heights), works, strict=True):
        _bars(axes, work)
    figure.savefig(chart, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    return True


def _stacked(figure: Any, heights: list[int]) -> list[Any]:
    axes = figure.subplots(len(heights), 1, height_ratios=heights, squeeze=False)
    return [row[0] for row in axes]


def _bars(axes: Any, work: dict[str, Any]) -> None:
    clients = work["clients"]
    bars = axes.barh(
        [client["name"] for client in clients],
        [client["rate"] for client in clients],
        color=[_OURS if client["name"] == "crawler" else _OTHERS for client in clients],
    )
    axes.bar_label(bars, [f"{client['rate']:,.0f}" for client in clients], padding=4, color=_TEXT)
    axes.set_title(f"{work['work']}: {work['unit']} a second on one core", loc="left", color=_TEXT)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.tick_params(length=0, colors=_TEXT)
    axes.xaxis.set_visible(False)
    axes.spines[:].set_visible(False)
