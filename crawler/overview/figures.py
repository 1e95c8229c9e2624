"""The figures of one run, in SQL and out of core. Every list is bounded, whatever the size of the estate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import duckdb

from crawler.diff import Compared, Side, compare, database, quoted
from crawler.model import COMPLETE
from crawler.runs.documents import Manifest
from crawler.timeline import Timeline

#: How much of the estate a page shows by name: lines of a table, and accounts and repositories of the treemap.
LINES, ACCOUNTS_LISTED = 20, 100
ACCOUNTS_DRAWN, REPOSITORIES_DRAWN = 24, 500

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository: images are digests, image IDs are digests with a tag each, or none."""

    registry_id: str
    account: str | None
    region: str
    name: str
    images: int
    image_ids: int
    untagged: int


@dataclass(frozen=True, slots=True)
class Account:
    """The registries of one account, over all regions; `missing` are units of it that leave something out."""

    registry_id: str
    account: str | None
    repositories: int
    images: int
    untagged: int
    requests: int
    throttled: int
    missing: int


@dataclass(frozen=True, slots=True)
class Leaf:
    """A repository that is drawn, or all smaller ones of a region together, or of all smaller accounts.

    `repository` is None for the second, `region` and `registry_id` too for the third. Both count `repositories`.
    """

    registry_id: str | None
    account: str | None
    region: str | None
    repository: str | None
    images: int
    repositories: int


@dataclass(frozen=True, slots=True)
class Throttled:
    """A registry in a region that refused requests for coming too fast."""

    registry_id: str
    account: str | None
    region: str
    requests: int
    throttled: int


@dataclass(frozen=True, slots=True)
class Changed:
    """A repository that changed, and how many of its image IDs did."""

    registry_id: str
    account: str | None
    region: str
    name: str
    added: int
    removed: int
    retagged: int


@dataclass(frozen=True, slots=True)
class Changes:
    """What changed since the run `before`, which began at `started`; the repositories with most changes."""

    before: str
    started: str
    compared: Compared
    repositories: Sequence[Changed]


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over the run. `regions` are those in which something was listed."""

    accounts: int
    regions: int
    repositories: int
    images: int
    image_ids: int
    untagged: int
    requests: int
    throttled: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Figures:
    """All that a page says. Lists are in the order in which they are shown, the largest first."""

    where: str
    manifest: Manifest
    timeline: Timeline | None
    totals: Totals
    leaves: Sequence[Leaf]
    accounts: Sequence[Account]
    largest: Sequence[Repository]
    untagged: Sequence[Repository]
    throttled: Sequence[Throttled]
    changes: Changes | None


@dataclass(frozen=True, slots=True)
class Run:
    """A published run, its files at hand."""

    manifest: Manifest
    side: Side


_UNITS = """
CREATE TEMP TABLE units AS SELECT * FROM read_json({ledger}, format = 'newline_delimited', columns = {{
    registryId: 'VARCHAR', region: 'VARCHAR', repositoryName: 'VARCHAR', outcome: 'VARCHAR', attempts: 'BIGINT',
    throttled: 'BIGINT', seconds: 'DOUBLE', accountId: 'VARCHAR', accountName: 'VARCHAR'}});
CREATE TEMP TABLE names AS
SELECT accountId AS registryId, any_value(accountName) AS account FROM units WHERE accountName IS NOT NULL GROUP BY ALL;
CREATE TEMP TABLE repositories AS
SELECT (row_number() OVER ())::INTEGER AS id, registryId, region, repositoryName
FROM (SELECT DISTINCT registryId, region, repositoryName FROM units WHERE repositoryName IS NOT NULL)
"""

# Digests are grouped under a small number in place of three names: a hundred million of them go through this.
_SIZES = """
CREATE TEMP TABLE sizes AS
WITH digests AS (
    SELECT id, imageDigest, count(*) AS image_ids, bool_or(imageTag IS NULL) AS untagged
    FROM {rows} JOIN repositories USING (registryId, region, repositoryName) GROUP BY ALL
), counted AS (
    SELECT id, count(*) AS images, sum(image_ids)::BIGINT AS image_ids, count(*) FILTER (untagged) AS untagged
    FROM digests GROUP BY id
)
SELECT registryId, account, region, repositoryName, coalesce(images, 0) AS images,
    coalesce(image_ids, 0) AS image_ids, coalesce(untagged, 0) AS untagged
FROM repositories LEFT JOIN counted USING (id) LEFT JOIN names USING (registryId)
"""

_TOTALS = """
SELECT (SELECT count(DISTINCT registryId) FROM units), (SELECT count(DISTINCT region) FROM units WHERE outcome = 'OK'),
    (SELECT count(*) FROM sizes), (SELECT coalesce(sum(images), 0)::BIGINT FROM sizes),
    (SELECT coalesce(sum(image_ids), 0)::BIGINT FROM sizes), (SELECT coalesce(sum(untagged), 0)::BIGINT FROM sizes),
    (SELECT coalesce(sum(attempts), 0)::BIGINT FROM units), (SELECT coalesce(sum(throttled), 0)::BIGINT FROM units)
"""

_TOTALS_OF = "accounts", "regions", "repositories", "images", "image_ids", "untagged", "requests", "throttled"

_ACCOUNTS = """
WITH asked AS (
    SELECT registryId, sum(attempts)::BIGINT AS requests, sum(throttled)::BIGINT AS throttled,
        count(*) FILTER (outcome NOT IN {complete}) AS missing
    FROM units WHERE registryId IS NOT NULL GROUP BY registryId
), held AS (
    SELECT registryId, count(*) AS repositories, sum(images)::BIGINT AS images, sum(untagged)::BIGINT AS untagged
    FROM sizes GROUP BY registryId
)
SELECT registryId, account, coalesce(repositories, 0), coalesce(images, 0), coalesce(untagged, 0), requests, throttled,
    missing
FROM asked LEFT JOIN held USING (registryId) LEFT JOIN names USING (registryId)
ORDER BY coalesce(images, 0) DESC, missing DESC, registryId LIMIT {most}
"""

_LEAVES = """
WITH drawn AS (
    SELECT registryId FROM sizes GROUP BY registryId ORDER BY sum(images) DESC, registryId LIMIT {accounts}
), placed AS (
    SELECT sizes.*, drawn.registryId IS NOT NULL AS drawn, row_number() OVER (ORDER BY images DESC) AS place
    FROM sizes LEFT JOIN drawn USING (registryId) WHERE images > 0
)
SELECT CASE WHEN drawn THEN registryId END AS registryId, CASE WHEN drawn THEN account END AS account,
    CASE WHEN drawn THEN region END AS region,
    CASE WHEN drawn AND place <= {repositories} THEN repositoryName END AS repository, sum(images)::BIGINT, count(*)
FROM placed GROUP BY ALL ORDER BY 5 DESC, 1, 2, 3, 4
"""

_REPOSITORIES = """
SELECT registryId, account, region, repositoryName, images, image_ids, untagged FROM sizes
WHERE {column} > 0 ORDER BY {column} DESC, registryId, region, repositoryName LIMIT {most}
"""

_THROTTLED = """
SELECT registryId, account, region, sum(attempts)::BIGINT, sum(throttled)::BIGINT
FROM units LEFT JOIN names USING (registryId) WHERE registryId IS NOT NULL AND region IS NOT NULL
GROUP BY ALL HAVING sum(throttled) > 0 ORDER BY sum(throttled) DESC, registryId, region LIMIT {most}
"""

_CHANGED = """
SELECT registryId, account, region, repositoryName, count(*) FILTER (change = 'added'),
    count(*) FILTER (change = 'removed'), count(*) FILTER (change = 'retagged')
FROM read_parquet({file}) LEFT JOIN names USING (registryId)
GROUP BY ALL ORDER BY count(*) DESC, registryId, region, repositoryName LIMIT {most}
"""


def figures(where: str, run: Run, timeline: Timeline | None, before: Run | None, folder: Path) -> Figures:
    """Read the run's files, and those of the run to compare with. Blocks; `folder` takes files that are not kept.

    Raises `Fatal`.
    """
    changes = folder / "changes.parquet"
    compared = compare(before.side, run.side, changes, "parquet") if before else None
    with database() as opened:
        opened.execute(_UNITS.format(ledger=quoted(run.side.ledger)))
        opened.execute(_SIZES.format(rows=run.side.rows()))
        complete = "(" + ", ".join(f"'{outcome}'" for outcome in sorted(COMPLETE)) + ")"
        return Figures(
            where=where,
            manifest=run.manifest,
            timeline=timeline,
            totals=_totals(opened, timeline),
            leaves=_all(opened, Leaf, _LEAVES.format(accounts=ACCOUNTS_DRAWN, repositories=REPOSITORIES_DRAWN)),
            accounts=_all(opened, Account, _ACCOUNTS.format(complete=complete, most=ACCOUNTS_LISTED)),
            largest=_all(opened, Repository, _REPOSITORIES.format(column="images", most=LINES)),
            untagged=_all(opened, Repository, _REPOSITORIES.format(column="untagged", most=LINES)),
            throttled=_all(opened, Throttled, _THROTTLED.format(most=LINES)),
            changes=Changes(
                before.manifest.run,
                before.manifest.started,
                compared,
                _all(opened, Changed, _CHANGED.format(file=quoted(changes), most=LINES)),
            )
            if before and compared
            else None,
        )


def _totals(opened: duckdb.DuckDBPyConnection, timeline: Timeline | None) -> Totals:
    (row,) = opened.execute(_TOTALS).fetchall()
    seconds = sum(interval.seconds for interval in timeline.intervals) if timeline else 0.0
    return Totals(**dict(zip(_TOTALS_OF, map(int, row), strict=True)), seconds=seconds)


def _all(opened: duckdb.DuckDBPyConnection, kind: type[T], query: str) -> list[T]:
    return [kind(*row) for row in opened.execute(query).fetchall()]


def rates_by_target(timeline: Timeline | None) -> Mapping[tuple[str, str], Mapping[str, float]]:
    """Learned rates by registry and region, then by operation, in requests a second."""
    found: dict[tuple[str, str], dict[str, float]] = {}
    for rate in timeline.rates if timeline else ():
        found.setdefault((rate.registry_id, rate.region), {})[rate.operation] = rate.rate
    return found
