"""Parquet files merged without unpacking them, read back by engines that we did not write."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawler.sinks.row_groups import Merged, footer, row_groups

TABLES = st.lists(
    st.lists(st.tuples(st.integers(-(2**63), 2**63 - 1), st.none() | st.text(max_size=5)), min_size=1, max_size=40),
    min_size=1,
    max_size=5,
)


def packed(rows: list[tuple[int, str | None]], group_rows: int = 7, **options: Any) -> BytesIO:
    file = BytesIO()
    table = pa.table({"number": [row[0] for row in rows], "text": pa.array([row[1] for row in rows], pa.string())})
    pq.write_table(table, file, row_group_size=group_rows, **options)
    return file


def merged(files: list[BytesIO]) -> BytesIO:
    out = BytesIO()
    made = Merged(out)
    for file in files:
        said = footer(file)
        for group in row_groups(said):
            made.add(file, said, group)
    made.close()
    return out


def rows_by_duckdb(file: BytesIO, tmp: Path) -> list[tuple[int, str | None]]:
    path = tmp / "merged.parquet"
    path.write_bytes(file.getvalue())
    return duckdb.connect().execute("SELECT number, text FROM read_parquet(?)", [str(path)]).fetchall()


@given(TABLES)
def test_merged_files_have_all_rows_in_order(tables: list[list[tuple[int, str | None]]]) -> None:
    out = merged([packed(rows, use_dictionary=number % 2 == 0) for number, rows in enumerate(tables)])
    expected = [row for rows in tables for row in rows]
    assert [tuple(row.values()) for row in pq.read_table(out).to_pylist()] == expected
    metadata = pq.read_metadata(out)
    assert metadata.num_rows == len(expected)
    assert metadata.num_row_groups == sum(-(-len(rows) // 7) for rows in tables)


@pytest.mark.parametrize(
    "options",
    [
        {"compression": "zstd", "column_encoding": {"text": "DELTA_BYTE_ARRAY"}, "use_dictionary": ["number"]},
        {"compression": "none", "write_page_index": True},
        {"store_schema": False, "write_statistics": False, "data_page_version": "2.0"},
    ],
)
def test_another_engine_reads_it(options: dict[str, Any], tmp_path: Path) -> None:
    tables = [[(index, f"text {index % 5}" if index % 3 else None) for index in range(size)] for size in (20, 1, 300)]
    # More than fifteen row groups: a longer form of list in the footer.
    out = merged([packed(rows, **options) for rows in tables])
    assert sorted(rows_by_duckdb(out, tmp_path)) == sorted(row for rows in tables for row in rows)


def test_a_merged_file_can_be_merged_again(tmp_path: Path) -> None:
    rows = [(index, str(index)) for index in range(30)]
    twice = merged([merged([packed(rows), packed(rows)]), packed(rows)])
    assert sorted(rows_by_duckdb(twice, tmp_path)) == sorted(3 * rows)


@pytest.mark.parametrize("data", [b"", b"PAR1", b"PAR1" + b"\xff" * 20 + b"\xff\xff\xff\x7fPAR1", b"x" * 100])
def test_what_is_no_parquet_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="not a whole Parquet file"):
        footer(BytesIO(data))


def test_a_file_cut_within_its_rows_is_refused() -> None:
    whole = packed([(index, str(index)) for index in range(300)])
    said = footer(whole)
    (group, *_) = row_groups(said)
    with pytest.raises(ValueError, match="ends within a row group"):
        Merged(BytesIO()).add(BytesIO(whole.getvalue()[: group.start + 3]), said, group)
