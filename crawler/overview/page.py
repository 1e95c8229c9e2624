"""The page: figures and charts in one file of HTML that asks nobody for anything, and runs nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import orjson
from jinja2 import Environment, PackageLoader, StrictUndefined

from crawler.errors import UsageError
from crawler.ledger import parse
from crawler.overview.charts import over_time, treemap
from crawler.overview.figures import Figures, Leaf, rates_by_target
from crawler.progress import duration
from crawler.report import describe, next_step, printable
from crawler.runs.documents import Manifest
from crawler.timeline import Interval, Timeline
from crawler.wording import counted

#: Lines of the table that says in numbers what the chart over time shows.
_TIMES = 24

_KIB = 1024


@dataclass(frozen=True, slots=True)
class Cause:
    """What units failed at, and what a person can do about it."""

    outcome: str
    where: str
    units: int
    step: str


@dataclass(frozen=True, slots=True)
class Row:
    """An interval of the timeline, from `start` to `end` in seconds."""

    start: float
    end: float
    interval: Interval


def page(figures: Figures) -> bytes:
    """Render the page. Names that come from outside are escaped, and shown as `printable` has them."""
    environment = Environment(
        loader=PackageLoader("crawler", "overview"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": lambda value: f"{value:,}",
        "shown": printable,
        "time": _time,
        "duration": _duration,
        "size": _size,
    }
    timeline = figures.timeline if figures.timeline and figures.timeline.intervals else None
    causes = _causes(figures.manifest)
    return (
        environment.get_template("page.html")
        .render(
            figures=figures,
            manifest=figures.manifest,
            totals=figures.totals,
            bytes=sum(part.bytes for part in figures.manifest.parts),
            share=share,
            counted=counted,
            operations=figures.manifest.kind.operations,
            causes=causes,
            unexplained=figures.manifest.missing - sum(cause.units for cause in causes),
            tree=treemap(figures.leaves, _tree_alt(figures.leaves)) if figures.leaves else None,
            over_time=over_time(timeline, _time_alt(timeline)) if timeline else None,
            times=_times(timeline) if timeline else [],
            learned=any(interval.slowest is not None for interval in timeline.intervals) if timeline else False,
            rates=rates_by_target(figures.timeline),
        )
        .encode()
    )


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if 0 < seconds < 1 else duration(seconds)


def share(part: float, whole: float) -> str:
    """A part in percent."""
    return f"{part / whole:.1%}" if whole else "-"


def _causes(manifest: Manifest) -> Sequence[Cause]:
    try:
        results = [(parse(orjson.dumps(failure)), int(failure["units"])) for failure in manifest.failures]
    except (LookupError, TypeError, ValueError) as error:
        raise UsageError(f"the manifest of run {manifest.run} is damaged at failures: {error}") from error
    return [
        Cause(str(result.outcome), describe(result, units).removeprefix(f"{result.outcome} "), units, next_step(result))
        for result, units in results
    ]


def _tree_alt(leaves: Sequence[Leaf]) -> str:
    total = sum(leaf.images for leaf in leaves)
    accounts: dict[str, int] = {}
    for leaf in leaves:
        name = leaf.account or leaf.registry_id or "all smaller accounts together"
        accounts[name] = accounts.get(name, 0) + leaf.images
    largest = sorted(accounts.items(), key=lambda item: -item[1])[:5]
    told = ", ".join(f"{printable(name)} {share(images, total)}" for name, images in largest)
    return f"Treemap of {counted(total, 'image')} by account, region and repository. Most are in: {told}."


def _time_alt(timeline: Timeline) -> str:
    requests = sum(interval.requests for interval in timeline.intervals)
    throttled = sum(interval.throttled for interval in timeline.intervals)
    seconds = sum(interval.seconds for interval in timeline.intervals)
    most = max(interval.requests / max(interval.seconds, 1e-3) for interval in timeline.intervals)
    return (
        f"Requests over {duration(seconds)}: {requests / max(seconds, 1e-3):,.1f} a second on average, {most:,.1f} at "
        f"most; {share(throttled, requests)} were refused for coming too fast. The table below has the numbers."
    )


def _times(timeline: Timeline) -> Sequence[Row]:
    """The timeline in few lines."""
    step = -(-len(timeline.intervals) // _TIMES)
    rows, end = list[Row](), 0.0
    for first in range(0, len(timeline.intervals), step):
        joined = timeline.intervals[first]
        for later in timeline.intervals[first + 1 : first + step]:
            joined = joined.joined(later)
        rows.append(Row(end, end + joined.seconds, joined))
        end += joined.seconds
    return rows


def _time(iso: str) -> str:
    try:
        return f"{datetime.fromisoformat(iso):%Y-%m-%d %H:%M:%S} UTC"
    except ValueError:
        return printable(iso)


def _size(count: float) -> str:
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < _KIB:
            return f"{count:,.0f} {unit}" if unit == "bytes" else f"{count:,.1f} {unit}"
        count /= _KIB
    return f"{count:,.1f} TiB"
