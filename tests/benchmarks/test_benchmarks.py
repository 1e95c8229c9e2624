"""That the benchmarks still run and still notice what they must; how fast anything is, no test asks."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import machine, report, scale, throttle_report, throttled, works
from benchmarks.machine import multiset

needs_wrk = pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")


def benchmark(*arguments: str) -> str:
    command = [sys.executable, "-m", "benchmarks", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@needs_wrk
@pytest.mark.parametrize(
    ("name", "peers"),
    [
        pytest.param("pages", ["boto3, 16 threads", "aiobotocore, 50 in flight"], marks=pytest.mark.slow),
        pytest.param("targets", ["aiobotocore, a client each"], marks=pytest.mark.slow),
    ],
)
def test_a_contest_checks_every_row_and_prints_its_table(name: str, peers: list[str]) -> None:
    printed = benchmark(name, "--quick")
    for client in ("crawler", *peers):
        assert re.search(rf"^\| {client} +\|", printed, re.MULTILINE), printed
    assert re.search(r"^[\d,]+ rows: 0 lost, 0 repeated", printed, re.MULTILINE), printed


@pytest.mark.slow
def test_memory_and_startup_print_their_tables_and_keep_no_quick_figures() -> None:
    kept = Path(report.__file__).with_name("results.json")
    before = kept.read_bytes() if kept.exists() else b""
    assert "| 3 repositories × 2,000 images" in benchmark("memory", "--quick")
    assert "| python -m crawler --help" in benchmark("startup", "--quick")
    assert (kept.read_bytes() if kept.exists() else b"") == before


@pytest.mark.slow
def test_throttling_is_measured() -> None:
    printed = benchmark("throttle", "--quick")
    for client in ("crawler, cold", "crawler, last night's hints", "aiobotocore, adaptive"):
        assert re.search(rf"^\| {client} +\|", printed, re.MULTILINE), printed
    # No row of ours is lost, whatever happens to those of others.
    assert re.search(r"^\| crawler, cold .*\| +0 \| [^|]*\| [^|]*\|$", printed, re.MULTILINE), printed


@pytest.mark.slow
def test_throttling_is_simulated() -> None:
    printed = benchmark("simulate", "--quick")
    assert re.search(r"^\| 400 repositories, 20/s, burst 40 .* 1.06, 5%: reached \|$", printed, re.MULTILINE), printed
    assert "680" in printed


def test_no_law_beats_the_bucket() -> None:
    case = next(throttled.cases())
    for governors in throttled.LAWS.values():
        simulated = case.run(governors)
        assert simulated.lost == 0
        assert simulated.ratio >= 1


def test_the_rate_over_time_is_that_of_the_looks() -> None:
    looks = [(0.0, 0, 0), (0.5, 10, 0), (1.0, 20, 5)]
    seconds, passed, refused = throttle_report._rates(looks)
    assert (seconds, passed, refused) == ([0.0, 0.0, 0.5], [0.0, 20.0, 20.0], [0.0, 0.0, 10.0])


def test_order_does_not_matter_and_every_line_counts() -> None:
    assert multiset([b"a\n", b"b\n"]) == multiset([b"b\n", b"a\n"])
    assert multiset([b"a\n", b"b\n"]) != multiset([b"a\n", b"b\n", b"b\n"])
    assert multiset([b"a\n", b"a\n"]) != multiset([b"a\n", b"b\n"])
    assert multiset([b"a\n", b"a\n", b"b\n"]) != multiset([b"a\n", b"b\n", b"b\n"])


@pytest.mark.parametrize("name", ["pages", "small", "targets"])
def test_the_truth_of_a_work_is_that_of_its_estate(name: str) -> None:
    work = works.works(quick=True)[name]
    lines = list(work.lines())
    assert len(lines) == work.estate.total() == len(set(lines))


def test_a_command_that_fails_fails_the_benchmark_with_what_it_said() -> None:
    with pytest.raises(machine.Failed, match=r"ended with 3:\nno such estate"):
        machine.run([sys.executable, "-c", "import sys; print('no such estate', file=sys.stderr); sys.exit(3)"], {})


def test_the_cost_of_a_command_is_its_own() -> None:
    ballast = b"x" * 300_000_000  # what the measuring process holds must not count for the one that is measured
    cost = machine.run([sys.executable, "-S", "-c", "sum(range(3_000_000))"], dict(os.environ))
    assert len(ballast) > cost.rss > 4_000_000
    assert 0 < cost.cpu < 60


def test_a_table_stays_between_its_marks(tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    page.write_text("before\n<!-- a -->\nold\n<!-- end -->\nbetween\n<!-- b -->\n<!-- end -->\n")
    report.into_readme(page, "a", report.table(["a", "b"], [["one", "2"]]))
    assert page.read_text() == (
        "before\n<!-- a -->\n| a   | b |\n|-----|--:|\n| one | 2 |\n<!-- end -->\nbetween\n<!-- b -->\n<!-- end -->\n"
    )


@pytest.mark.slow
def test_workers_are_measured() -> None:
    printed = benchmark("workers", "--quick")
    for engine in ("in this process", "--workers 1", "--workers 2"):
        assert re.search(rf"^\| {engine} +\|", printed, re.MULTILINE), printed


@pytest.mark.slow
def test_the_table_of_scale_is_what_the_figures_give() -> None:
    """`python -m benchmarks scale` writes it anew after other benchmarks were run."""
    here = Path(report.__file__).parent
    page = (here.parent / "docs/explanation/scale.md").read_text()
    measured = scale.Measured.read(here / "results.json")
    cells = scale.row(
        scale.Work.of(scale.Skewed(accounts=1_000)), measured, scale.Assumed(), scale.ratio(here / "results.json")
    )
    assert re.search(r" +\| +".join(map(re.escape, cells)), page), cells
