"""What publishing costs: Parquet beside NDJSON, memory, sizes, a resume, and the changes between two nights."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.clients import CRAWLER_DEEP
from benchmarks.machine import CLIENT, Cost, Failed, run
from benchmarks.report import table
from benchmarks.server import Server, serving
from benchmarks.works import FILLED, Work
from crawler.model import ImageId, RowKind, Verbatim
from crawler.sinks.encoding import Encoding, Origin
from crawler.sinks.formats import encoding_of
from crawler.sinks.spool import PartFile, Spool

#: What must be reached: parts of NDJSON's rate, bytes of memory, part of a whole run that a resume takes, seconds.
_PARQUET_AT_LEAST = 0.7
_PARQUET_MB, _DIFF_MB, _DIFF_SECONDS = 400, 1000, 60
_RESUME_AT_MOST, _KILLED_AT = 0.2, 0.9

#: Bytes of a SHA-256 digest: random, so nothing packs them smaller.
_FLOOR = 32

#: What sizes are told of: every image with a digest of its own (those of the emulator follow a template), half tagged.
_REPOSITORIES, _IMAGES = 100, 5_000


_WHEN = datetime(2026, 1, 31, 2, tzinfo=UTC)

Row = tuple[str, str, str, dict[str, float]]


class _Lake:
    """One work on one server, published in a folder under several run ids."""

    def __init__(self, work: Work, server: Server, folder: Path) -> None:
        self._work = work
        self._server = server
        self._env = server.as_account(FILLED)
        self._accounts = server.folder / "accounts.yaml"
        self._accounts.write_text(work.accounts_yaml())
        self._none = server.folder / "none.yaml"
        self._none.write_text(work.accounts_yaml(empty=True))
        self._out = f"{folder}/"

    def stream(self) -> Cost:
        """NDJSON to the null device, less start-up."""
        return _less(run(CRAWLER_DEEP.on(self._accounts), self._env), run(CRAWLER_DEEP.on(self._none), self._env))

    def publish(self, run_id: str, form: str) -> Cost:
        """A published run."""
        return run(self._publishing(run_id, form), self._env)

    def published(self, run_id: str, form: str) -> Cost:
        """The same less start-up: that of a run which holds nothing, and publishes that."""
        whole = self.publish(run_id, form)
        self.check(run_id)
        return _less(whole, run(self._publishing(f"{run_id}-empty", form, self._none), self._env))

    def killed(self, run_id: str, form: str, requests: float) -> None:
        """Begin a run and kill it after so many requests: on a busy machine seconds say little of how far it came."""
        command = self._publishing(run_id, form)
        with subprocess.Popen(["taskset", "-c", str(max(CLIENT, 0)), *command], env=self._env) as process:
            while self._requests() < requests and process.poll() is None:
                time.sleep(0.05)
            process.send_signal(signal.SIGKILL)

    def asked(self, run_id: str, form: str) -> tuple[Cost, int]:
        """A published run, and the requests that it took."""
        self._server.reset()
        cost = self.publish(run_id, form)
        requests = self._requests()
        self._server.reset()
        return cost, requests

    def _requests(self) -> int:
        return sum(self._server.stats()["requests"].values())

    def _manifest(self, run_id: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(Path(self._out, "runs", run_id, "manifest.json").read_bytes())
        return found

    def check(self, run_id: str) -> None:
        """Raise `Failed` unless the run has as many rows as the estate."""
        rows, expected = self._manifest(run_id)["rows"], self._work.repositories * self._work.images
        if rows != expected:
            raise Failed(f"run {run_id} has {rows:,} rows, and the estate {expected:,}")

    def _publishing(self, run_id: str, form: str, accounts: Path | None = None) -> list[str]:
        published = ["--output", self._out, "--format", form, "--run-id", run_id]
        return [*CRAWLER_DEEP.on(accounts or self._accounts), *published]


def _less(whole: Cost, startup: Cost) -> Cost:
    return Cost(max(whole.wall - startup.wall, 1e-3), max(whole.cpu - startup.cpu, 1e-3), whole.rss)


def measure(
    made: dict[str, Work], rounds: int, say: Callable[[str], None], *, quick: bool
) -> tuple[str, dict[str, Any]]:
    """All rows of the table, as text and as figures."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        rows = [_sizes(quick=quick), *_rates(made["pages"], folder / "a", rounds, say, quick=quick)]
        rows += _large(made["memory-10m"], made["later-10m"], folder / "b", say, quick=quick)
        for work in (made["resumed"], made["resumed-longer"]):
            rows += [_killed(work, folder / work.name, rounds, say, quick=quick)]
    text = table(["published runs", "what came of it", "goal"], [[what, told, goal] for what, told, goal, _ in rows])
    return text, {"lake": {what: figures for what, _, _, figures in rows}}


def _rates(work: Work, folder: Path, rounds: int, say: Callable[[str], None], *, quick: bool) -> Sequence[Row]:
    streams, parquets = [], []
    with serving(work, quick=quick) as server:
        lake = _Lake(work, server, folder)
        lake.stream()  # the emulator remembers its answers from then on
        for number in range(rounds):
            say(f"lake: {work.title}, round {number + 1} of {rounds}")
            streams.append(lake.stream())
            parquets.append(lake.published(f"parquet-{number}", "parquet"))
    by_wall = median(cost.wall for cost in streams) / median(cost.wall for cost in parquets)
    by_cpu = median(cost.cpu for cost in streams) / median(cost.cpu for cost in parquets)
    count = work.repositories * work.images
    rate = count / median(cost.wall for cost in parquets)
    told = f"{rate:,.0f} rows/s: {by_wall:.2f} × NDJSON to the null device, {by_cpu:.2f} × by CPU"
    figures = {"rows_per_second": round(rate), "times_ndjson": round(by_wall, 3), "by_cpu": round(by_cpu, 3)}
    return [
        (f"{work.title}, Parquet", told, _goal(f"at least {_PARQUET_AT_LEAST:g} ×", met=by_wall >= _PARQUET_AT_LEAST),
         figures),
    ]  # fmt: skip


def _sizes(*, quick: bool) -> Row:
    repositories = 2 if quick else _REPOSITORIES
    count = repositories * _IMAGES
    packed, zst = (_packed(form, repositories) / count for form in ("parquet", "ndjson.zst"))
    told = f"{packed:.1f} bytes a row in parquet, {zst:.1f} in ndjson.zst; a digest alone has {_FLOOR}"
    title = f"size of {count:,} rows, every digest random"
    return title, told, _goal("parquet no larger", met=packed <= zst), {"parquet": packed, "ndjson.zst": zst}


def _packed(form: str, repositories: int) -> int:
    """Bytes of a part, made as a crawl makes it."""
    encoding: Encoding[Any] = encoding_of(form, "nightly-2026-01-31", RowKind.IDS)
    with PartFile(encoding.suffix) as file:
        file.open(encoding)
        for number in range(repositories):
            name = f"team-{number % 20}/service-{number}"
            origin = Origin("payments", "123456789012", "eu-west-1", name, _WHEN)
            spool = Spool(encoding, origin)
            for first in range(0, _IMAGES, 1000):
                spool.add(Verbatim(_image(number, image) for image in range(first, first + 1000)))
            file.append(origin, spool)
            spool.close()
        file.finish()
        return file.size


def _image(repository: int, number: int) -> ImageId:
    digest = sha256(f"{repository}/{number}".encode()).hexdigest()
    return {"imageDigest": f"sha256:{digest}", "imageTag": f"1.{number}.0" if number % 2 else None}


def _large(work: Work, later: Work, folder: Path, say: Callable[[str], None], *, quick: bool) -> Sequence[Row]:
    with serving(work, quick=quick) as server:
        lake = _Lake(work, server, folder)
        say(f"lake: {work.title}")
        whole = lake.publish("first", "parquet")
    with serving(later, quick=quick) as server:
        say(f"lake: {later.title}")
        _Lake(later, server, folder).publish("second", "parquet")
    say("lake: diff")
    command = [sys.executable, "-m", "crawler", "diff", "first", "second", "--output", f"{folder}/"]
    changes: list[int] = []
    cost = run(command, os.environ, read=lambda output: changes.append(sum(1 for _ in output)))
    expected = later.repositories * (later.images - work.images)
    if changes != [expected]:
        raise Failed(f"diff tells {changes} changes, and there are {expected:,}")
    count = work.repositories * work.images
    return [
        (f"{work.title}, memory", f"{whole.rss / 1e6:.0f} MB, {whole.wall:.1f} s",
         _goal(f"at most {_PARQUET_MB} MB", met=whole.rss <= _PARQUET_MB * 1e6), {"rss": whole.rss}),
        (f"diff of {count:,} with {later.repositories * later.images:,} rows",
         f"{cost.wall:.1f} s, {cost.rss / 1e6:.0f} MB, {changes[0]:,} changes",
         _goal(f"at most {_DIFF_SECONDS} s, {_DIFF_MB} MB",
               met=cost.wall <= _DIFF_SECONDS and cost.rss <= _DIFF_MB * 1e6),
         {"seconds": round(cost.wall, 1), "rss": cost.rss}),
    ]  # fmt: skip


def _killed(work: Work, folder: Path, rounds: int, say: Callable[[str], None], *, quick: bool) -> Row:
    """A run that is killed late, and goes on. What was in flight is crawled again: here, of up to 32 repositories."""
    wholes, parts = list[float](), list[float]()
    with serving(work, quick=quick) as server:
        lake = _Lake(work, server, folder)
        lake.stream()  # the emulator remembers its answers from then on
        for number in range(rounds):
            say(f"lake: {work.title}, killed, and resumed, round {number + 1} of {rounds}")
            whole, requests = lake.asked(f"whole-{number}", "parquet")
            lake.killed(f"again-{number}", "parquet", _KILLED_AT * requests)
            resumed = lake.publish(f"again-{number}", "parquet")
            lake.check(f"again-{number}")
            server.reset()
            wholes.append(whole.wall)
            parts.append(resumed.wall / whole.wall)
    part = median(parts)
    each = ", ".join(f"{part:.0%}" for part in sorted(parts))
    told = f"{part:.0%} of {median(wholes):.1f} s, start-up included (rounds: {each})"
    goal = _goal(f"at most {_RESUME_AT_MOST:.0%}", met=part <= _RESUME_AT_MOST)
    figures = {"part": round(part, 3), "seconds": round(median(wholes), 1)}
    return f"{work.title}, killed at {_KILLED_AT:.0%}, resumed", told, goal, figures


def _goal(text: str, *, met: bool) -> str:
    return f"{text}: {'reached' if met else 'NOT REACHED'}"
