"""Charts as SVG, drawn by Vega without a browser and without the network; colours and fonts are the page's.

Nothing is told by colour alone: what a mark stands for is written on it, beside it, or above it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree as ET

import vl_convert
from markupsafe import Markup

from crawler.overview.figures import Leaf
from crawler.report import printable
from crawler.timeline import Timeline
from crawler.wording import counted

_WIDTH, _TREE_HEIGHT, _PANEL_HEIGHT = 1000, 600, 100

#: Its metrics are those of Arial, which most browsers have: labels that are cut to fit, fit there too.
_FONT = "Liberation Sans, Arial, Helvetica, sans-serif"

_CONFIG = {"background": "transparent", "font": _FONT, "axis": {"labelFontSize": 11, "titleFontSize": 12}}

#: A rate that is this many times another is drawn on a logarithmic axis.
_MANY_TIMES = 20

_Spec = dict[str, Any]

_X: _Spec = {"title": None, "tickCount": 12}

#: As wide in all panels, so that the same moment stands below itself.
_Y: _Spec = {"title": None, "tickCount": 4, "minExtent": 40, "maxExtent": 40}


def treemap(leaves: Sequence[Leaf], alt: str) -> Markup:
    """Accounts, in them regions, in them repositories; areas are images. Draws as many as it is given."""
    drawn = [_chosen(f"of {kind}", f"datum.kind == '{kind}' && {_size(1, 1)}") for kind in _KINDS]
    spec: _Spec = {
        "width": _WIDTH,
        "height": _TREE_HEIGHT,
        "config": _CONFIG,
        "data": [
            {"name": "tree", "values": _tree(leaves), "transform": [_STRATIFY, _TREEMAP]},
            *drawn,
            _chosen("labelled", _size(44, 16)),
            _chosen("counted", f"datum.kind == 'repository' && {_size(44, 32)}"),
        ],
        "marks": [*map(_rectangles, _KINDS), _labels("labelled", "label", 13), _labels("counted", "amount", 27)],
    }
    return _inline(vl_convert.vega_to_svg(spec), alt)


#: Of nodes, in the order in which they are drawn: each upon the one that holds it.
_KINDS = ("account", "region", "repository", "rest")

_STRATIFY: _Spec = {"type": "stratify", "key": "id", "parentKey": "parent"}

_TREEMAP: _Spec = {
    "type": "treemap",
    "field": "images",
    "sort": {"field": "value", "order": "descending"},
    "round": True,
    "ratio": 1.6,
    "paddingInner": 2,
    "paddingOuter": 2,
    "paddingTop": 17,  # the name of what is inside
    "size": [_WIDTH, _TREE_HEIGHT],
}


def _chosen(name: str, condition: str) -> _Spec:
    return {"name": name, "source": "tree", "transform": [{"type": "filter", "expr": condition}]}


def _size(width: int, height: int) -> str:
    """Whether a node is larger. One that is too small for its own edges is nowhere: it would stand out of its place."""
    return f"datum.x1 - datum.x0 > {width} && datum.y1 - datum.y0 > {height}"


def _rectangles(kind: str) -> _Spec:
    corners = {name: {"field": field} for name, field in (("x", "x0"), ("y", "y0"), ("x2", "x1"), ("y2", "y1"))}
    return {
        "type": "rect",
        "name": kind,
        "from": {"data": f"of {kind}"},
        "encode": {"enter": {**corners, "stroke": {"value": "black"}, "description": {"field": "told"}}},
    }


def _labels(data: str, field: str, below: int) -> _Spec:
    return {
        "type": "text",
        "name": field,
        "aria": False,
        "from": {"data": data},
        "encode": {
            "enter": {
                "x": {"field": "x0", "offset": 4},
                "y": {"field": "y0", "offset": below},
                "text": {"field": field},
                "limit": {"signal": "datum.x1 - datum.x0 - 8"},
                "fontSize": {"value": 11},
                "fontWeight": {"signal": "datum.kind == 'account' ? 'bold' : 'normal'"},
            }
        },
    }


def _tree(leaves: Sequence[Leaf]) -> list[_Spec]:
    """The nodes of the tree, each with its parent's id; what a node says when it is pointed at in `told`."""
    total = sum(leaf.images for leaf in leaves)
    nodes: dict[tuple[str | None, ...], _Spec] = {(): {"id": 0, "kind": "all", "label": counted(total, "image")}}

    def node(path: tuple[str | None, ...], kind: str, label: str, images: int) -> None:
        if path not in nodes:
            told = ", ".join(nodes[path[:end]]["label"] for end in range(1, len(path)))
            nodes[path] = {
                "id": len(nodes),
                "parent": nodes[path[:-1]]["id"],
                "kind": kind,
                "label": printable(label),
                "before": told,
                "sum": 0,
            }
        nodes[path]["sum"] += images

    for leaf in leaves:
        account = leaf.account or leaf.registry_id or "all others"
        node((leaf.registry_id,), "account", account, leaf.images)
        more = f"{leaf.repositories:,} {'repository' if leaf.repositories == 1 else 'repositories'}"
        if leaf.region is None:
            node((leaf.registry_id, None), "rest", more, leaf.images)
            continue
        node((leaf.registry_id, leaf.region), "region", leaf.region, leaf.images)
        kind, label = ("repository", leaf.repository) if leaf.repository else ("rest", f"{leaf.repositories:,} smaller")
        node((leaf.registry_id, leaf.region, leaf.repository), kind, label, leaf.images)
    for found in nodes.values():
        images = found.pop("sum", 0)
        before = found.pop("before", "")
        found["amount"] = f"{images:,}"
        found["told"] = (
            f"{before}{', ' if before else ''}{found['label']}: {counted(images, 'image')}, {_percent(images, total)}"
        )
        if found["kind"] in ("repository", "rest"):
            found["images"] = images
    return list(nodes.values())


def over_time(timeline: Timeline, alt: str) -> Markup:
    """Requests, refusals and learned rates of each interval, one above the other on one axis of time."""
    unit, seconds = _unit(sum(interval.seconds for interval in timeline.intervals))
    values, end = list[_Spec](), 0.0
    for interval in timeline.intervals:
        start, end = end, end + interval.seconds
        span = max(interval.seconds, 1e-3)
        values.append(
            {
                "start": start / seconds,
                "end": end / seconds,
                "zero": 0,
                "requests": interval.requests / span,
                "throttled": interval.throttled / span,
                "slowest": interval.slowest,
                "fastest": interval.fastest,
            }
        )
    x: _Spec = {"field": "start", "type": "quantitative", "axis": _X, "scale": {"nice": False}}
    panels = [
        _panel("requests", "Requests a second", x, [_bars("requests")]),
        _panel("throttled", "Refused for coming too fast, a second", x, [_bars("throttled")]),
    ]
    if any(value["slowest"] is not None for value in values):
        panels.append(_panel("rates", "Rates learned, requests a second: slowest and fastest", x, _band(values)))
    panels[-1]["encoding"]["x"] = x | {"axis": _X | {"title": f"{unit} since the crawl began"}}
    spec: _Spec = {"config": _CONFIG | {"view": {"stroke": None}}, "data": {"values": values}, "vconcat": panels}
    return _inline(vl_convert.vegalite_to_svg(spec), alt)


def _panel(name: str, title: str, x: _Spec, layers: Sequence[_Spec]) -> _Spec:
    return {
        "name": name,
        "title": {"text": title, "anchor": "start", "fontSize": 13},
        "width": _WIDTH - 60,
        "height": _PANEL_HEIGHT,
        "encoding": {"x": x, "x2": {"field": "end"}},
        "layer": list(layers),
    }


def _bars(field: str) -> _Spec:
    y = {"field": field, "type": "quantitative", "axis": _Y | {"tickMinStep": 1}}
    return {"mark": {"type": "rect", "aria": False}, "encoding": {"y": y, "y2": {"field": "zero"}}}


def _band(values: Sequence[Mapping[str, Any]]) -> list[_Spec]:
    rates = [value[name] for value in values for name in ("slowest", "fastest") if value[name] is not None]
    wide = min(rates) > 0 and max(rates) > _MANY_TIMES * min(rates)
    axis: _Spec = {"axis": _Y, "type": "quantitative"}
    axis["scale"] = {"type": "log"} if wide else {"zero": True}

    def mark(kind: str, y: str, **more: _Spec) -> _Spec:
        return {"mark": {"type": kind, "aria": False}, "encoding": {"y": {"field": y, **axis}, **more}}

    return [mark("rect", "slowest", y2={"field": "fastest"}), mark("rule", "slowest"), mark("rule", "fastest")]


def _unit(seconds: float) -> tuple[str, float]:
    """In what time is told, and how many seconds that is."""
    if seconds < 600:  # noqa: PLR2004  (ten minutes)
        return "Seconds", 1.0
    return ("Minutes", 60.0) if seconds < 4 * 3600 else ("Hours", 3600.0)


def _percent(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "-"


def _inline(svg: str, alt: str) -> Markup:
    """The drawing to stand in a page: one image with `alt`, its marks with a tooltip where they say something.

    Parsed and written anew, so that what stands in the page is well-formed whatever the names in it are.
    """
    root = ET.fromstring(svg)  # noqa: S314  (drawn here, and no entities are declared)  # nosec B314
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        told = element.attrib.pop("aria-label", None)
        for name in [name for name in element.attrib if name.startswith("aria-") or name == "role"]:
            del element.attrib[name]
        if told and element.tag == "path":
            ET.SubElement(element, "title").text = told
    for size in ("width", "height"):
        root.attrib.pop(size, None)
    root.attrib |= {"role": "img", "aria-label": alt, "class": "chart"}
    return Markup(ET.tostring(root, encoding="unicode"))  # noqa: S704  (see above)  # nosec B704
