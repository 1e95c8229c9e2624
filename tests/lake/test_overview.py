"""The page of a run: its figures against sums in memory, and its HTML as a browser reads it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import anyio
import pytest

from crawler.emulator import Options, Throttle, running
from crawler.errors import Fatal
from crawler.model import Account
from crawler.overview.figures import Figures
from crawler.overview.write import write_page
from crawler.runs import layout
from tests.lake.conftest import Place, Zygote, company
from tests.lake.made_up import Repository, estate, failures, publish, two_nights
from tests.lake.test_crash import command

VOID = {"meta", "br", "hr", "img", "input", "link", "base"}
HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</title></style><b>",
    "{{ 7 * 7 }}",
    "]]><!--",
    "\u202etxt.exe",
    "a\x00b\x1b[31m",
    "&lt;b&gt;",
]


class Page(HTMLParser):
    """What a browser would make of it. Fails where an element is not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.raw = text
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.text += " "
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> at {self.getpos()}"

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.text += data

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def said(page: Page) -> str:
    return re.sub(r"\s+", " ", page.text)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nights")
    two_nights(folder, 400)
    return folder


def draw(folder: Path, run: str, since: str | None = None) -> tuple[Page, Figures]:
    """In this process: to start Vega takes longer than all the rest."""
    to = folder / "report.html"
    figures = anyio.run(write_page, f"{folder}/", run, str(to), since)
    return Page(to.read_text()), figures


@pytest.fixture(scope="module")
def page(store: Path) -> Page:
    return draw(store, "nightly-2026-01-31")[0]


def test_its_figures_are_those_of_the_run(page: Page) -> None:
    made, text = estate(400), said(page)
    images, untagged = sum(one.images for one in made), sum(one.untagged for one in made)
    assert f"Images {images:,} {images:,} image IDs" in text
    assert f"{untagged:,} of {images:,} images, {untagged / images:.1%}" in text
    largest = max(made, key=lambda one: one.images)
    assert f"{largest.region} {largest.name} {largest.images:,}" in text
    assert "nightly-2026-01-31 incomplete" in text
    for failure in failures():
        assert failure.message
        assert failure.message in text
    grown = sum(one.images - one.images * 9 // 10 for one in made[::2])
    assert f"Image IDs added {grown:,}" in text
    assert "Compared with nightly-2026-01-30" in text
    titles = re.findall(r"<title>(.*?)</title>", page.raw)
    assert len(titles) > 100
    told = f"{largest.name}: {largest.images:,} images, {largest.images / images:.1%}"
    assert any(title.endswith(told) for title in titles)


def test_the_run_before_is_found(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crawler.overview.write.page", lambda _: b"")
    assert draw(store, "nightly-2026-01-30")[1].changes is None
    _, figures = draw(store, "nightly-2026-01-30", since="nightly-2026-01-31")
    assert figures.changes
    assert figures.changes.before == "nightly-2026-01-31"
    assert set(figures.changes.compared.changes) == {"removed"}
    (store / "report.html").unlink()
    with pytest.raises(Fatal, match="run sunday is not published"):
        draw(store, "sunday")
    assert not list(store.glob("report*")), "half a file would be left of a misspelt run"


def test_what_a_timeline_does_not_have_is_said(tmp_path: Path) -> None:
    manifest = publish(tmp_path, "r", estate(20), [])
    path = tmp_path / (manifest.timeline or "")
    told = json.loads(path.read_bytes())
    for interval in told["intervals"]:  # as where other machines crawl
        interval |= {"limited": 0, "slowest": None, "fastest": None}
    path.write_text(json.dumps(told))
    assert "No rate was told while the crawl went on" in said(draw(tmp_path, "r")[0])
    path.write_text(json.dumps({**told, "intervals": []}))
    shared = replace(manifest, settings={**manifest.settings, "shard": "of 8"})
    (tmp_path / layout.manifest("r")).write_bytes(shared.encode())
    assert "no timeline: it was crawled in shares" in said(draw(tmp_path, "r")[0])


def test_names_are_text_whatever_is_in_them(tmp_path: Path) -> None:
    hostile = [
        Repository(Account(f"{number:012}", name), "us-east-1", name, 50 + number, 5)
        for number, name in enumerate(HOSTILE)
    ]
    (failed, *_) = failures()
    failed = replace(failed, message=HOSTILE[0], unit=replace(failed.unit, account=Account("9" * 12, HOSTILE[1])))
    publish(tmp_path, "r", hostile, [failed])
    page, _ = draw(tmp_path, "r")
    assert not {"script", "img", "iframe", "link", "form", "b"} & {tag for tag, _ in page.elements}
    for tag, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on") or name in ("src", "xlink:href", "action")], (
            tag
        )
        assert (attributes.get("href") or "#").startswith("#")
    assert not set("\x00\x1b\u202e") & set(page.raw)
    for name in (HOSTILE[0], HOSTILE[1], "{{ 7 * 7 }}", r"\u202etxt.exe", r"a\x00b\x1b[31m", "&lt;b&gt;"):
        assert name in page.text
    policy = page.named("meta")[1]
    assert policy["http-equiv"] == "Content-Security-Policy"
    assert (policy["content"] or "").startswith("default-src 'none'")


def test_it_is_for_those_who_do_not_see_it_too(page: Page) -> None:
    charts = page.named("svg")
    assert len(charts) == 2
    for chart in charts:
        assert chart["role"] == "img"
        assert len(chart["aria-label"] or "") > 60
    for attributes in page.named("div"):
        if attributes.get("class") == "scroll":  # a keyboard must reach what scrolls
            assert (attributes["tabindex"], attributes["role"]) == ("0", "region")
            assert attributes["aria-label"]
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {(link["href"] or "")[1:] for link in page.named("a")} <= set(ids)
    assert [tag for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)][:2] == ["h1", "h2"]
    assert all(attributes.get("scope") for attributes in page.named("th"))


@pytest.mark.parametrize("place", ["local"], indirect=True)
def test_a_crawl_leaves_what_it_needs(program: Zygote, place: Place) -> None:
    slow = Options(throttle=Throttle(10, 1), faults=["access-denied:account=000000000001,times=always"])
    with running(company(), slow) as emulator:
        program.environment |= {**emulator.environment(), **(place.s3.environment() if place.s3 else {})}
        assert program.run(*command(place, "r")) == 3
    manifest = place.manifest("r")
    assert manifest
    intervals, units = json.loads(place.read(manifest["timeline"]))["intervals"], place.ledger("r")
    for counted, by_unit in (("requests", "attempts"), ("throttled", "throttled"), ("rows", "rows")):
        assert sum(interval[counted] for interval in intervals) == sum(unit[by_unit] for unit in units), counted
    assert sum(interval["rows"] for interval in intervals) == manifest["rows"] > 0
    code = program.run("report", "r", "--output", place.output, "-o", str(program.folder / "page.html"))
    assert code == 0, program.said()
    assert "page.html is written" in program.said()
    text = said(Page((program.folder / "page.html").read_text()))
    assert "r incomplete" in text
    assert "Denied: give the role the action" in text
    assert "Requests a second" in text
    assert "Rates learned" in text
    assert "Where AWS refused requests" in text
