"""What one night leaves for the next, and what the next makes of it."""

from __future__ import annotations

import json
import math
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawler.crawl import Crawl, Limits
from crawler.errors import Gone, Throttled, UsageError
from crawler.governor import Governor, of_target
from crawler.hints import LONG, MAX_BYTES, REMEMBERED, Expected, Hints, Memory, Unfit
from crawler.hints_file import PATIENCE, HintsFile, local_hints
from crawler.ledger import Ledger
from crawler.model import Account, Chain, Outcome, Result, RowKind, Split, Target, Unit
from crawler.pace import Quota
from crawler.wanted import Filter
from tests.fakes import LONGEST, ListSink, Rehearsal, Tree, World, image, run, small_tree

A, B = Account("1" * 12), Account("2" * 12)
ID = A.account_id
EAST = Target(A, "east", ID)


def listed(pages: int, outcome: Outcome = Outcome.OK) -> Result:
    return Result(Unit(), outcome, chain=Chain(pages=pages))


def learned(*targets: tuple[Target, dict[str, int]], rate: Quota | None = None) -> Hints:
    hints = Hints([ID, B.account_id])
    for target, repositories in targets:
        memory = Memory()
        for name, pages in repositories.items():
            memory.listed(name, listed(pages))
        memory.learned({"DescribeRepositories": None, "ListImages": rate})
        hints.keep(target, memory, whole=True)
    return hints


def reread(hints: Hints, estate: list[str] | None = None, pages: int | None = 100) -> Hints:
    return Hints.read(hints.written(pages), [ID] if estate is None else estate, "")


def long_tree(**pages: int) -> Tree:
    return Tree.of(
        {
            name: [[image(f"{name}-{n}", f"v{n}" if n % 2 else None)] for n in range(count)]
            for name, count in pages.items()
        },
        per_page=2,
    )


def test_rates_and_long_repositories_come_back_and_short_ones_are_not_kept() -> None:
    hints = learned((EAST, {"long": LONG, "longer": 99, "short": LONG - 1}), rate=Quota(20.5, 41.0))
    memory = reread(hints).of(EAST)
    assert memory.rates == {"ListImages": Quota(20.5, 41.0)}
    assert memory.long_repositories() == ["longer", "long"]
    assert memory.pages == 99 + LONG + LONG - 1
    assert reread(hints).expected == Expected(100, max((memory.pages - 41) / 20.5, 9.9))


def test_a_name_that_utf8_cannot_hold_is_not_kept_and_no_hindrance_to_those_that_are() -> None:
    hints = learned((EAST, {"a\ud800": LONG, "long": LONG}))
    assert reread(hints).of(EAST).long_repositories() == ["long"]


def test_a_target_with_nothing_to_remember_is_forgotten() -> None:
    hints = learned((EAST, {"long": LONG}))
    memory = hints.of(EAST).copy()
    memory.listed("long", listed(1))
    hints.keep(EAST, memory, whole=True)
    assert json.loads(hints.written(1))["targets"] == {}


def test_a_target_that_no_run_meets_is_forgotten_after_a_while() -> None:
    """As those of an account that has left; otherwise new ones would find no room one day."""
    west = Target(B, "west", B.account_id)
    text = learned((EAST, {"long": LONG}), (west, {"long": LONG})).written(1, today=20_000)

    def night(today: int) -> set[str]:
        nonlocal text
        hints = Hints.read(text, [ID], "")
        hints.keep(EAST, hints.of(EAST).copy(), whole=True)
        text = hints.written(1, today=today)
        return set(json.loads(text)["targets"])

    both = {f"{ID}/east", f"{B.account_id}/west"}
    assert night(20_001) == night(20_000 + REMEMBERED) == both
    assert night(20_001 + REMEMBERED) == {f"{ID}/east"}


def test_days_of_older_programs_and_of_wrong_clocks_do_no_harm() -> None:
    document = json.loads(learned((EAST, {"long": LONG})).written(1, today=20_000))
    assert document["targets"][f"{ID}/east"]["seen"] == 20_000
    for seen in (None, 0, 30_000):
        document["targets"][f"{ID}/east"].pop("seen", None)
        document["targets"][f"{ID}/east"] |= {"seen": seen} if seen is not None else {}
        again = Hints.read(json.dumps(document).encode(), [ID], "").written(1, today=20_100)
        assert json.loads(again)["targets"][f"{ID}/east"]["seen"] == 20_100


def test_what_failed_stays_as_it_was_known() -> None:
    hints = learned((EAST, {"long": 50}))
    memory = hints.of(EAST).copy()
    memory.listed("long", listed(3, Outcome.FAILED))
    hints.keep(EAST, memory, whole=False)
    assert hints.of(EAST).repositories == {"long": 50}
    assert hints.of(EAST).pages == 50


def test_memory_does_not_grow_with_the_estate() -> None:
    hints = Hints([ID])
    for number in range(60_000):
        hints.keep(Target(A, f"region-{number}", ID), Memory(rates={"ListImages": Quota(1, 1)}), whole=True)
    hints.keep(EAST, Memory(repositories=dict.fromkeys(map(str, range(2_000)), 10)), whole=True)
    assert len(json.loads(hints.written(1))["targets"]) == 50_000


@pytest.mark.parametrize(
    ("text", "why", "ours"),
    [
        (b"", "is not what a crawl has written", True),
        (b'{"version": 1', "is not what a crawl has written", True),
        (b"[]", "is not what a crawl has written", True),
        (b"{}", "is damaged at format: Field required", True),
        (b'{"version": 2, "other": 1}', "is of version 2, of a later program; this one knows version 1", False),
        (b" " * (MAX_BYTES + 1), "is larger than 64 MB, which no crawl has written", False),
    ],
    ids=["empty", "cut off", "a list", "an object", "of a later program", "too large"],
)
def test_what_is_unfit_is_told_and_not_used(text: bytes, why: str, *, ours: bool) -> None:
    with pytest.raises(Unfit, match=why) as unfit:
        Hints.read(text, [ID], "")
    assert unfit.value.ours is ours


def test_another_estate_is_told() -> None:
    with pytest.raises(Unfit, match="another estate") as unfit:
        reread(learned((EAST, {"long": 50})), ["9" * 12])
    assert not unfit.value.ours


@pytest.mark.parametrize("rate", [0, -1, "20", None, 1e99])
def test_rates_that_no_service_has_are_damage(rate: object) -> None:
    document = json.loads(learned((EAST, {}), rate=Quota(20, 40)).written(1))
    document["targets"][f"{ID}/east"]["rates"]["ListImages"]["rate"] = rate
    with pytest.raises(Unfit, match="is damaged at targets"):
        Hints.read(json.dumps(document).encode(), [ID], "")


@given(st.binary(max_size=200))
def test_whatever_the_file_holds_it_is_hints_or_unfit(text: bytes) -> None:
    with pytest.raises(Unfit):
        Hints.read(text, [ID], "")


def test_pages_are_expected_of_the_same_selection_only() -> None:
    text = Hints([ID], "region=east").written(1234, 77, 99_000)
    again = Hints.read(text, [ID], "region=east")
    assert again.expected == Expected(1234, 0, 77, 99_000)
    assert again.written(None) == text, "a run that did not reach its end leaves the sums of the one before"
    assert Hints.read(text, [ID], "").expected is None


def test_the_longest_accounts_regions_and_repositories_begin_first() -> None:
    trees = {(account.account_id, region): small_tree("a") for account in (A, B) for region in ("east", "west")}
    trees[B.account_id, "west"] = long_tree(a=1, b=1, c=1, d=12, e=20)
    world = World(trees)
    hints = learned((Target(B, "west", B.account_id), {"d": 12, "e": 20}))
    Rehearsal(world, hints=hints, limits=Limits(targets_at_once=1, requests_per_target=1)).of(A, B)
    begun = [spot for spot in world.calls if spot[0] in ("regions", "images")]
    assert begun[0] == ("regions", B.account_id)
    # The names of d and e stand on later pages of the listing.
    assert [spot[1:4] for spot in begun if spot[0] == "images" and spot[-1] == 0][:3] == [
        (B.account_id, "west", "e"),
        (B.account_id, "west", "d"),
        (B.account_id, "west", "a"),
    ]


def test_each_repository_is_listed_once_and_one_that_has_gone_is_told() -> None:
    world = World({(ID, "east"): long_tree(a=1, b=12, c=1)})
    world.trees[ID, "east"].images["gone"] = [[]]
    world.always(("images", ID, "east", "gone", 0), Gone("RepositoryNotFoundException", ""))
    hints = learned((EAST, {"b": 12, "gone": 30}))
    crawled = Rehearsal(world, hints=hints).of(A)
    assert crawled.outcomes() == {
        (ID, "east", None): "OK",
        (ID, "east", "a"): "OK",
        (ID, "east", "b"): "OK",
        (ID, "east", "c"): "OK",
        (ID, "east", "gone"): "GONE",
    }
    assert hints.of(EAST).repositories == {"b": 12}


def test_what_is_no_longer_wanted_is_not_begun_because_it_is_long() -> None:
    world = World({(ID, "east"): long_tree(a=1, b=12)})
    hints = learned((EAST, {"b": 12}))
    crawled = Rehearsal(world, hints=hints).of(Account(ID, exclude_repositories=("b",)))
    assert set(crawled.outcomes()) == {(ID, "east", None), (ID, "east", "a")}


def test_the_rate_of_last_night_is_used_and_this_nights_is_kept() -> None:
    world = World({(ID, "east"): long_tree(**{f"r{n}": 1 for n in range(20)})})
    hints = learned((EAST, {}), rate=Quota(4, 2))
    Rehearsal(world, hints=hints).of(A)
    starts = sorted(times[0] for spot, times in world.times.items() if spot[0] == "images")
    assert starts[-1] == pytest.approx(18 / 4, rel=0.05)
    assert hints.of(EAST).rates["ListImages"].rate == pytest.approx(4, rel=0.05)


def test_a_single_refusal_teaches_nothing_that_another_night_should_know() -> None:
    world = World({(ID, "east"): small_tree("a")})
    world.will(("images", ID, "east", "a", 0), Throttled("ThrottlingException", ""))
    hints = Hints([ID])
    Rehearsal(world, hints=hints).of(A)
    assert hints.of(EAST).rates == {}


@pytest.mark.parametrize("split", [Split.NO, Split.TAGS])
def test_a_long_repository_in_parts_has_the_same_rows_and_one_line(split: Split) -> None:
    world = World({(ID, "east"): long_tree(a=3, b=20)})
    crawled = Rehearsal(world, hints=learned((EAST, {"b": 20})), limits=Limits(split=split)).of(A)
    assert crawled.rows == world.rows()
    assert crawled.line(ID, "east", "b")["rows"] == 20
    chains = {spot[4] for spot in world.calls if spot[:4] == ("images", ID, "east", "b")}
    assert chains >= ({"TAGGED", "UNTAGGED"} if split is Split.TAGS else {0})
    assert {spot[4] for spot in world.calls if spot[:4] == ("images", ID, "east", "a")} == {0, 1, 2}


def test_parts_are_listed_at_once() -> None:
    tree = Tree.of({"b": [[image(str(n), "v" if n % 2 else None)] for n in range(400)]})
    world = World({(ID, "east"): tree})
    for part in ("TAGGED", "UNTAGGED"):
        for page in range(100):
            world.will(("images", ID, "east", "b", part, page), 0.05)
    crawled = Rehearsal(world, hints=learned((EAST, {"b": 100})), limits=Limits(split=Split.TAGS)).of(A)
    assert crawled.line(ID, "east", "b")["seconds"] == pytest.approx(100 * 0.05)
    assert crawled.line(ID, "east", "b")["pages"] == 200


def test_one_part_that_fails_fails_the_repository_and_ends_the_others() -> None:
    world = World({(ID, "east"): long_tree(b=20)})
    world.will(("images", ID, "east", "b", "TAGGED", 0), 1000.0)
    world.always(("images", ID, "east", "b", "UNTAGGED", 2), Gone("RepositoryNotFoundException", "deleted"))
    crawled = Rehearsal(world, hints=learned((EAST, {"b": 20})), limits=Limits(split=Split.TAGS)).of(A)
    line = crawled.line(ID, "east", "b")
    assert (line["outcome"], line["pages"], line["rows"], line["seconds"]) == ("GONE", 2, 4, 0)
    assert line["lastTokenHash"]


def use(path: Path, pages: int | None, learn: Callable[[Hints], None] = lambda _: None) -> None:
    """A run of so many pages."""

    async def main() -> None:
        async with local_hints(str(path), [ID], "") as file:
            learn(file.hints)
            await file.publish(pages)

    run(main)


def test_the_file_is_replaced_whole_and_private(tmp_path: Path) -> None:
    path = tmp_path / "hints.json"

    def learn(hints: Hints) -> None:
        hints.keep(EAST, Memory(repositories={"b": 20}), whole=True)
        assert not path.exists()

    def recall(hints: Hints) -> None:
        assert hints.of(EAST).repositories == {"b": 20}

    use(path, 30, learn)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    use(path, None, recall)
    assert json.loads(path.read_bytes())["pages"] == 30


@pytest.mark.parametrize(
    ("text", "replaced", "told"),
    [
        ("{]", True, "is not what a crawl has written: the crawl begins without hints"),
        ('{"version": 99}', False, "of a later program; this one knows version 1: the crawl begins without hints, and"),
    ],
)
def test_an_unfit_file_is_told_and_replaced_only_if_it_is_ours(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str, told: str, *, replaced: bool
) -> None:
    path = tmp_path / "hints.json"
    path.write_text(text)
    use(path, 1)
    assert told in caplog.text
    assert (path.read_text() != text) is replaced


@pytest.mark.parametrize(("left", "waited"), [(2.5, 2.5), (math.inf, PATIENCE)])
def test_a_store_that_hangs_holds_nobody_longer_than_is_left(
    caplog: pytest.LogCaptureFixture, left: float, waited: float
) -> None:
    async def hang(_: bytes) -> None:
        await anyio.sleep_forever()

    async def main() -> float:
        file = HintsFile("s3://…", None, [ID], "")
        file.kept_by(hang)
        started = anyio.current_time()
        with anyio.move_on_after(left):
            await file.publish(1)
        return anyio.current_time() - started

    assert run(main) == waited
    assert "hints are not kept: there was no time to wait for their store" in caplog.text


def test_a_file_of_this_machine_is_kept_though_no_time_is_left(tmp_path: Path) -> None:
    async def main() -> None:
        async with local_hints(str(tmp_path / "hints.json"), [ID], "") as file:
            with anyio.CancelScope() as scope:
                scope.cancel()
                await file.publish(7)

    run(main)
    assert json.loads((tmp_path / "hints.json").read_bytes())["pages"] == 7


def test_a_file_that_cannot_be_read_is_told_before_the_crawl(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read: Is a directory"):
        use(tmp_path, 1)


def test_rates_are_those_of_what_lists_the_rows() -> None:
    """Each operation has a rate of its own at AWS: what ListImages was granted says nothing of DescribeImages."""
    fast, slow = Quota(1000.0, 1000.0), Quota(1.0, 1.0)
    hints = Hints([ID], "", RowKind.DETAILS)
    memory = Memory(rates={"ListImages": slow, "DescribeImages": fast}, pages=100)
    assert memory.seconds(RowKind.DETAILS) < memory.seconds()
    hints.keep(EAST, memory, whole=True)
    assert hints.seconds(A) == memory.seconds(RowKind.DETAILS)
    asked: list[tuple[str, str]] = []

    def governors(**how: Any) -> tuple[Governor, Governor]:
        asked.append(how["operations"])
        listing, images = of_target(**how)
        assert images.pace.quota == how["known"].get(how["operations"][1])
        return listing, images

    async def main() -> None:
        world = World({(ID, "east"): small_tree("a")})
        settings: dict[str, Any] = {"limits": Limits(), "policy": LONGEST, "wanted": Filter()}
        crawl = Crawl(world, ListSink(), Ledger(), rows=RowKind.DETAILS, hints=hints, governors=governors, **settings)
        await crawl.accounts([A])

    run(main)
    assert asked == [("DescribeRepositories", "DescribeImages")]
    assert hints.of(EAST).rates.keys() == {"ListImages", "DescribeImages"}


def test_a_public_registry_is_its_accounts_own_and_in_its_region() -> None:
    hints, public = Hints(), Target.of_public(A)
    hints.keep(public, Memory({"DescribeImages": Quota(2.0, 1.0)}, {"site": 500}, pages=500), whole=True)
    assert hints.seconds(A) > 0
    assert list(hints.accounts()) == [A.account_id]
    (rate,) = hints.slowest(1)
    assert (rate.registry_id, rate.region) == (public.registry_id, public.region)
