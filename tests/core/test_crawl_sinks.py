"""What a sink is told, and what it can spare the crawl."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from crawler.crawl import Limits
from crawler.errors import Denied, Gone, KeysUnknown, Transient
from crawler.model import Account
from tests.fakes import HANG, ListSink, Rehearsal, Step, World, place, small_tree

ACCOUNT = Account("1" * 12)
ID = ACCOUNT.account_id
UNKNOWN = KeysUnknown("UnrecognizedClientException", "The security token included in the request is invalid.")


def world() -> World:
    return World({(ID, "east"): small_tree("a", "b", "c"), (ID, "west"): small_tree("d")})


def committed(sink: ListSink) -> set[tuple[str | None, ...]]:
    units = [(result.unit.registry_id, result.unit.region, result.unit.repository) for result in sink.committed]
    assert len(units) == len(set(units)), "a repository was committed twice"
    return set(units)


def test_only_repositories_listed_to_the_end_are_committed() -> None:
    wrong = world()
    wrong.always(("images", ID, "east", "a", 0), Denied("AccessDeniedException", "no"))
    wrong.always(("images", ID, "east", "b", 1), Denied("AccessDeniedException", "no"))
    crawled = Rehearsal(wrong).of(ACCOUNT)
    assert committed(crawled.sink) == {(ID, "east", "c"), (ID, "west", "d")}
    assert {result.unit.region: str(result.outcome) for result in crawled.sink.targets} == {"east": "OK", "west": "OK"}
    assert not +crawled.sink.open


def test_a_target_out_of_time_commits_what_it_has_and_not_what_it_broke_off() -> None:
    slow = world()
    slow.always(("images", ID, "east", "b", 1), HANG)
    limits = Limits(target_seconds=30)
    crawled = Rehearsal(slow, limits=limits).of(ACCOUNT)
    assert committed(crawled.sink) == {(ID, "east", "a"), (ID, "east", "c"), (ID, "west", "d")}
    assert {result.unit.region: str(result.outcome) for result in crawled.sink.targets} == {
        "east": "FAILED",
        "west": "OK",
    }
    assert not +crawled.sink.open


def test_what_the_sink_holds_is_not_asked_for() -> None:
    asked = world()
    sink = ListSink(held=[(ID, "east", "b"), (ID, "west", None)])
    crawled = Rehearsal(asked, sink).of(ACCOUNT)
    assert {row[2] for row in crawled.rows} == {"a", "c"}
    assert set(crawled.outcomes()) == {(ID, "east", None), (ID, "east", "a"), (ID, "east", "c")}
    assert not [spot for spot in asked.calls if "west" in spot or "b" in spot]


@pytest.mark.parametrize(
    ("west", "outcome"),
    [
        (0.0, "REGION_DISABLED"),
        (Denied("AccessDeniedException", "no"), "REGION_DISABLED"),
        (UNKNOWN, "DENIED"),
        (Transient("ServerException", "down"), "DENIED"),
        (HANG, "DENIED"),
    ],
)
def test_a_target_held_is_asked_whether_it_knows_the_keys_of_this_attempt(west: Step, outcome: str) -> None:
    """What an earlier one holds was an answer to the keys that it had."""
    unknown = world()
    unknown.always(("repositories", ID, "east", 0), UNKNOWN)
    unknown.always(("repositories", ID, "west", 0), west)
    policy = replace(Rehearsal(unknown).policy, attempts=1)
    crawled = Rehearsal(unknown, ListSink(held=[(ID, "west", None)]), policy=policy).of(ACCOUNT)
    assert crawled.outcomes() == {(ID, "east", None): outcome}
    assert unknown.calls["repositories", ID, "west", 0] == 1


def test_the_ledger_counts_the_rows_that_a_stream_has_whatever_the_outcome() -> None:
    """A published run has those of OK alone: tests/lake/test_sums.py."""
    wrong = world()
    wrong.always(("images", ID, "east", "a", 1), Denied("AccessDeniedException", "no"))
    wrong.always(("images", ID, "east", "b", 1), Gone("RepositoryNotFoundException", "gone"))
    wrong.always(("images", ID, "west", "d", 0), Denied("AccessDeniedException", "no"))
    crawled = Rehearsal(wrong).of(ACCOUNT)
    rows = Counter(row[:3] for row in crawled.rows.elements())
    told = {place(line): line["rows"] for line in crawled.lines if line["repositoryName"] is not None}
    assert told == {(ID, "east", "a"): 1, (ID, "east", "b"): 1, (ID, "east", "c"): 2, (ID, "west", "d"): 0}
    assert all(rows[unit] == count for unit, count in told.items())
