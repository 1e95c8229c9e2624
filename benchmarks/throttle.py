"""The whole program on an emulator that throttles, beside the retry modes of aiobotocore."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from benchmarks.clients import CRAWLER, Client
from benchmarks.machine import multiset, run
from benchmarks.server import Server, serving
from benchmarks.works import FILLED, Work

#: Seconds between two looks at what the emulator has counted.
_LOOK = 0.1


@dataclass
class Timeline:
    """What the emulator had answered to ListImages so far, look by look: seconds, let in, refused."""

    looks: list[tuple[float, int, int]] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """From the first request for images to the last."""
        counts = [passed + refused for _, passed, refused in self.looks]
        begun = next(at for (at, *_), count in zip(self.looks, counts, strict=True) if count)
        ended = next(at for (at, *_), count in zip(self.looks, counts, strict=True) if count == counts[-1])
        return max(ended - begun, _LOOK)

    @property
    def refused(self) -> int:
        """Requests that were refused, in all."""
        return self.looks[-1][2]

    @property
    def requests(self) -> int:
        """Requests for images, in all."""
        return self.looks[-1][1] + self.looks[-1][2]


@dataclass(frozen=True)
class Throttled:
    """One client's run."""

    name: str
    wall: float
    timeline: Timeline
    rows: int
    exact: bool

    @property
    def share(self) -> float:
        """The part of its requests that was refused."""
        return self.timeline.refused / self.timeline.requests


def bound(work: Work) -> float:
    """Seconds before which nobody can have listed all images."""
    assert work.rate is not None
    return max((work.repositories - work.burst) / work.rate, work.latency)


def clients(folder: Path, *, quick: bool) -> list[Client]:
    """The crawler without and with the hints of its first run, and each retry mode as it comes."""
    modes = ("adaptive",) if quick else ("legacy", "standard", "adaptive")
    hints = ("--hints", str(folder / "hints.json"))
    peer = (sys.executable, "-m", "benchmarks.peers.aiobotocore_throttled")
    return [
        Client("crawler, cold", (*CRAWLER.command, *hints)),
        Client("crawler, last night's hints", (*CRAWLER.command, *hints)),
        *(Client(f"aiobotocore, {mode}", (*peer, mode, "0")) for mode in modes),
        *([] if quick else [Client("aiobotocore, legacy, 20 attempts", (*peer, "legacy", "20"))]),
    ]


def measure(work: Work, say: Callable[[str], None], *, quick: bool) -> list[Throttled]:
    """One run of each client, each on a full bucket."""
    with serving(work, quick=quick) as server:
        accounts = server.folder / "accounts.yaml"
        accounts.write_text(work.accounts_yaml())
        truth = multiset(work.lines())
        found = []
        for client in clients(server.folder, quick=quick):
            say(f"throttle: {client.name}")
            # The bucket has to be full again, whatever the last client left of it.
            time.sleep(work.burst / (work.rate or 1) + 0.5)
            found.append(_measured(client, client.on(accounts), server, truth))
        return found


def _measured(client: Client, command: Sequence[str], server: Server, truth: tuple[int, int]) -> Throttled:
    rows: list[tuple[int, int]] = []

    def read(output: IO[bytes]) -> None:
        rows.append(multiset(output))

    server.reset()
    with _watched(server) as timeline:
        cost = run(command, server.as_account(FILLED), read=read)
    return Throttled(client.name, cost.wall, timeline, rows[0][0], rows[0] == truth)


@contextmanager
def _watched(server: Server) -> Iterator[Timeline]:
    timeline, ended, started = Timeline(), threading.Event(), time.perf_counter()

    def look() -> None:
        stats = server.stats()
        asked = _images(stats["requests_by"])
        refused = _images(stats["throttled"])
        timeline.looks.append((time.perf_counter() - started, asked - refused, refused))

    def watch() -> None:
        while not ended.wait(_LOOK):
            look()

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield timeline
    finally:
        ended.set()
        thread.join()
        look()


def _images(counted: dict[str, int]) -> int:
    return sum(count for place, count in counted.items() if place.endswith("ecr:ListImages"))
