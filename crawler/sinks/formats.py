"""Formats by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from crawler.sinks.encoding import Encoding
from crawler.sinks.lines import Lines
from crawler.sinks.parquet import Parquet

#: What `--format` takes.
FORMATS: dict[str, Callable[[str], Encoding[Any]]] = {
    "parquet": Parquet,
    "ndjson": lambda run_id: Lines(run_id, ""),
    "ndjson.gz": lambda run_id: Lines(run_id, "gz"),
    "ndjson.zst": lambda run_id: Lines(run_id, "zst"),
}


def encoding_of(name: str, run_id: str) -> Encoding[Any]:
    """The format of this name, for the rows of this run."""
    return FORMATS[name](run_id)
