"""Formats by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from crawler.model import RowKind
from crawler.sinks.encoding import Encoding
from crawler.sinks.lines import Lines
from crawler.sinks.parquet import Parquet

#: What `--format` takes.
FORMATS: dict[str, Callable[[str, RowKind], Encoding[Any]]] = {
    "parquet": Parquet,
    "ndjson": lambda run_id, rows: Lines(run_id, "", rows),
    "ndjson.gz": lambda run_id, rows: Lines(run_id, "gz", rows),
    "ndjson.zst": lambda run_id, rows: Lines(run_id, "zst", rows),
}


def encoding_of(name: str, run_id: str, rows: RowKind = RowKind.IDS) -> Encoding[Any]:
    """The format of this name, for rows of this kind in this run."""
    return FORMATS[name](run_id, rows)
