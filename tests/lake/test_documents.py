"""The files of a run: what is written comes back, and what somebody else has written is refused in a line."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest

from crawler.errors import UsageError
from crawler.model import RowKind
from crawler.runs.documents import Claim, Manifest, Record
from crawler.sinks.parts import Part

PART = Part("parts/1", 3, 100, "ab")
WRITTEN = [
    Claim("run", 1, "2026-11-23", "ndjson", "then", "now", {"host": "h"}, {"split": "no"}, ("records/1",)),
    Manifest(
        "run", "complete", "2026-11-23", "ndjson", 1, "then", "now", 1, 3, 0, {}, {}, [PART], "ledger", ["r"], {}, "0.1"
    ),
    Record("run", 1, [PART], [b'{"outcome":"OK"}\n', b"{}\n"]),
]


@pytest.mark.parametrize("document", WRITTEN, ids=lambda document: type(document).__name__)
def test_what_is_written_comes_back(document: Any) -> None:
    again = type(document).decode("where", document.encode())
    assert again.encode() == document.encode()


def test_a_name_that_utf8_cannot_hold_is_no_hindrance_to_a_manifest() -> None:
    failures = [{"repositoryName": "a\ud800", "outcome": "DENIED"}]
    manifest = replace(WRITTEN[1], failures=failures)
    assert Manifest.decode("where", manifest.encode()).failures == failures


@pytest.mark.parametrize("document", WRITTEN, ids=lambda document: type(document).__name__)
def test_what_is_damaged_is_refused_and_named(document: Any) -> None:
    head, newline, units = document.encode().partition(b"}\n" if isinstance(document, Record) else b"\0")
    whole = orjson.loads(head + newline)
    for key in set(whole) - {"base", "failures", "timeline"}:
        for damage in ({}, {key: {"no": [None]}}):
            told = orjson.dumps({name: value for name, value in whole.items() if name != key} | damage)
            if damage and isinstance(whole[key], dict):
                continue
            with pytest.raises(UsageError, match=r"^where: is (damaged at|not a file of this program)"):
                type(document).decode("where", told + b"\n" + units)


@pytest.mark.parametrize("data", [b"", b"\n", b"null", b"[]", b'"text"', b"[" * 9000, b'{"version": 1e999}', b"\xff"])
@pytest.mark.parametrize("kind", [Claim, Manifest, Record])
def test_what_is_no_document_is_refused(kind: Any, data: bytes) -> None:
    with pytest.raises(UsageError, match=r"^where: is not a file of this program"):
        kind.decode("where", data)


def test_a_later_version_asks_for_the_newer_program() -> None:
    with pytest.raises(UsageError, match="use the newer program"):
        Manifest.decode("where", b'{"version": 99}')


def test_rows_of_a_kind_that_is_not_known_are_refused() -> None:
    manifest = next(document for document in WRITTEN if isinstance(document, Manifest))
    assert manifest.kind is RowKind.IDS, "as of all runs before rows had kinds"
    assert replace(manifest, settings={"rows": "details"}).kind is RowKind.DETAILS
    for later in ("layers", None, ["ids"]):
        with pytest.raises(UsageError, match="run run: this program knows no rows of the kind"):
            assert replace(manifest, settings={"rows": later}).kind
