"""How units end: every known one exactly once, none better than it was."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain, repeat

import pytest

from crawler.crawl import Limits
from crawler.errors import CrawlError, Denied, Fatal, Gone, KeysExpired, KeysUnknown, Refused, Throttled, Transient
from crawler.model import Account, Outcome
from crawler.pages import token_hash
from crawler.retry import RetryPolicy
from crawler.wanted import Filter
from tests.fakes import HANG, Rehearsal, Tree, World, image, leaves, small_tree

A, B, C = (Account(digit * 12) for digit in "123")
ID = A.account_id
DENIED = Denied("AccessDeniedException", "no identity-based policy allows it")
UNKNOWN = KeysUnknown("UnrecognizedClientException", "The security token included in the request is invalid.")
THROTTLED = Throttled("ThrottlingException", "Rate exceeded")
REFUSED = Refused("InvalidParameterException", "Invalid nextToken")


def two_regions() -> World:
    return World({(ID, "east"): small_tree("a", "b"), (ID, "west"): small_tree("c")})


def one_target(*names: str) -> World:
    return World({(ID, "east"): small_tree(*names)})


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_the_whole_story_when_all_goes_well(backend: str) -> None:
    world = World(
        {
            (ID, "east"): small_tree("a", "b", "c"),
            (ID, "west"): Tree.of({}),
            (B.account_id, "east"): Tree.of({"none": [[]], "some": [[], [image("x", "t")], []]}),
        }
    )
    crawled = Rehearsal(world).of(A, B, backend=backend)
    assert crawled.rows == world.rows()
    assert crawled.outcomes() == {
        (ID, "east", None): "OK",
        (ID, "east", "a"): "OK",
        (ID, "east", "b"): "OK",
        (ID, "east", "c"): "OK",
        (ID, "west", None): "EMPTY",
        (B.account_id, "east", None): "OK",
        (B.account_id, "east", "none"): "EMPTY",
        (B.account_id, "east", "some"): "OK",
    }
    line = crawled.line(ID, "east", "a")
    assert {key: line[key] for key in ("pages", "rows", "repositories", "attempts", "throttled", "restarts")} == {
        "pages": 2, "rows": 2, "repositories": None, "attempts": 2, "throttled": 0, "restarts": 0,
    }  # fmt: skip
    target = crawled.line(ID, "east")
    assert (target["pages"], target["rows"], target["repositories"], target["accountId"]) == (2, 0, 3, ID)
    assert (crawled.ledger.totals.rows, crawled.ledger.incomplete(), crawled.ledger.failures) == (7, 0, ())


def test_keys_that_no_region_knows_are_denied() -> None:
    world = two_regions()
    world.always(("repositories", ID, "east", 0), UNKNOWN)
    world.always(("repositories", ID, "west", 0), UNKNOWN)
    crawled = Rehearsal(world).of(A)
    assert crawled.outcomes() == {(ID, "east", None): "DENIED", (ID, "west", None): "DENIED"}
    assert crawled.ledger.incomplete() == 2


@pytest.mark.parametrize("west", [[], [DENIED]], ids=["answers", "denies"])
def test_a_region_that_does_not_know_the_keys_is_disabled_once_another_knew_them(west: list[CrawlError]) -> None:
    world = two_regions()
    world.always(("repositories", ID, "east", 0), UNKNOWN)
    world.will(("repositories", ID, "west", 0), *west)
    crawled = Rehearsal(world).of(A)
    assert crawled.line(ID, "east")["outcome"] == "REGION_DISABLED"
    assert crawled.line(ID, "east")["code"] == "UnrecognizedClientException"
    assert crawled.ledger.incomplete() == len(west)


def test_who_knew_the_keys_is_asked_once_more_and_nobody_where_nothing_is_in_doubt() -> None:
    world = two_regions()
    Rehearsal(world).of(A)
    assert world.calls["repositories", ID, "east", 0] == 1
    world.always(("repositories", ID, "west", 0), UNKNOWN)
    Rehearsal(world).of(A)
    assert world.calls["repositories", ID, "east", 0] == 1 + 2


@pytest.mark.parametrize("then", [UNKNOWN, KeysExpired("ExpiredTokenException", ""), Transient("ServerException", "")])
def test_keys_that_nobody_knows_any_more_disable_no_region(then: CrawlError) -> None:
    """They were deactivated while the run went on: one region answered before, and the next one no longer."""
    world = two_regions()
    world.steps["repositories", ID, "east", 0] = chain([0.0], repeat(then))
    world.always(("repositories", ID, "west", 0), UNKNOWN)
    crawled = Rehearsal(world, policy=RetryPolicy(attempts=3)).of(A)
    assert crawled.outcomes()[ID, "east", None] == "OK"
    assert crawled.outcomes()[ID, "west", None] == "DENIED"


def test_another_region_may_still_know_them() -> None:
    world = World({(ID, region): small_tree("a") for region in ("east", "north", "west")})
    world.always(("repositories", ID, "west", 0), UNKNOWN)
    world.will(("repositories", ID, "east", 0), 0.0, UNKNOWN)
    world.will(("repositories", ID, "north", 0), 1.0, Throttled("ThrottlingException", ""))
    assert Rehearsal(world).of(A).outcomes()[ID, "west", None] == "REGION_DISABLED"


def test_a_wrong_clock_stops_the_run_whoever_finds_out() -> None:
    world = two_regions()
    world.always(("repositories", ID, "west", 0), UNKNOWN)
    world.will(("repositories", ID, "east", 0), 0.0, Fatal("ClockSkew", "late"))
    rehearsal = Rehearsal(world)
    with pytest.raises(ExceptionGroup) as caught:
        rehearsal.of(A)
    assert [str(leaf) for leaf in leaves(caught.value)] == ["ClockSkew: late"]
    assert rehearsal.line(ID, "west")["outcome"] == "DENIED"


def test_a_region_that_failed_has_not_known_the_keys() -> None:
    world = two_regions()
    world.always(("repositories", ID, "east", 0), UNKNOWN)
    world.always(("repositories", ID, "west", 0), Transient("ServerException", ""))
    assert Rehearsal(world).of(A).outcomes() == {(ID, "east", None): "DENIED", (ID, "west", None): "FAILED"}


def test_another_account_says_nothing_about_these_keys() -> None:
    world = World({(ID, "east"): small_tree("a"), (B.account_id, "east"): small_tree("b")})
    world.always(("repositories", ID, "east", 0), UNKNOWN)
    assert Rehearsal(world).of(A, B).line(ID, "east")["outcome"] == "DENIED"


def test_keys_that_stop_being_known_after_an_answer_disable_no_region() -> None:
    world = World({(ID, "east"): small_tree("a", "b", "c"), (ID, "west"): small_tree("d")})
    world.always(("repositories", ID, "east", 1), UNKNOWN)
    crawled = Rehearsal(world).of(A)
    assert crawled.line(ID, "east")["outcome"] == "DENIED"
    assert crawled.line(ID, "east", "b")["outcome"] == "OK"


def test_regions_that_may_not_be_listed_are_one_line_of_the_account() -> None:
    world = two_regions()
    world.always(("regions", ID), DENIED)
    crawled = Rehearsal(world).of(A)
    assert crawled.outcomes() == {(ID, None, None): "DENIED"}
    assert crawled.line(ID)["message"] == DENIED.message


def test_regions_that_are_not_told_in_time_are_one_line_of_the_account() -> None:
    world = World({(ID, "east"): small_tree("a"), (B.account_id, "east"): small_tree("b")})
    world.will(("regions", ID), HANG)
    crawled = Rehearsal(world, limits=Limits(target_seconds=100.0)).of(A, B)
    line = crawled.line(ID)
    assert (line["outcome"], line["code"], line["seconds"]) == ("FAILED", "TargetTimeout", 100.0)
    assert crawled.outcomes()[B.account_id, "east", "b"] == "OK"


def test_an_account_without_a_region_is_one_line_too() -> None:
    crawled = Rehearsal(World({})).of(replace(A, regions=("all",)))
    assert crawled.outcomes() == {(ID, None, None): "REGION_DISABLED"}
    assert crawled.line(ID)["code"] == "NoRegionEnabled"
    assert crawled.line(ID)["message"] == "none of the regions that the file names for it (all) is enabled"


def test_one_bad_account_never_stops_the_others() -> None:
    world = World({(account.account_id, "east"): small_tree("a") for account in (A, B, C)})
    world.always(("regions", ID), DENIED)
    world.always(("repositories", B.account_id, "east", 0), THROTTLED)
    crawled = Rehearsal(world).of(A, B, C)
    assert crawled.outcomes() == {
        (ID, None, None): "DENIED",
        (B.account_id, "east", None): "THROTTLED",
        (C.account_id, "east", None): "OK",
        (C.account_id, "east", "a"): "OK",
    }
    assert len(crawled.sink.rows) == 2


def test_a_list_of_repositories_that_breaks_finishes_what_it_gave() -> None:
    world = one_target("a", "b", "c")
    world.always(("repositories", ID, "east", 1), Transient("ServerException", "fault"))
    crawled = Rehearsal(world).of(A)
    assert crawled.outcomes() == {
        (ID, "east", None): "FAILED",
        (ID, "east", "a"): "OK",
        (ID, "east", "b"): "OK",
    }
    line = crawled.line(ID, "east")
    assert (line["code"], line["pages"], line["attempts"], line["repositories"]) == ("ServerException", 1, 21, 2)
    assert line["lastTokenHash"] is not None


@pytest.mark.parametrize(
    ("error", "outcome"),
    [(DENIED, "DENIED"), (UNKNOWN, "DENIED"), (THROTTLED, "THROTTLED"), (REFUSED, "FAILED"),
     (Gone("RepositoryNotFoundException", ""), "GONE"), (Transient("ServerException", ""), "FAILED")],
)  # fmt: skip
def test_a_repository_ends_as_its_error_says_and_its_neighbours_finish(error: CrawlError, outcome: str) -> None:
    world = one_target("a", "b", "c")
    world.always(("images", ID, "east", "b", 0), error)
    crawled = Rehearsal(world).of(A)
    assert crawled.outcomes() == {
        (ID, "east", None): "OK",
        (ID, "east", "a"): "OK",
        (ID, "east", "b"): outcome,
        (ID, "east", "c"): "OK",
    }
    line = crawled.line(ID, "east", "b")
    assert (line["code"], line["pages"], line["rows"], line["lastTokenHash"]) == (error.code, 0, 0, None)


def test_a_failure_carries_its_resume_point() -> None:
    world = World({(ID, "east"): Tree.of({"a": [[image("0")], [image("1")], [image("2")]]})})
    world.always(("images", ID, "east", "a", 2), DENIED)
    line = Rehearsal(world).of(A).line(ID, "east", "a")
    assert (line["outcome"], line["pages"], line["rows"], line["attempts"]) == ("DENIED", 2, 2, 3)
    (sent,) = (tokens for tokens in world.tokens.values() if len(tokens) == 3)
    assert line["lastTokenHash"] == token_hash(str(sent[-1]))


def test_only_a_repository_can_be_gone() -> None:
    world = one_target("a")
    world.always(("repositories", ID, "east", 0), Gone("RepositoryNotFoundException", "who?"))
    crawled = Rehearsal(world).of(A)
    assert crawled.outcomes() == {(ID, "east", None): "FAILED"}
    assert crawled.line(ID, "east")["code"] == "RepositoryNotFoundException"


def test_a_token_refused_in_the_middle_begins_the_chain_anew_once() -> None:
    world = one_target("a")
    world.will(("images", ID, "east", "a", 1), REFUSED)
    crawled = Rehearsal(world).of(A)
    line = crawled.line(ID, "east", "a")
    assert (line["outcome"], line["pages"], line["rows"], line["restarts"]) == ("OK", 3, 2, 1)
    assert (crawled.ledger.totals.restarts, crawled.ledger.totals.rows) == (1, 2)
    assert crawled.rows == world.rows(), "the first page was delivered before, and is not again"


def test_a_token_refused_again_is_the_end() -> None:
    world = one_target("a")
    world.always(("images", ID, "east", "a", 1), REFUSED)
    line = Rehearsal(world).of(A).line(ID, "east", "a")
    assert (line["outcome"], line["pages"], line["restarts"]) == ("FAILED", 2, 1)
    assert line["lastTokenHash"] is not None


def test_refused_on_the_first_page_is_the_end_at_once() -> None:
    world = one_target("a")
    world.always(("images", ID, "east", "a", 0), REFUSED)
    assert Rehearsal(world).of(A).line(ID, "east", "a")["restarts"] == 0
    assert world.calls["images", ID, "east", "a", 0] == 1


def test_a_target_out_of_time_gives_a_line_to_all_it_knows() -> None:
    world = one_target(*"abcdef")
    world.trees[ID, "east"] = replace(world.trees[ID, "east"], names=[list("abcdef")])
    world.always(("images", ID, "east", "c", 1), HANG)  # and holds the only slot
    world.timeout = HANG
    limits = Limits(requests_per_target=1, target_seconds=100)
    crawled = Rehearsal(world, limits=limits).of(A)
    assert {unit[2]: line["code"] for line in crawled.lines if (unit := (0, 0, line["repositoryName"]))} == {
        None: "TargetTimeout", "a": None, "b": None, "c": "Interrupted", "d": "Interrupted",
        "e": "NotReached", "f": "NotReached",
    }  # fmt: skip
    assert crawled.ledger.totals.repositories == {Outcome.OK: 2, Outcome.FAILED: 4}
    assert crawled.line(ID, "east")["message"] == "not done within 100 s"
    assert crawled.line(ID, "east")["seconds"] == 100


def test_an_attempt_that_has_to_renew_keys_first_takes_its_time() -> None:
    world = one_target("a")
    world.timeout = HANG
    world.will(("images", ID, "east", "a", 1), 800.0)
    line = Rehearsal(world).of(A).line(ID, "east", "a")
    assert (line["outcome"], line["attempts"], line["seconds"]) == ("OK", 2, 800)


def test_a_stalled_request_is_given_up_and_made_again() -> None:
    world = one_target("a")
    world.will(("images", ID, "east", "a", 1), HANG, HANG)
    world.timeout = 30
    crawled = Rehearsal(world).of(A)
    assert crawled.rows == world.rows()
    line = crawled.line(ID, "east", "a")
    assert (line["outcome"], line["attempts"], line["seconds"]) == ("OK", 4, 60.75)


@pytest.mark.parametrize("spot", [("repositories", ID, "east", 0), ("images", ID, "east", "a", 0)])
def test_what_nothing_survives_stops_everything_and_every_known_unit_has_its_line(spot: tuple[str | int, ...]) -> None:
    world = two_regions()
    world.trees |= {(B.account_id, "east"): small_tree("x"), (C.account_id, "east"): small_tree("y")}
    world.will(spot, Fatal("RequestTimeTooSkewed", "the clock is 20 min slow"))
    world.always(("repositories", ID, "west", 0), HANG)
    world.always(("regions", B.account_id), HANG)
    rehearsal = Rehearsal(world, limits=Limits(targets_at_once=2))
    with pytest.raises(ExceptionGroup) as caught:
        rehearsal.of(A, B, C)
    assert [str(leaf) for leaf in leaves(caught.value)] == ["RequestTimeTooSkewed: the clock is 20 min slow"]
    at_fault = {line["repositoryName"] for line in rehearsal.lines if line["code"] == "RequestTimeTooSkewed"}
    assert at_fault == {None if spot[0] == "repositories" else "a"}
    outcomes = rehearsal.outcomes()
    assert outcomes.pop((ID, "east", "b"), "FAILED") in ("OK", "FAILED")
    outcomes.pop((ID, "east", "a"), None)
    assert outcomes == {
        (ID, "east", None): "FAILED",
        (ID, "west", None): "FAILED",
        (B.account_id, None, None): "FAILED",
        (C.account_id, None, None): "FAILED",
    }


def test_a_bug_stops_everything_and_is_not_hidden() -> None:
    world = two_regions()
    world.will(("images", ID, "east", "a", 0), ValueError("a bug"))
    rehearsal = Rehearsal(world)
    with pytest.raises(ExceptionGroup) as caught:
        rehearsal.of(A)
    assert [str(leaf) for leaf in leaves(caught.value)] == ["a bug"]
    assert rehearsal.line(ID, "east", "a")["code"] == "Interrupted"
    assert rehearsal.ledger.totals.repositories[Outcome.FAILED] >= 1


def test_globs_narrow_regions_and_repositories() -> None:
    world = World({(ID, region): small_tree("team-a", "team-b", "other") for region in ("eu-1", "eu-2", "us-1")})
    account = replace(A, repositories=("team-*",), exclude_repositories=("*-b",))
    crawled = Rehearsal(world, wanted=Filter(regions=("eu-*",), exclude_repositories=("x",))).of(account)
    assert set(crawled.outcomes()) == {(ID, f"eu-{n}", name) for n in "12" for name in (None, "team-a")}
    assert set(crawled.outcomes().values()) == {"OK"}
    narrowed = Rehearsal(world, wanted=Filter(regions=("us-1",), repositories=("*-b",))).of(account)
    assert narrowed.outcomes() == {(ID, "us-1", None): "OK"}
    assert Rehearsal(world, wanted=Filter(regions=("ap-*",))).of(account).lines == []


def test_other_registries_are_read_with_the_keys_of_the_account_each_once() -> None:
    world = World({(ID, "east"): small_tree("a"), ("9" * 12, "east"): small_tree("z")})
    account = replace(A, name="hub", registries=("9" * 12, ID, "9" * 12))
    crawled = Rehearsal(world).of(account)
    assert crawled.rows == world.rows()
    assert len(crawled.outcomes()) == 4
    line = crawled.line("9" * 12, "east", "z")
    assert (line["accountId"], line["accountName"]) == (ID, "hub")


def test_a_public_registry_is_a_target_of_its_own() -> None:
    here, public = (A.account_id, "us-east-1"), (f"public.ecr.aws/{A.account_id}", "us-east-1")
    world = World({here: small_tree("app"), public: small_tree("app"), (B.account_id, "us-east-1"): small_tree()})
    crawled = Rehearsal(world).of(replace(A, public=True), B)
    assert {unit for unit in crawled.outcomes() if unit[2] == "app"} == {(*here, "app"), (*public, "app")}
    assert {row[:3] for row in crawled.rows} == {(*here, "app"), (*public, "app")}
    narrow = Rehearsal(world, wanted=Filter(regions=("eu-*",))).of(replace(A, public=True))
    assert not narrow.rows


def test_keys_that_a_public_registry_does_not_know_are_denied() -> None:
    """Its region is enabled for everyone."""
    public = f"public.ecr.aws/{A.account_id}"
    world = World({(A.account_id, "west"): small_tree("app"), (public, "us-east-1"): small_tree("app")})
    world.always(("repositories", public, "us-east-1", 0), KeysUnknown("UnrecognizedClientException", "?"))
    crawled = Rehearsal(world).of(replace(A, public=True))
    assert crawled.outcomes()[public, "us-east-1", None] == "DENIED"


def test_a_region_named_twice_is_crawled_once() -> None:
    world = one_target("a")
    assert len(Rehearsal(world).of(replace(A, regions=("east", "east"))).outcomes()) == 2


@pytest.mark.parametrize("error", [Denied("AccessDenied", "sts:AssumeRole"), Refused("BadRegion", "no such name")])
def test_a_target_that_cannot_be_opened_ends_alone(error: CrawlError) -> None:
    world = two_regions()
    world.always(("open", ID, "east"), error)
    crawled = Rehearsal(world).of(A)
    line = crawled.line(ID, "east")
    assert (line["outcome"], line["code"], line["pages"], line["attempts"]) == (error.outcome, error.code, 0, 0)
    assert crawled.line(ID, "west")["outcome"] == "OK"


def test_a_region_that_aws_calls_enabled_is_never_disabled() -> None:
    world = two_regions()
    world.enabled = {"east", "west"}
    world.always(("repositories", ID, "east", 0), UNKNOWN)
    crawled = Rehearsal(world).of(replace(A, regions=("all",)))
    assert crawled.line(ID, "east")["outcome"] == "DENIED"
    assert crawled.line(ID, "west")["outcome"] == "OK"


def test_keys_that_could_not_be_found_are_no_doubt_of_a_region() -> None:
    world = two_regions()
    world.always(("open", ID, "east"), UNKNOWN)
    assert Rehearsal(world).of(A).line(ID, "east")["outcome"] == "DENIED"


def test_keys_that_could_not_be_found_are_no_answer_of_a_region() -> None:
    world = two_regions()
    world.always(("open", ID, "east"), Denied("NoCredentials", ""))
    world.always(("repositories", ID, "west", 0), UNKNOWN)
    crawled = Rehearsal(world).of(A)
    assert {crawled.line(ID, region)["outcome"] for region in ("east", "west")} == {"DENIED"}


def test_a_repository_that_is_listed_twice_is_crawled_once() -> None:
    world = one_target("a", "b", "c")
    world.trees[ID, "east"] = replace(world.trees[ID, "east"], names=[["a", "b"], ["b", "c", "c"]])
    crawled = Rehearsal(world).of(A)
    assert crawled.rows == world.rows()
    assert crawled.line(ID, "east")["outcome"] == "OK"
    assert sorted(line["repositoryName"] or "" for line in crawled.lines) == ["", "a", "b", "c"]


def test_a_listing_that_begins_anew_is_stopped() -> None:
    world = one_target("a", "b")
    world.trees[ID, "east"] = replace(world.trees[ID, "east"], names=[["a"], ["b"], ["a"], ["b"]])
    crawled = Rehearsal(world).of(A)
    assert crawled.rows == world.rows()
    assert (crawled.line(ID, "east")["outcome"], crawled.line(ID, "east")["code"]) == ("FAILED", "RepeatedPage")
