"""An account that several shards crawl, each some of its regions: what comes of it is what one process finds."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crawler.cutting import Group, cut, deal, pieces_of
from crawler.engines.dispatch import LOSSES
from crawler.errors import CrawlError, Denied, Gone, KeysExpired, KeysUnknown
from crawler.hints import Hints, Memory
from crawler.model import PUBLIC, PUBLIC_REGION, Account, Target
from crawler.pace import Quota
from crawler.settings import Settings
from tests.core.crews import Run
from tests.core.strategies import trees
from tests.fakes import HANG, Rehearsal, Spot, Step, Tree, World, small_tree

REGIONS = ("eu-1", PUBLIC_REGION, "us-2", "me-1")
IDS = [f"{number}" * 12 for number in (1, 2, 3)]
UNKNOWN = KeysUnknown("UnrecognizedClientException", "who?")
DENIED = Denied("AccessDeniedException", "no")


@dataclass(frozen=True)
class Company:
    """Accounts, what is in them, and what lastingly fails."""

    accounts: tuple[Account, ...]
    trees: Mapping[tuple[str, str], Tree]
    faults: Mapping[Spot, CrawlError]
    enabled: frozenset[str]

    def world(self) -> World:
        world = World(self.trees)
        world.enabled = set(self.enabled)
        for spot, fault in self.faults.items():
            world.always(spot, fault)
        return world


@st.composite
def companies(draw: st.DrawFn) -> Company:
    """Draw accounts with regions that are listed or written down, which may be empty, closed, mistyped or denied."""
    accounts, there, faults = [], {}, {}
    for account_id in draw(st.lists(st.sampled_from(IDS), min_size=1, unique=True)):
        named = draw(st.lists(st.sampled_from(REGIONS), unique=True))
        public, registries = draw(st.booleans()), draw(st.sampled_from([(), (account_id,), ("9" + account_id[1:],)]))
        regions = draw(st.sampled_from([("all",), tuple(named)]))
        accounts.append(Account(account_id, regions=regions, public=public, registries=registries))
        places = [(registry, region) for registry in (account_id, *registries) for region in named]
        places += [(PUBLIC + account_id, PUBLIC_REGION)]
        lasting = st.sampled_from([UNKNOWN, DENIED, KeysExpired("ExpiredToken", "late"), Gone("Gone", "gone")])
        for place in places:
            there[place] = draw(trees() | st.just(Tree([[]], {})))
            spot = draw(st.sampled_from([("repositories", *place, 0), ("open", *place), ("repositories", *place, 1)]))
            if fault := draw(st.none() | st.just(UNKNOWN) | lasting):
                faults[spot] = fault
            for name in there[place].images:
                if fault := draw(st.none() | lasting):
                    faults["images", *place, name, 0] = fault
        if fault := draw(st.none() | st.none() | st.none() | st.sampled_from([UNKNOWN, DENIED])):
            faults["regions", account_id] = fault
    return Company(tuple(accounts), there, faults, draw(st.frozensets(st.sampled_from(REGIONS))))


def comparable(lines: list[dict[str, Any]]) -> Counter[str]:
    return Counter(json.dumps({**line, "seconds": 0, "lastTokenHash": None}) for line in lines)


@settings(max_examples=80, deadline=None)
@given(company=companies(), workers=st.integers(1, 3), wanted=st.sampled_from([(), ("eu-*",), ("us-*", "mars-*")]))
def test_rows_ledger_and_sums_are_those_of_one_process(company: Company, workers: int, wanted: tuple[str, ...]) -> None:
    given_settings = Settings(accounts="", region=wanted, repository=("a", "team/*", "nowhere"))
    alone = Rehearsal(company.world(), wanted=given_settings.filter())
    crawl = alone.crawl()
    anyio.run(crawl.accounts, company.accounts)

    run = Run(company.world(), given_settings, workers=workers).crawl(*company.accounts)
    assert comparable(run.lines) == comparable(alone.lines)
    assert Counter(tuple(row.values()) for row in run.rows) == alone.rows
    assert run.ledger.totals == alone.ledger.totals
    assert sorted(map(repr, map(told, run.ledger.failures))) == sorted(map(repr, map(told, alone.ledger.failures)))
    assert (run.dispatch.regions.globs, run.dispatch.repositories.globs) == (
        crawl.regions.globs,
        crawl.repositories.globs,
    )
    # Whatever is cut, a target has one owner.
    owned = Counter(
        (account.account_id, region)
        for shard in run.crew.given
        for account in shard.accounts
        for region in shard.regions or ()
    )
    assert max(owned.values(), default=1) == 1


def told(failure: Any) -> tuple[Any, ...]:
    first = failure.first
    return first.unit.account.account_id, first.outcome, first.code, failure.units


WIDE = Account(IDS[0], regions=REGIONS)


def wide() -> World:
    return World({(WIDE.account_id, region): small_tree("a", "b") for region in REGIONS})


def units(run: Run) -> Counter[tuple[str | None, ...]]:
    return Counter((line["registryId"], line["region"], line["code"]) for line in run.lines)


def test_one_account_keeps_several_workers_busy() -> None:
    run = Run(wide(), workers=2).crawl(WIDE)
    assert [tuple(shard.regions or ()) for shard in run.crew.given] == [(region,) for region in REGIONS]
    assert run.world.calls["regions", WIDE.account_id] == 1
    assert run.ledger.totals.accounts == 1


def test_for_one_worker_nothing_is_cut() -> None:
    run = Run(wide(), workers=1).crawl(WIDE)
    assert [shard.regions for shard in run.crew.given] == [None]


def test_regions_that_cannot_be_asked_for_here_are_asked_for_there() -> None:
    """Other machines may have keys that the first one has not."""
    world = wide()
    world.will(("regions", WIDE.account_id), DENIED)
    run = Run(world, workers=2).crawl(WIDE)
    assert [shard.regions for shard in run.crew.given] == [None]
    assert run.ledger.incomplete() == 0


def test_a_piece_that_is_given_up_leaves_the_others() -> None:
    run = Run(wide(), workers=2)
    run.crew.losses[WIDE.account_id] = LOSSES
    run.crew.at_once = 1  # so that all losses are of one of them
    run.dispatch._slots = anyio.Semaphore(1)
    run.crawl(WIDE)
    assert units(run)[WIDE.account_id, REGIONS[0], "WorkerLost"] == 1
    assert len(run.lines) == 1 + 3 * (len(REGIONS) - 1)


def test_a_stop_leaves_no_region_without_a_line() -> None:
    world = wide()
    world.always(("repositories", WIDE.account_id, REGIONS[0], 0), UNKNOWN)
    for region in REGIONS[1:]:
        world.always(("repositories", WIDE.account_id, region, 0), HANG)
    run = Run(world, Settings(accounts="", timeout=3600), workers=2)
    run.dispatch._slots = anyio.Semaphore(2)

    async def main() -> None:
        async with run.dispatch.running():
            with anyio.move_on_after(0.2):
                await run.dispatch.accounts([WIDE])

    anyio.run(main)
    # Where nobody has answered, it may be the keys.
    expected = [UNKNOWN.code, *["NotReached"] * 3]
    assert units(run) == Counter((WIDE.account_id, *each) for each in zip(REGIONS, expected, strict=True))


def test_a_stop_while_regions_are_asked_for_leaves_a_line() -> None:
    world = wide()
    world.always(("regions", WIDE.account_id), HANG)
    run = Run(world, workers=2)

    async def main() -> None:
        async with run.dispatch.running():
            with anyio.move_on_after(0.1):
                await run.dispatch.accounts([WIDE])

    anyio.run(main)
    assert units(run) == {(WIDE.account_id, None, "NotReached"): 1}


def test_what_is_learned_of_one_piece_does_not_undo_another() -> None:
    """All pieces begin with what was known before; each knows its own regions only."""
    run = Run(wide(), workers=2)
    targets = [Target(WIDE, region, WIDE.account_id) for region in REGIONS]
    for target in targets:
        run.hints.keep(target, Memory({"ListImages": Quota(20.0, 40.0)}), whole=True)
    run.crawl(WIDE)
    assert [list(shard.known) for shard in run.crew.given] == [[f"{WIDE.account_id}/{region}"] for region in REGIONS]
    assert [run.hints.of(target).pages for target in targets] == [4] * len(targets)


def held(*units: tuple[str, str | None]) -> set[tuple[str, str, str, str | None]]:
    return {(WIDE.account_id, WIDE.account_id, region, name) for region, name in units}


@pytest.mark.parametrize(("now", "outcome"), [(0.0, "REGION_DISABLED"), (UNKNOWN, "DENIED")])
def test_what_is_held_is_asked_what_keys_that_are_not_known_mean(now: Step, outcome: str) -> None:
    """An earlier attempt had an answer from another region; whether it knows the keys of this one, it says itself."""
    world = wide()
    for region in (REGIONS[0], REGIONS[2], REGIONS[3]):
        world.always(("repositories", WIDE.account_id, region, 0), UNKNOWN)
    world.always(("repositories", WIDE.account_id, REGIONS[1], 0), now)
    run = Run(world, workers=2)
    run.dispatch._held = lambda _: held((REGIONS[1], None), (REGIONS[2], "a"))
    run.crawl(WIDE)
    assert [set(shard.held) for shard in run.crew.given] == [
        held(),
        held((REGIONS[1], None)),
        held((REGIONS[2], "a")),
        held(),
    ]
    # A stream holds nothing: there, it was crawled as well.
    assert {line["outcome"] for line in run.lines if line["region"] != REGIONS[1]} == {outcome}
    assert run.ledger.totals.accounts == 1


@pytest.mark.parametrize(
    ("part", "workers", "pieces"), [(1, 1, 1), (1, 2, 128), (1 / 31, 2, 5), (1 / 32, 2, 1), (0, 9, 1)]
)
def test_a_large_account_is_cut(part: float, workers: int, pieces: int) -> None:
    assert pieces_of(part, workers) == pieces


def test_an_account_that_is_known_to_be_long_is_cut_among_many() -> None:
    hints = Hints()
    hints.keep(Target(WIDE, "eu-1", WIDE.account_id), Memory({}, {"long": 1000}, 1000), whole=True)
    accounts = [*(Account(f"{number:012}") for number in range(500)), WIDE]
    first, *others = cut(accounts, hints, 2)
    assert first == Group((WIDE,), 128)
    assert {group.pieces for group in others} == {1}


@given(
    regions=st.lists(st.sampled_from(REGIONS), unique=True),
    registries=st.integers(1, 2),
    long=st.sets(st.sampled_from(REGIONS)),
    pieces=st.integers(1, 6),
)
def test_regions_are_dealt_out_whole_and_the_long_ones_apart(
    regions: list[str], registries: int, long: set[str], pieces: int
) -> None:
    hints = Hints()
    targets = [Target(WIDE, region, registry) for region in regions for registry in IDS[:registries]]
    for region in long:
        hints.keep(Target(WIDE, region, IDS[0]), Memory({}, {"long": 50}), whole=True)
    dealt = deal(targets, hints, pieces)
    assert Counter(target for piece in dealt for target in piece) == Counter(targets)
    assert len(dealt) == min(pieces, len(regions))
    owners = [{target.region for target in piece} for piece in dealt]
    assert sum(map(len, owners)) == len(regions)
    longs = [len(owner & long) for owner in owners]
    assert max(longs, default=0) - min(longs, default=0) <= 1
    assert longs == sorted(longs, reverse=True)


def test_keys_that_one_piece_does_not_know_are_judged_by_the_others() -> None:
    world = wide()
    world.always(("repositories", WIDE.account_id, REGIONS[0], 0), UNKNOWN)
    run = Run(world, workers=2).crawl(WIDE)
    (line,) = [line for line in run.lines if line["region"] == REGIONS[0]]
    assert (line["outcome"], line["code"]) == ("REGION_DISABLED", UNKNOWN.code)
    assert run.ledger.totals.targets == {"REGION_DISABLED": 1, "OK": 3}


@pytest.mark.parametrize("cancelled", [False, True])
def test_keys_that_nobody_knows_any_more_disable_no_region(*, cancelled: bool) -> None:
    world = wide()
    world.always(("repositories", WIDE.account_id, REGIONS[0], 0), UNKNOWN)
    later = HANG if cancelled else UNKNOWN
    for region in REGIONS[1:]:
        world.steps["repositories", WIDE.account_id, region, 0] = chain([0.0], repeat(later))
    run = Run(world, Settings(accounts="", timeout=3600), workers=2)

    async def main() -> None:
        async with run.dispatch.running():
            with anyio.move_on_after(0.3 if cancelled else 20):
                await run.dispatch.accounts([WIDE])

    anyio.run(main)
    (line,) = [line for line in run.lines if line["region"] == REGIONS[0]]
    assert line["outcome"] == "DENIED"
    assert run.ledger.totals.targets.total() == len(REGIONS)
