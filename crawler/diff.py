"""What changed between two published runs: out of core, in SQL.

Details are compared as the image IDs that they hold, so runs of either kind can be told apart.

Only repositories that were listed to the end in both runs are compared: what one of them could not see, or had no name
for, must not look like a deletion.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import duckdb

from crawler.errors import Fatal, UsageError
from crawler.local_files import local_folder
from crawler.model import OTHERS, RowKind

#: Of duckdb's own buffers; what exceeds it goes to local files. The process takes some 100 MB more.
_MEMORY = "700MB"

_COLUMNS = "registryId, region, repositoryName"

#: https://duckdb.org/docs/stable/sql/functions/pattern_matching#globbing; what stands alone in brackets is itself.
_PATTERN = re.compile(r"([\[*?])")

_READ_PARQUET = "read_parquet({files})"
_READ_LINES = (
    "read_json({files}, format = 'newline_delimited', columns = {{registryId: 'VARCHAR', region: 'VARCHAR', "
    "repositoryName: 'VARCHAR', imageDigest: 'VARCHAR', {tags}}})"
)
_UNNESTED = (
    f"(SELECT {_COLUMNS}, imageDigest, "  # noqa: S608  (names of ours)  # nosec B608
    "unnest(CASE WHEN len(imageTags) > 0 THEN imageTags ELSE [NULL] END) AS imageTag FROM {read})"
)
_READ_LEDGER = (
    "read_json({files}, format = 'newline_delimited', columns = {{registryId: 'VARCHAR', region: 'VARCHAR', "
    "repositoryName: 'VARCHAR', outcome: 'VARCHAR'}})"
)

# Rows of the earlier run count 1 and those of the later -1: what is in both cancels out. An image ID that came twice,
# because its repository changed while it was paged, is still one.
_CHANGED = """
CREATE TEMP TABLE changed AS
SELECT id, imageDigest, imageTag, any_value(side) AS side FROM (
    SELECT id, imageDigest, imageTag, 1 AS side FROM {earlier} JOIN compared USING ({columns})
    UNION ALL
    SELECT id, imageDigest, imageTag, -1 AS side FROM {later} JOIN compared USING ({columns})
) GROUP BY id, imageDigest, imageTag HAVING min(side) = max(side)
"""

# A tag names one image at a time, so in one repository it can have moved but once.
_CHANGES = """
CREATE TEMP VIEW changes AS
WITH moved AS (
    SELECT later.id, later.imageDigest, later.imageTag, earlier.imageDigest AS previousDigest
    FROM (FROM changed WHERE side = -1) AS later JOIN (FROM changed WHERE side = 1) AS earlier USING (id, imageTag)
), kinds AS (
    SELECT 'retagged' AS change, * FROM moved
    UNION ALL
    SELECT CASE side WHEN 1 THEN 'removed' ELSE 'added' END, id, imageDigest, imageTag, NULL
    FROM changed WHERE NOT EXISTS (FROM moved WHERE moved.id = changed.id AND moved.imageTag = changed.imageTag)
)
SELECT change, registryId, region, repositoryName, imageDigest, imageTag, previousDigest
FROM kinds JOIN compared USING (id)
"""


class Unreadable(Fatal):
    """A file that is not what duckdb takes for JSON."""


@dataclass(frozen=True, slots=True)
class Side:
    """One run, as local files: its parts and its ledger. `parquet` tells the format of the parts.

    `filters` tell which images were listed, as in `Manifest`.
    """

    parts: Sequence[Path]
    ledger: Path
    parquet: bool
    kind: RowKind = RowKind.IDS
    run: str = ""
    filters: Mapping[str, str] = field(default_factory=dict[str, str])

    def rows(self) -> str:
        """The image IDs, as a table in SQL."""
        if not self.parts:
            nothing = ", ".join(
                f"NULL::VARCHAR AS {name}" for name in (*_COLUMNS.split(", "), "imageDigest", "imageTag")
            )
            return f"(SELECT {nothing} WHERE false)"
        tags = "imageTag: 'VARCHAR'" if self.kind is RowKind.IDS else "imageTags: 'VARCHAR[]'"
        read = (_READ_PARQUET if self.parquet else _READ_LINES).format(files=_list(self.parts), tags=tags)
        return read if self.kind is RowKind.IDS else _UNNESTED.format(read=read)

    def outcomes(self) -> str:
        """The lines of the ledger, as a table in SQL."""
        return _READ_LEDGER.format(files=_list([self.ledger]))

    def images_of(self, registry_id: str) -> str | None:
        """Which images of a registry were listed."""
        return self.filters.get(registry_id, self.filters.get(OTHERS))


@dataclass(frozen=True, slots=True)
class Compared:
    """Repositories by how they stand in the two runs, and changes by their kind."""

    both: int
    neither: int
    changes: dict[str, int]


def compare(earlier: Side, later: Side, file: Path, output_format: Literal["ndjson", "parquet"]) -> Compared:
    """Write the changes to `file`, in no order. Blocks, on all cores; takes less than a gigabyte of memory.

    Columns: `change` (added, removed, retagged), the five of a row, and `previousDigest`, which a retagged tag had.

    Raises `UsageError` for runs of which one left out images that the other has: those would read as changes.
    """
    with database() as opened:
        return _compare(opened, earlier, later, file, output_format)


@contextmanager
def database() -> Generator[duckdb.DuckDBPyConnection]:
    """A database that is gone afterwards, with local files for what exceeds its memory. Its failures are `Fatal`."""
    try:
        with local_folder() as spill, duckdb.connect(":memory:") as opened:
            opened.execute(f"SET memory_limit = '{_MEMORY}'; SET preserve_insertion_order = false")
            opened.execute("SET temp_directory = ?", [str(spill)])
            yield opened
    except duckdb.InvalidInputException as error:
        raise Unreadable("DiffFailed", str(error).splitlines()[0]) from error
    except duckdb.Error as error:
        raise Fatal("DiffFailed", str(error).splitlines()[0]) from error


def _compare(
    database: duckdb.DuckDBPyConnection, earlier: Side, later: Side, file: Path, output_format: str
) -> Compared:
    for name, side in (("earlier", earlier), ("later", later)):
        # Names of ours, and of files, quoted.
        database.execute(f"CREATE TEMP VIEW {name} AS SELECT * FROM {side.rows()}")  # noqa: S608  # nosec B608
        database.execute(
            f"CREATE TEMP TABLE {name}_listed AS SELECT {_COLUMNS}, outcome IN ('OK', 'EMPTY') AS listed "  # noqa: S608  # nosec B608
            f"FROM {side.outcomes()} WHERE repositoryName IS NOT NULL"
        )
    # Distinct: a registry that two accounts read has two lines for each repository.
    database.execute(
        f"CREATE TEMP TABLE compared AS SELECT (row_number() OVER ())::INTEGER AS id, {_COLUMNS} FROM "  # noqa: S608  # nosec B608
        f"(SELECT DISTINCT {_COLUMNS} FROM earlier_listed AS a JOIN later_listed AS b USING ({_COLUMNS}) "
        "WHERE a.listed AND b.listed)"
    )
    _require_same_filters(database, earlier, later)
    database.execute(_CHANGED.format(earlier="earlier", later="later", columns=_COLUMNS))
    database.execute(_CHANGES)
    target = str(file).replace("'", "''")
    database.execute(f"COPY changes TO '{target}' (FORMAT {'parquet' if output_format == 'parquet' else 'json'})")
    both = _number(database, "SELECT count(*) FROM compared")
    known = _number(
        database,
        f"SELECT count(*) FROM (SELECT {_COLUMNS} FROM earlier_listed UNION SELECT {_COLUMNS} FROM later_listed)",  # noqa: S608  # nosec B608
    )
    kinds = database.execute("SELECT change, count(*) FROM changes GROUP BY change ORDER BY change").fetchall()
    return Compared(both, known - both, {str(kind): int(count) for kind, count in kinds})


def _require_same_filters(database: duckdb.DuckDBPyConnection, earlier: Side, later: Side) -> None:
    if earlier.filters == later.filters:
        return
    for (registry_id,) in database.execute("SELECT DISTINCT registryId FROM compared ORDER BY ALL").fetchall():
        one, other = earlier.images_of(registry_id), later.images_of(registry_id)
        if one != other:
            raise UsageError(
                f"diff: of {registry_id} {earlier.run} has the images {one}, {later.run} those {other} (tag_status and "
                "image_status, of the accounts file or the options): what one of them left out would read as added or "
                "removed"
            )


def _number(database: duckdb.DuckDBPyConnection, query: str) -> int:
    (row,) = database.execute(query).fetchall()
    return int(row[0])


def _list(files: Sequence[Path]) -> str:
    return "[" + ", ".join(map(quoted, files)) + "]"


def quoted(file: Path) -> str:
    """The name of a file to read, in SQL: text, and no pattern, which is what duckdb takes names of files for."""
    return "'{}'".format(_PATTERN.sub(r"[\1]", str(file)).replace("'", "''"))
