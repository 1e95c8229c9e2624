"""Bounds of a crawl, where they meet: slots, pace and restarts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import pytest

from crawler.crawl import Limits
from crawler.errors import Refused, Throttled, Transient
from crawler.model import Account
from crawler.retry import RetryPolicy
from tests.fakes import Rehearsal, Step, Tree, World, image, small_tree

A, B = Account("1" * 12), Account("2" * 12)
ID = A.account_id
REFUSED = Refused("InvalidParameterException", "Invalid nextToken")


def one_target(*names: str) -> World:
    return World({(ID, "east"): small_tree(*names)})


def test_a_repository_that_backs_off_leaves_its_slot_to_its_neighbours() -> None:
    world = one_target("a", "b")
    world.will(("images", ID, "east", "a", 0), Transient("ServerException", ""))
    a_minute = RetryPolicy(base=60, cap=60, uniform=lambda _low, high: high)
    crawled = Rehearsal(world, limits=Limits(requests_per_target=1), policy=a_minute).of(A)
    assert world.times["images", ID, "east", "a", 0] == [0, 60]
    assert world.times["images", ID, "east", "b", 1] == [0]
    assert crawled.line(ID, "east", "b")["seconds"] == 0


@pytest.mark.parametrize(
    ("of_the_account", "of_all", "seconds"), [(0.5, 4.0, 2.0), (None, 4.0, 0.25), (None, None, 0.0)]
)
def test_the_pace_of_the_account_wins_and_holds_for_all_requests_of_a_target(
    of_the_account: float | None, of_all: float | None, seconds: float
) -> None:
    world = one_target("a", "b")
    world.will(("images", ID, "east", "a", 0), Transient("ServerException", ""))
    Rehearsal(world, limits=Limits(max_rps=of_all)).of(replace(A, max_rps=of_the_account))
    starts = sorted(time for spot, times in world.times.items() if spot[0] != "regions" for time in times)
    # One request lists the repositories, five list their images: four pages, and one of them again.
    if seconds:
        assert starts == [index * seconds for index in range(6)]
    else:
        assert starts == [0] * 4 + [0.25] * 2


def test_what_aws_asks_to_wait_holds_for_the_operation_that_it_refused_and_no_other_target() -> None:
    world = World({(ID, region): small_tree("a", "b") for region in ("east", "west")})
    world.will(("images", ID, "east", "a", 0), Throttled("ThrottlingException", "", 7.0))
    Rehearsal(world, limits=Limits(requests_per_target=1)).of(A)
    again = {name: world.times["images", ID, "east", name, 0][-1] for name in "ab"}
    # Whichever of the two was first; and whatever was asked for before the refusal.
    assert again["a"] >= 7
    assert again["b"] in (0, pytest.approx(7, abs=1))
    assert world.times["images", ID, "west", "b", 1] == [0]


def test_each_target_has_a_pace_of_its_own() -> None:
    world = World({(account.account_id, "east"): small_tree("a") for account in (A, B)})
    Rehearsal(world, limits=Limits(max_rps=1)).of(A, B)
    for account in (A, B):
        assert world.times["images", account.account_id, "east", "a", 1] == [2]


def test_at_100_percent_throttle_the_requests_of_a_crawl_are_bounded() -> None:
    world = one_target("a", "b", "c")
    for name in "abc":
        world.always(("images", ID, "east", name, 0), Throttled("ThrottlingException", "Rate exceeded"))
    crawled = Rehearsal(world, policy=RetryPolicy(attempts=7)).of(A)
    assert sum(count for spot, count in world.calls.items() if spot[0] == "images") == 3 * 7
    assert crawled.ledger.totals.throttled == 3 * 7
    assert {line["outcome"] for line in crawled.lines if line["repositoryName"]} == {"THROTTLED"}


def listed(*pages: str) -> World:
    """One repository, an image for each letter."""
    return World({(ID, "east"): Tree.of({"a": [[image(digest) for digest in page] for page in pages]})})


def refused_and_changed(world: World, *pages: str) -> Iterator[Step]:
    """Refuse the token, and list these pages from then on."""
    world.trees = listed(*pages).trees
    yield REFUSED


@pytest.mark.parametrize("again", [("ab", "c", "", "de"), ("ab", "", "c", "de"), ("ab", "c", "de", "f"), ("ab", "c")])
def test_a_new_start_sends_what_was_not_sent_before(again: tuple[str, ...]) -> None:
    world = listed("ab", "", "c", "de")
    rehearsal = Rehearsal(world)
    world.steps["images", ID, "east", "a", 3] = refused_and_changed(world, *again)
    line = rehearsal.of(A).line(ID, "east", "a")
    assert (line["outcome"], line["restarts"]) == ("OK", 1)
    there = Counter(f"sha256:{digest}" for digest in "".join(again))
    assert Counter(row[3] for row in rehearsal.sink.rows) == there
    assert line["rows"] == there.total()


@pytest.mark.parametrize("again", [("ab", "x", "de"), ("xa", "bc", "de"), ("a", "bc", "de"), ("ba", "c", "de")])
def test_a_new_start_that_finds_other_pages_is_the_end_and_repeats_nothing(again: tuple[str, ...]) -> None:
    world = listed("ab", "c", "de")
    rehearsal = Rehearsal(world)
    world.steps["images", ID, "east", "a", 2] = refused_and_changed(world, *again)
    line = rehearsal.of(A).line(ID, "east", "a")
    assert (line["outcome"], line["code"], line["rows"]) == ("FAILED", "ListingChanged", 3)
    assert [row[3] for row in rehearsal.sink.rows] == ["sha256:a", "sha256:b", "sha256:c"]


@pytest.mark.parametrize("restarts", [1, 2])
def test_refused_on_the_first_page_after_a_new_start_is_the_end(restarts: int) -> None:
    world = one_target("a")
    world.will(("images", ID, "east", "a", 0), 0.0, REFUSED)
    world.always(("images", ID, "east", "a", 1), REFUSED)
    line = Rehearsal(world, limits=Limits(restarts=restarts)).of(A).line(ID, "east", "a")
    # The resume point is the new chain's, which never got a token.
    assert (line["outcome"], line["restarts"], line["pages"], line["lastTokenHash"]) == ("FAILED", 1, 1, None)


def test_no_restarts_where_none_are_wanted() -> None:
    world = one_target("a")
    world.will(("images", ID, "east", "a", 1), REFUSED)
    line = Rehearsal(world, limits=Limits(restarts=0)).of(A).line(ID, "east", "a")
    assert (line["outcome"], line["restarts"]) == ("FAILED", 0)
