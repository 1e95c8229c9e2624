"""Accounts that come from AWS Organizations while they are crawled."""

from __future__ import annotations

import pytest

from crawler.crawl import Limits
from crawler.errors import Denied, Fatal, KeysUnknown, Throttled
from crawler.model import Account, Identity, Organization
from tests.fakes import HANG, Rehearsal, World, leaves, run, small_tree

MEMBERS = tuple(Account(f"{number:012}", name=f"member {number}") for number in range(1, 6))
ORGANIZATION = Organization(hub=Identity(), member=Account(""))


def organized() -> World:
    return World({(member.account_id, "east"): small_tree("a") for member in MEMBERS}, members=MEMBERS)


def crawl(rehearsal: Rehearsal, *names: str, backend: str = "trio") -> Rehearsal:
    run(lambda: rehearsal.crawl().organization(ORGANIZATION, lambda member: not names or member.name in names), backend)
    assert rehearsal.world.members_open == 0
    return rehearsal


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_every_member_is_crawled_and_the_organization_itself_has_no_line(backend: str) -> None:
    world = organized()
    crawled = crawl(Rehearsal(world), backend=backend)
    assert crawled.rows == world.rows()
    assert crawled.outcomes() == {
        (member.account_id, "east", repository): "OK" for member in MEMBERS for repository in (None, "a")
    }


def test_only_selected_members_are_crawled() -> None:
    crawled = crawl(Rehearsal(organized()), "member 2", "member 5")
    assert {line["accountName"] for line in crawled.lines} == {"member 2", "member 5"}
    assert {spot[1] for spot in crawled.world.calls if spot[0] == "regions"} == {f"{2:012}", f"{5:012}"}


def test_members_are_crawled_while_the_organization_is_still_being_listed() -> None:
    world = organized()
    world.will(("members", 3), 1000.0)
    crawl(Rehearsal(world))
    assert world.times["regions", MEMBERS[2].account_id] == [0]
    assert world.times["regions", MEMBERS[3].account_id] == [1000]


def test_the_list_is_not_read_further_than_there_are_slots() -> None:
    world = organized()
    world.will(("regions", MEMBERS[0].account_id), 50.0)
    world.will(("regions", MEMBERS[1].account_id), 60.0)
    crawl(Rehearsal(world, limits=Limits(targets_at_once=2)))
    assert [world.times["members", index] for index in range(4)] == [[0], [0], [50], [50]]


@pytest.mark.parametrize("index", [0, 2], ids=["at once", "in the middle"])
@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (Denied("AccessDeniedException", "not allowed"), "DENIED"),
        (KeysUnknown("UnrecognizedClientException", ""), "DENIED"),
        (Throttled("TooManyRequestsException", ""), "THROTTLED"),
    ],
)
def test_an_organization_that_cannot_be_listed_is_one_line_and_its_known_members_finish(
    error: Exception, outcome: str, index: int
) -> None:
    world = organized()
    world.will(("members", index), error)
    crawled = crawl(Rehearsal(world))
    assert crawled.outcomes() == {(None, None, None): outcome} | {
        (member.account_id, "east", repository): "OK" for member in MEMBERS[:index] for repository in (None, "a")
    }
    line = crawled.line(None)
    assert (line["accountId"], line["code"]) == (None, error.args[0])


@pytest.mark.parametrize("error", [Fatal("RequestTimeTooSkewed", "20 min"), ValueError("a bug")])
def test_what_nothing_survives_in_one_member_ends_all_with_a_line_for_each(error: Exception) -> None:
    world = organized()
    world.always(("regions", MEMBERS[0].account_id), HANG)
    world.will(("images", MEMBERS[1].account_id, "east", "a", 0), error)
    world.always(("members", 2), HANG)
    rehearsal = Rehearsal(world)
    with pytest.raises(ExceptionGroup) as caught:
        crawl(rehearsal)
    assert [str(leaf) for leaf in leaves(caught.value)] == [str(error)]
    assert world.members_open == 0
    assert rehearsal.outcomes() == dict.fromkeys(
        [(None, None, None), (MEMBERS[0].account_id, None, None)]
        + [(MEMBERS[1].account_id, "east", repository) for repository in (None, "a")],
        "FAILED",
    )
