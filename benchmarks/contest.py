"""Clients at the same work, several rounds in turn, and the medians."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import IO

from benchmarks.ceiling import Ceiling
from benchmarks.clients import Client
from benchmarks.machine import Cost, Failed, first_byte, multiset, run
from benchmarks.server import Server, serving
from benchmarks.works import EMPTY, FILLED, Work


@dataclass(frozen=True)
class Figures:
    """Medians of one client. Seconds, bytes; `rate` in units of the work a second and `requests` in those to ECR.

    `rate` and `requests` are of the wall clock less `startup`, the wall clock of the same command on an empty registry;
    `cpu_rate` is the same in seconds of CPU, which neighbours on the machine disturb less.
    """

    name: str
    wall: float
    cpu: float
    startup: float
    rate: float
    cpu_rate: float
    requests: float
    rss: float
    first: float
    connections: float


@dataclass
class _Samples:
    whole: list[Cost] = field(default_factory=list[Cost])
    startup: list[Cost] = field(default_factory=list[Cost])
    first: list[float] = field(default_factory=list[float])
    connections: list[int] = field(default_factory=list[int])


@dataclass(frozen=True)
class Outcome:
    """What a contest found; the crawler comes first. `ceiling` is requests a second, by wall clock and by its CPU."""

    work: Work
    rows: int
    figures: list[Figures]
    ceiling: tuple[float, float]

    @property
    def headroom(self) -> float:
        """How many times the fastest client's requests the emulator could answer."""
        return self.ceiling[0] / max(each.requests for each in self.figures)


class Contest:
    """One work, one emulator, some clients. `say` tells what is going on."""

    def __init__(self, work: Work, clients: Sequence[Client], server: Server, say: Callable[[str], None]) -> None:
        self._work = work
        self._clients = clients
        self._server = server
        self._say = say
        single = work.accounts == 1
        self._env = server.as_account(FILLED) if single else dict(server.env)
        self._empty_env = server.as_account(EMPTY) if single else dict(server.env)
        self._none = server.folder / "none.yaml"
        self._none.write_text(work.accounts_yaml(empty=True))
        self._report = server.folder / "report.json"
        self._truths: dict[int | None, tuple[int, int]] = {}

    def run(self, rounds: int, seconds: int) -> Outcome:
        """Warm up and check every row of every client; then measure, in turn."""
        for client in self._clients:
            self.check(client)
        ceiling = Ceiling(self._work, self._server)
        ceilings: list[tuple[float, float]] = []
        samples = {client.name: _Samples() for client in self._clients}
        for number in range(1, rounds + 1):
            self._say(f"{self._work.name}: round {number} of {rounds}")
            ceilings.append(ceiling.measure(seconds))
            for client in self._clients:
                self._round(client, samples[client.name])
        figures = [self._figures(client, samples[client.name]) for client in self._clients]
        by_wall, by_cpu = zip(*ceilings, strict=True)
        return Outcome(self._work, self._truth(None)[0], figures, (median(by_wall), median(by_cpu)))

    def check(self, client: Client) -> Cost:
        """Compare all rows of an untimed run with the estate. The emulator remembers its answers to this client."""
        self._say(f"{self._work.name}: every row of {client.name}")
        found: list[tuple[int, int]] = []

        def read(output: IO[bytes]) -> None:
            found.append(multiset(output))

        cost = run(client.on(self._accounts(client)), self._env, read=read)
        truth = self._truth(client.sample)
        if found != [truth]:
            raise Failed(
                f"{client.name} wrote {found[0][0]:,} rows and the estate has {truth[0]:,}: they are not the same"
            )
        return cost

    def _round(self, client: Client, samples: _Samples) -> None:
        samples.startup.append(run(client.on(self._none), self._empty_env))
        self._server.reset()
        ours = ["--report", str(self._report)] if client.name == "crawler" else []
        samples.whole.append(run([*client.on(self._accounts(client)), *ours], self._env))
        stats = self._server.stats()
        samples.connections.append(stats["connections"])
        asked = sum(count for name, count in stats["requests"].items() if name.startswith("ecr:"))
        if stats["errors"] or asked != self._work.requests(client.sample):
            raise Failed(f"{client.name} made {asked:,} requests; refused were {stats['errors']}")
        if ours:
            self._check_report(self._report)
        samples.first.append(first_byte(client.on(self._accounts(client)), self._env).first or 0.0)

    def _check_report(self, path: Path) -> None:
        report = json.loads(path.read_bytes())
        if report["rows"] != self._truth(None)[0]:
            raise Failed(f"the crawler delivered {report['rows']:,} rows and the estate has {self._truth(None)[0]:,}")

    def _accounts(self, client: Client) -> Path:
        path = self._server.folder / f"accounts-{client.sample}.yaml"
        if not path.exists():
            path.write_text(self._work.accounts_yaml(client.sample))
        return path

    def _truth(self, accounts: int | None) -> tuple[int, int]:
        if accounts not in self._truths:
            self._truths[accounts] = multiset(self._work.lines(accounts))
        return self._truths[accounts]

    def _figures(self, client: Client, samples: _Samples) -> Figures:
        units = {
            "rows": self._truth(client.sample)[0],
            "requests": self._work.requests(client.sample),
            "targets": len(self._work.targets(client.sample)),
        }
        wall, cpu = _median(samples.whole, "wall"), _median(samples.whole, "cpu")
        startup = _median(samples.startup, "wall")
        own, own_cpu = max(wall - startup, 1e-3), max(cpu - _median(samples.startup, "cpu"), 1e-3)
        amount = units[self._work.unit]
        return Figures(
            name=client.name,
            wall=wall,
            cpu=cpu,
            startup=startup,
            rate=amount / own,
            cpu_rate=amount / own_cpu,
            requests=units["requests"] / own,
            rss=_median(samples.whole, "rss"),
            first=median(samples.first),
            connections=median(samples.connections),
        )


def contest(work: Work, clients: Sequence[Client], *, rounds: int, quick: bool) -> Outcome:
    """Hold one. Raises `Failed` when a client fails, or lists what is not there, or not all that is."""
    present = [client for client in clients if not client.missing]
    for client in clients:
        if client.missing:
            say(f"{work.name}: without {client.name}; to have it: {client.missing}")
    with serving(work, quick=quick) as server:
        return Contest(work, present, server, say).run(rounds, seconds=1 if quick else 3)


def checked_run(work: Work, client: Client, *, quick: bool) -> Cost:
    """One run whose every row is compared with the estate, and what it cost."""
    with serving(work, quick=quick) as server:
        return Contest(work, [client], server, say).check(client)


def say(text: str) -> None:
    """Tell whoever waits; the tables alone go to standard output."""
    sys.stderr.write(f"{text}\n")


def _median(costs: Sequence[Cost], name: str) -> float:
    return median(float(getattr(cost, name)) for cost in costs)
