"""A published run that nobody crawled, of any size: `python -m tests.lake.made_up FOLDER [REPOSITORIES]`."""

from __future__ import annotations

import gzip
import hashlib
import random
import sys
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from crawler.hints import Rate
from crawler.ledger import fields, line
from crawler.model import Account, Chain, Outcome, Result, RowKind, Unit
from crawler.runs import layout
from crawler.runs.documents import Manifest
from crawler.sinks.columns import COLUMNS
from crawler.sinks.parts import Part
from crawler.timeline import Interval, Timeline

SCHEMA = COLUMNS[RowKind.IDS].schema
REGIONS = ["us-east-1", "eu-west-1", "eu-central-1", "ap-southeast-2"]
TEAMS = ["payments", "web", "platform", "data", "search", "mobile", "risk", "logistics", "identity", "media"]
WHEN = datetime(2026, 1, 31, 2, tzinfo=UTC)


@dataclass(frozen=True)
class Repository:
    account: Account
    region: str
    name: str
    images: int
    untagged: int


def estate(repositories: int, seed: int = 1) -> list[Repository]:
    """Sizes of a few large ones and many small ones, as companies have them."""
    rng = random.Random(seed)  # noqa: S311  (nothing secret: the same in each run)
    accounts = [
        Account(f"{number:012}", f"{TEAMS[number % len(TEAMS)]}-{'prod' if number % 3 else 'test'}-{number}")
        for number in range(1, max(3, repositories // 50))
    ]
    made = []
    for number in range(repositories):
        account = accounts[min(int(rng.paretovariate(0.7)) - 1, len(accounts) - 1)]
        images = min(int(rng.paretovariate(0.8) * 4), 20_000) if rng.random() > 0.05 else 0
        name = f"{rng.choice(TEAMS)}/{rng.choice(['api', 'worker', 'cron', 'ui'])}-{number}"
        made.append(Repository(account, rng.choice(REGIONS), name, images, int(images * rng.random() ** 2)))
    return made


def publish(
    folder: Path, run: str, repositories: list[Repository], failures: list[Result], *, throttled: bool = True
) -> Manifest:
    """Write what a crawl of these would have left."""
    results = [*_results(repositories), *failures]
    path = layout.part(run, f"{WHEN:%Y-%m-%d}", 1, 1, ".parquet")
    manifest = Manifest(
        run=run,
        status="incomplete" if failures else "complete",
        date=f"{WHEN:%Y-%m-%d}",
        format="parquet",
        schema_version=1,
        started=WHEN.isoformat(),
        published=WHEN.replace(minute=7, second=11).isoformat(),
        attempt=1,
        rows=sum(repository.images for repository in repositories),
        missing=len(failures),
        targets={str(outcome): _count(results, outcome, target=True) for outcome in Outcome},
        repositories={str(outcome): _count(results, outcome, target=False) for outcome in Outcome},
        parts=[_part(folder, path, run, repositories)],
        ledger=layout.ledger(run, 1),
        records=[],
        settings={"accounts": "sha256:0", "region": []},
        program="0.1.0",
        failures=[{**fields(result), "units": 1} for result in failures],
        timeline=layout.timeline(run, 1),
    )
    _write(folder, manifest.ledger, gzip.compress(b"".join(map(line, results)), 1))
    _write(folder, manifest.timeline or "", (_timeline() if throttled else Timeline()).encode())
    _write(folder, layout.manifest(run), manifest.encode())
    return manifest


def _results(repositories: list[Repository]) -> list[Result]:
    found = []
    for number, made in enumerate(repositories):
        unit = Unit(made.account, made.account.account_id, made.region, made.name)
        pages = made.images // 1000 + 1
        refused = number % 7 if made.region == REGIONS[0] else 0
        chain = Chain(pages=pages, items=made.images, attempts=pages + refused, throttled=refused)
        found.append(Result(unit, Outcome.OK if made.images else Outcome.EMPTY, chain=chain, seconds=0.1 * pages))
    targets = dict.fromkeys(replace(result.unit, repository=None) for result in found)
    return [*found, *(Result(unit, Outcome.OK, chain=Chain(pages=1, items=9, attempts=1)) for unit in targets)]


def _count(results: list[Result], outcome: Outcome, *, target: bool) -> int:
    return sum(result.outcome is outcome for result in results if (result.unit.repository is None) is target)


def _part(folder: Path, path: str, run: str, repositories: list[Repository]) -> Part:
    columns: dict[str, list[object]] = {name: [] for name in SCHEMA.names}
    for made in repositories:
        digests = [
            f"sha256:{hashlib.sha256(f'{made.name}{number}'.encode()).hexdigest()}" for number in range(made.images)
        ]
        tags = [None if number < made.untagged else f"v{number}" for number in range(made.images)]
        same = [1, run, WHEN, made.account.name, made.account.account_id, made.region, made.name]
        for name, value in zip(SCHEMA.names, same, strict=False):
            columns[name] += [value] * made.images
        columns["imageDigest"] += digests
        columns["imageTag"] += tags
    target = folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns, schema=SCHEMA), target)
    data = target.read_bytes()
    return Part(path, len(columns["imageTag"]), len(data), hashlib.sha256(data).hexdigest())


def _timeline() -> Timeline:
    """Seven minutes: fast until the first refusals, then at what is granted."""
    rng = random.Random(3)  # noqa: S311  (nothing secret: the same in each run)
    made = Timeline(every=2.0, rates=[Rate("0" * 11 + "1", REGIONS[0], "ListImages", 18.2, 42.0)])
    for number in range(215):
        begun = min(number / 30, 1.0)
        requests = int(2 * (420 * begun if number < 40 else 260 + rng.random() * 60))
        refused = int(requests * 0.3) if 40 <= number < 46 else int(requests * 0.012) if number > 40 else 0
        known = (min(number - 40, 60), 2.1 + rng.random(), 38.0 + 4 * rng.random()) if number >= 40 else (0, None, None)
        made.add(Interval(2.0, requests, refused, requests * 310, *known))
    return made


def failures() -> list[Result]:
    """One of each kind that a night may bring."""
    denied = Account("999999999999", "acquired-last-month")
    return [
        Result(Unit(denied, denied.account_id), Outcome.DENIED, "AccessDenied",
               "sts:AssumeRole of arn:aws:iam::999999999999:role/inventory: not authorized to perform it"),
        Result(Unit(Account("000000000001", "web-prod-1"), "000000000001", "eu-west-1", "web/api-7"), Outcome.THROTTLED,
               "ThrottlingException", "Rate exceeded"),
        Result(Unit(Account("000000000002", "platform-prod-2"), "000000000002", "us-east-1"), Outcome.FAILED, "Timeout",
               "no answer within 60 s, 20 times"),
    ]  # fmt: skip


def _write(folder: Path, name: str, data: bytes) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def two_nights(folder: Path, repositories: int) -> None:
    """The runs `nightly-2026-01-30`, complete, and `nightly-2026-01-31`, with failures."""
    made = estate(repositories)
    publish(
        folder, "nightly-2026-01-30", [replace(one, images=one.images * 9 // 10) for one in made[::2]] + made[1::2], []
    )
    publish(folder, "nightly-2026-01-31", made, failures())


if __name__ == "__main__":
    two_nights(Path(sys.argv[1]), int((sys.argv[2:] or ["10000"])[0]))
