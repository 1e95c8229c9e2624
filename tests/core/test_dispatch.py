"""Shards out, reports in: each account once, whoever is lost, and whenever it is stopped."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress

import anyio
import pytest
from anyio.lowlevel import checkpoint

from crawler.cutting import MOST, SHARES, cut, cut_listed, pieces_of, size_of
from crawler.engines.dispatch import LAST_REPORT, LOSSES
from crawler.errors import Denied, Fatal
from crawler.hints import LONG, Hints, Memory
from crawler.model import Account, Outcome, RowKind, Target
from crawler.settings import Settings
from crawler.shard import Report, Shard
from tests.core.crews import ACCOUNTS, ORGANIZATION, Run, world
from tests.fakes import HANG, Rehearsal, Step, Tree, World, image, leaves, run, small_tree


def test_every_account_is_crawled_once() -> None:
    run = Run(world(*ACCOUNTS)).crawl(*ACCOUNTS)
    run.check()
    assert [shard.number for shard in run.crew.given] == list(range(1, 8))


def test_what_shards_learn_is_what_one_process_learns() -> None:
    """And what they no longer find is forgotten."""
    there = world(*ACCOUNTS)
    pages = [[image(f"{number}", None)] for number in range(LONG)]
    there.trees[ACCOUNTS[2].account_id, "east"] = Tree.of({"long": pages, "short": pages[:2]}, per_page=2)
    known = {f"{account.account_id}/east": Memory({}, {"a": 99}, 99) for account in ACCOUNTS[:2]}
    alone = Hints.of_part(known, RowKind.IDS)
    Rehearsal(there, hints=alone).of(*ACCOUNTS)
    run = Run(there)
    run.hints.learn(known)  # before anything was asked of them
    run.crawl(*ACCOUNTS)
    assert run.hints.written(1) == alone.written(1)
    assert list(json.loads(alone.written(1))["targets"]) == [f"{ACCOUNTS[2].account_id}/east"]


@pytest.mark.parametrize("regions", [1, 30])
def test_as_many_shards_are_out_as_the_crew_wants_and_no_more(regions: int) -> None:
    """Pieces of several accounts together, too."""
    names = [f"east-{number}" for number in range(regions)]
    there = World({(account.account_id, name): small_tree("a") for account in ACCOUNTS for name in names})
    crew = Run(there).crawl(*ACCOUNTS).crew
    assert crew.peak == crew.at_once == 4
    assert len(crew.given) == len(ACCOUNTS) * min(regions, pieces_of(1 / len(ACCOUNTS), 2))


def test_an_organization_is_crawled_while_it_is_listed() -> None:
    run = Run(world(*ACCOUNTS)).crawl()
    run.check()
    assert run.world.members_open == 0


def test_an_organization_that_cannot_be_listed_is_in_the_ledger() -> None:
    there = world(*ACCOUNTS)
    there.always(("members", 3), Denied("AccessDeniedException", "no"))
    run = Run(there).crawl()
    assert [line["code"] for line in run.lines if line["registryId"] is None] == ["AccessDeniedException"]
    assert run.ledger.totals.accounts == 3


@pytest.mark.parametrize("workers", [1, 2])
def test_members_that_were_listed_before_a_failure_are_crawled(workers: int) -> None:
    many = [Account(f"{number:012}") for number in range(1, 300)]
    there = world(*many)
    there.always(("members", 298), Denied("AccessDeniedException", "no"))
    run = Run(there, workers=workers).crawl()
    assert len({line["registryId"] for line in run.lines} - {None}) == run.ledger.totals.accounts == 298


def test_an_organization_whose_listing_is_stopped_has_a_line() -> None:
    there = world(*ACCOUNTS)
    there.always(("members", 3), HANG)
    run = Run(there)

    async def main() -> None:
        async with run.dispatch.running():
            with anyio.move_on_after(0.2):
                await run.dispatch.organization(ORGANIZATION, lambda _: True)

    anyio.run(main)
    assert [line["code"] for line in run.lines if line["registryId"] is None] == ["Interrupted"]


@pytest.mark.parametrize("ends", [HANG, Fatal("ClockWrong", "no")])
def test_members_that_were_listed_before_the_end_of_a_run_have_a_line_each(ends: Step) -> None:
    """Those that waited for others, to make a shard with them, had none."""
    many = [Account(f"{number:012}") for number in range(1, 700)]
    there = world(*many)
    there.always(("members", 698), ends)
    run = Run(there)

    async def main() -> None:
        async with run.dispatch.running(), anyio.create_task_group() as group:

            async def crawl() -> None:
                with suppress(Fatal):
                    await run.dispatch.organization(ORGANIZATION, lambda _: True)

            group.start_soon(crawl)
            while not there.calls["members", 698]:
                await checkpoint()
            if ends == HANG:
                group.cancel_scope.cancel()

    anyio.run(main)
    assert len({line["registryId"] for line in run.lines} - {None}) == 698


def test_what_a_lost_worker_had_is_crawled_again() -> None:
    run = Run(world(*ACCOUNTS))
    run.crew.losses.update({ACCOUNTS[0].account_id: 1, ACCOUNTS[4].account_id: LOSSES - 1})
    run.crawl(*ACCOUNTS).check()


def test_a_shard_that_ends_worker_after_worker_is_given_up() -> None:
    """And is missing, aloud; the others are not."""
    run = Run(world(*ACCOUNTS))
    run.crew.losses[ACCOUNTS[2].account_id] = LOSSES
    run.crawl(*ACCOUNTS)
    (failure,) = run.ledger.failures
    assert (failure.first.code, failure.first.unit.registry_id) == ("WorkerLost", ACCOUNTS[2].account_id)
    assert run.ledger.incomplete() == 1
    assert run.ledger.totals.rows == sum(run.world.rows().values()) - 4


def test_failures_come_through() -> None:
    there = world(*ACCOUNTS)
    there.always(("repositories", ACCOUNTS[1].account_id, "east", 0), Denied("AccessDeniedException", "no"))
    run = Run(there).crawl(*ACCOUNTS)
    assert [failure.first.code for failure in run.ledger.failures] == ["AccessDeniedException"]


def test_what_no_shard_survives_ends_all() -> None:
    there = world(*ACCOUNTS)
    there.always(("repositories", ACCOUNTS[1].account_id, "east", 0), Fatal("ClockWrong", "no"))
    run = Run(there)
    with pytest.raises(BaseExceptionGroup) as caught:
        run.crawl(*ACCOUNTS)
    assert [type(leaf) for leaf in leaves(caught.value)] == [Fatal]


def test_a_failure_leaves_whole_what_was_being_taken() -> None:
    """The copy of a report to a slow reader was cut, in the middle of a line, and had no line in the ledger."""
    run = Run(world(*ACCOUNTS))
    crawl, taking = run.crew.crawl, anyio.Event()
    whole: list[int] = []

    async def failing(shard: Shard) -> Report:
        if shard.accounts[0].account_id == ACCOUNTS[1].account_id:
            await taking.wait()
            raise Fatal("ClockWrong", "no")
        return await crawl(shard)

    async def slowly(report: Report) -> None:
        taking.set()
        await anyio.wait_all_tasks_blocked()  # by then the failure has ended all else
        await run._take(report)
        whole.append(report.number)

    run.crew.crawl = failing  # type: ignore[method-assign]  # a fake in its place
    run.dispatch._take = slowly
    with pytest.raises(BaseExceptionGroup):
        run.crawl(*ACCOUNTS)
    assert whole
    assert run.ledger.totals.rows == len(run.rows) == sum(line["rows"] for line in run.lines)
    assert {line["registryId"] for line in run.lines} == {account.account_id for account in ACCOUNTS}


def test_what_nobody_takes_in_time_has_its_lines() -> None:
    """As when standard output is not read: what was listed is told, and is no success."""
    run = Run(world(*ACCOUNTS))

    async def never(report: Report) -> None:
        assert report.rows
        with report.rows:
            await anyio.sleep_forever()

    run.dispatch._take = never

    async def main() -> None:
        with anyio.move_on_after(0.5):  # what a run has left for its end
            async with run.dispatch.running():
                with anyio.move_on_after(0.2):
                    await run.dispatch.accounts(ACCOUNTS)

    anyio.run(main)
    assert {line["registryId"] for line in run.lines} == {account.account_id for account in ACCOUNTS}
    listed = [line for line in run.lines if line["code"] != "NotReached"]
    begun = len({line["registryId"] for line in listed})
    outcomes = Counter((line["repositoryName"] is None, line["outcome"], line["code"]) for line in listed)
    assert outcomes == {(True, "OK", None): begun, (False, "FAILED", "NotWritten"): 2 * begun}
    totals = run.ledger.totals
    assert begun
    assert totals.requests == totals.pages == sum(line["pages"] for line in run.lines) > 0
    assert totals.repositories == {Outcome.FAILED: 2 * begun}
    assert totals.stopped == len(ACCOUNTS) - begun == len(run.lines) - len(listed)
    assert {failure.first.code for failure in run.ledger.failures} == {"NotWritten"}


def test_a_stop_leaves_no_account_without_a_line() -> None:
    """Those that were under way tell what they have, or have a line of their own; those that were not begun, too."""
    there = world(*ACCOUNTS)
    for account in ACCOUNTS:
        there.always(("repositories", account.account_id, "east", 0), HANG)
    run = Run(there, Settings(accounts="", timeout=3600))

    async def main() -> None:
        async with run.dispatch.running():
            with anyio.move_on_after(0.2):
                await run.dispatch.accounts(ACCOUNTS)

    anyio.run(main)
    assert Counter(line["registryId"] for line in run.lines) == Counter(account.account_id for account in ACCOUNTS)
    assert run.ledger.totals.stopped == len(ACCOUNTS)


def test_who_does_not_tell_in_time_what_it_has_is_not_waited_for() -> None:
    """As a worker that hangs when the run is stopped."""
    stuck = Run(world(*ACCOUNTS))

    async def never(_: Shard) -> Report:
        await anyio.sleep_forever()
        raise AssertionError

    stuck.crew.crawl = stuck.crew.stop = never

    async def main() -> None:
        started = anyio.current_time()
        async with stuck.dispatch.running():
            with anyio.move_on_after(1):
                await stuck.dispatch.accounts(ACCOUNTS)
            assert anyio.current_time() - started == 1 + LAST_REPORT

    run(main)
    assert Counter(line["registryId"] for line in stuck.lines) == Counter(account.account_id for account in ACCOUNTS)


def test_globs_that_match_nowhere_are_told_apart_from_those_that_match_in_one_shard() -> None:
    settings = Settings(accounts="", repository=("a", "nowhere"))
    run = Run(world(*ACCOUNTS), settings).crawl(*ACCOUNTS)
    assert run.dispatch.repositories.globs == {"nowhere"}


def test_long_accounts_come_first_and_alone() -> None:
    hints = Hints()
    seconds = {"000000000003": 50.0, "000000000005": 100.0}
    hints.seconds = lambda account: seconds.get(account.account_id, 0.0)  # type: ignore[method-assign]  # a fake in its place
    many = [Account(f"{number:012}") for number in range(1, 1001)]
    groups = [group.accounts for group in cut(many, hints, 2)]
    assert [group[0].account_id for group in groups[:2]] == ["000000000005", "000000000003"]
    assert [len(group) for group in groups[:2]] == [1, 1]
    assert sorted(account.account_id for group in groups for account in group) == [one.account_id for one in many]
    assert max(map(len, groups)) == size_of(1000, 2) == 7


@pytest.mark.parametrize(("accounts", "workers", "size"), [(1, 8, 1), (SHARES * 2 * 3, 2, 3), (10**6, 4, MOST)])
def test_shards_are_many_more_than_workers(accounts: int, workers: int, size: int) -> None:
    assert size_of(accounts, workers) == size


def test_a_listing_is_cut_as_it_comes() -> None:
    async def listing() -> AsyncGenerator[Account]:
        for account in ACCOUNTS:
            yield account

    async def main() -> list[int]:
        async with aclosing(cut_listed(listing(), Hints(), 2, [])) as groups:
            return [len(group.accounts) async for group in groups]

    assert anyio.run(main) == [1] * len(ACCOUNTS)


def test_a_piece_of_an_account_is_told_what_is_held_of_its_own_regions() -> None:
    account = ACCOUNTS[0]
    run = Run(world(account))
    targets = [Target(account, region, account.account_id) for region in ("east", "west")]
    held = frozenset((account.account_id, account.account_id, region, None) for region in ("east", "south"))
    piece = run.dispatch._piece(account, {"east": True, "west": True}, targets, held)
    assert piece.held == {(account.account_id, account.account_id, "east", None)}
    assert [unit.region for unit in run.dispatch._units(piece)] == ["west"]
