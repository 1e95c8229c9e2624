"""What must be true of every story: it knows the world, and not how the crawl came through it."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from crawler.ledger import line as line_of
from crawler.model import COMPLETE, INTERRUPTED, NOT_REACHED, Outcome
from tests.fakes import place
from tests.simulation.estate import PUSHED, Repository
from tests.simulation.story import LISTED, Attempt, Story
from tests.simulation.world import World

#: Chains that lead nowhere, by what we call them and what their repository is.
CHAINS: dict[str, set[str]] = {
    "RepeatedToken": {"same", "cycle"},
    "RepeatedPage": {"cycle"},
    "EmptyPages": {"empty"},
    "ListingChanged": set(),
}
#: What the time of a target may do to it and its repositories, whatever else is in order.
OUT_OF_TIME = {"TargetTimeout", INTERRUPTED, NOT_REACHED}
#: Seconds that a request may cost though all come one after the other: it stalls, waits to be made again, and its turn.
FOR_EACH = 100.0


def judge(story: Story) -> None:
    """Assert what must be true whatever happened."""
    world = story.world
    for attempt in story.attempts:
        units = {place(line) for line in attempt.lines}
        assert len(units) == len(attempt.lines), "a unit has two lines"
        for line in attempt.lines:
            _judge_line(story, attempt, line)
        _judge_committed(world, attempt)
        if not attempt.killed:
            _judge_units(story, attempt, units)
            _judge_sums(attempt)
        assert attempt.seconds - attempt.began <= FOR_EACH * (attempt.asked + 1), "somebody slept too long"
        if world.temper.calm and not attempt.cut:
            _judge_peace(story, attempt)
    for at, peak in world.peaks.items():
        assert peak <= story.limits.requests_per_target, f"{peak} requests at once in {at}"
    _judge_union(story)


def _judge_units(story: Story, attempt: Attempt, lines: set[tuple[str | None, ...]]) -> None:
    """Every unit that was heard of has its line, and no other has; but for what was held already."""
    world, held = story.world, attempt.sink.held
    known: set[tuple[str | None, ...]] = set()
    for account in world.accounts:
        regions = world.regions_of[account.account_id] if account.account_id in attempt.told_regions else []
        if not regions and not (story.organization and (attempt.cut or attempt.fatal)):
            known.add((account.account_id, None, None))
        known |= {(id_, region, None) for region in regions for id_ in (account.account_id, *account.registries)}
    known |= {(*at, name) for at, names in attempt.told.items() for name in names}
    missing = known - held - lines
    assert not missing, f"without a line: {missing}"
    extra = lines - known - {(None, None, None)} - {(account.account_id, None, None) for account in world.accounts}
    assert not extra, f"lines of what nobody named: {extra}"
    assert not lines & held, "what was held was crawled again"


def _judge_line(story: Story, attempt: Attempt, line: dict[str, Any]) -> None:
    world = story.world
    registry_id, region, name = unit = place(line)
    if name is None:
        if line["outcome"] in LISTED:
            assert region, "an account is no list"
            there = world.places[registry_id, region]  # type: ignore[index]  # such a unit has a region
            told = attempt.told.get((registry_id, region), set())
            assert set(there.repositories) <= told, "names are missing"  # type: ignore[arg-type]  # all have names
            assert not there.disabled
            assert line["outcome"] == ("OK" if there.repositories else "EMPTY")
        if line["outcome"] == "REGION_DISABLED" and region:
            assert world.places[registry_id, region].disabled  # type: ignore[index]  # such a unit has a region
        elif line["outcome"] == "DENIED" and region and not (attempt.cut or attempt.fatal):
            _judge_denial(world, attempt, line)
    else:
        _judge_repository(world, attempt, line, unit)
    if line["outcome"] in LISTED:
        assert line["code"] is None
    else:
        _judge_end(story, attempt, line)


def _judge_end(story: Story, attempt: Attempt, line: dict[str, Any]) -> None:
    """What is not listed whole has a reason that no patience would have helped."""
    registry_id, region, name = unit = place(line)
    outcome, code = line["outcome"], line["code"]
    stopped = attempt.cut or attempt.fatal
    if code in (INTERRUPTED, NOT_REACHED):
        # A target takes its repositories along, when its time is over or its list breaks off.
        assert stopped or (name and outcomes(attempt)[registry_id, region, None] not in LISTED), (
            f"{line}: who stopped it?"
        )
    elif code == "TargetTimeout":
        assert name is None
        assert line["seconds"] >= story.limits.target_seconds, "it had more time"
    elif code in CHAINS:
        _judge_chain(story.world, attempt, line)
    elif outcome == "REGION_DISABLED" and region is None:
        assert not story.world.regions_of[registry_id]  # type: ignore[index]  # such a unit has a region
    else:
        ends = attempt.ends.get(unit, set()) | _of_keys(attempt, registry_id)  # type: ignore[call-overload]  # it has all three
        if outcome == "REGION_DISABLED":
            outcome = "DENIED"  # it is what the region said; which of the two it is another one tells
        assert (outcome, code) in ends, f"{line} could have been had"


def outcomes(attempt: Attempt) -> dict[tuple[str | None, ...], str]:
    return {place(line): line["outcome"] for line in attempt.lines}


def _judge_denial(world: World, attempt: Attempt, line: dict[str, Any]) -> None:
    """A region that is not enabled denies nothing, if another of the account has answered and answers once more."""
    registry_id, region, _ = place(line)
    if not world.places[registry_id, region].disabled or world.temper.stall:  # type: ignore[index]  # such a unit has a region
        return  # who stalls once more may have no time to be asked again
    of_account = {f"{first}{registry_id[1:]}" for first in "09"}  # type: ignore[index]  # such a unit has a region
    listed = {unit for unit, outcome in outcomes(attempt).items() if unit[1] and not unit[2] and outcome in LISTED}
    witnesses = {unit for unit in listed if unit[0] in of_account}
    assert witnesses <= attempt.troubled, "another region knew these keys"


def _of_keys(attempt: Attempt, registry_id: str | None) -> set[tuple[Outcome, str]]:
    """Ends of the keys of an account, which end whatever needs them."""
    ends = attempt.ends.get((f"0{registry_id[1:]}", None, None), set()) if registry_id else set()
    return {(Outcome.FAILED if outcome is Outcome.THROTTLED else outcome, code) for outcome, code in ends}


def _judge_chain(world: World, attempt: Attempt, line: dict[str, Any]) -> None:
    registry_id, region, name = place(line)
    there = world.places[registry_id, region].repositories[name]  # type: ignore[index]  # such a unit has a region
    if line["code"] == "ListingChanged":
        assert line["restarts"], "it was not listed anew"
        assert there.pushed_at <= attempt.seconds, "it did not change"
    else:
        assert there.odd in CHAINS[line["code"]]


def _judge_peace(story: Story, attempt: Attempt) -> None:
    """Where nothing is amiss all is there, and soon: each request after the other, and each no faster than allowed."""
    limits, temper = story.limits, story.world.temper
    for line in attempt.lines:
        assert Outcome(line["outcome"]) in COMPLETE or line["code"] in OUT_OF_TIME, f"{line}, in peace"
    seconds = attempt.seconds - attempt.began
    assert seconds <= attempt.asked * (temper.latency + 1 / (limits.max_rps or 30.0)) + 3 * story.slow, (
        "what took so long?"
    )


def _judge_repository(world: World, attempt: Attempt, line: dict[str, Any], unit: tuple[str | None, ...]) -> None:
    there = world.places[unit[0], unit[1]].repositories.get(unit[2]) or Repository([[]], deleted_at=0.0)  # type: ignore[index,arg-type]  # such a unit has all three
    rows, truth = attempt.of(unit), there.images()
    grown = truth + Counter({(PUSHED, None): 1}) if there.pushed_at <= attempt.seconds else truth
    assert set(rows) <= set(grown), "rows that nobody has"
    if not there.odd or grown == truth:  # a page that has grown is not known again in a cycle
        assert rows <= grown, "a row twice"
    if line["outcome"] in LISTED:
        assert not there.odd or (there.odd == "same" and len(there.pages) == 1), "called listed, and never ends"
        assert truth <= rows, f"called {line['outcome']}, and rows are missing"
        assert line["rows"] == rows.total()
        assert line["outcome"] == ("OK" if rows else "EMPTY")


def _judge_committed(world: World, attempt: Attempt) -> None:
    """At whatever moment it ended: what counts is there, to the last row."""
    for result in attempt.sink.committed:
        told = json.loads(line_of(result))
        assert told["outcome"] in LISTED
        _judge_repository(world, attempt, told, place(told))


def _judge_sums(attempt: Attempt) -> None:
    lines, totals = attempt.lines, attempt.ledger.totals
    assert totals.rows == sum(line["rows"] for line in lines)
    assert totals.pages == sum(line["pages"] for line in lines)
    assert totals.requests == sum(line["attempts"] for line in lines)
    assert totals.throttled == sum(line["throttled"] for line in lines)
    assert totals.outcomes() == Counter(Outcome(line["outcome"]) for line in lines)
    assert attempt.ledger.incomplete() == sum(Outcome(line["outcome"]) not in COMPLETE for line in lines)
    assert totals.stopped == sum(line["code"] in (INTERRUPTED, NOT_REACHED) for line in lines)
    if attempt.cut or attempt.fatal:
        assert attempt.ledger.incomplete(), "stopped, and called complete"
    for line in lines:
        assert line["attempts"] >= line["pages"]
    done = {(u.registry_id, u.region, u.repository) for u in (result.unit for result in attempt.sink.committed)}
    assert done == {place(line) for line in lines if line["repositoryName"] and line["outcome"] in LISTED}
    assert len(done) == len(attempt.sink.committed)


def _judge_union(story: Story) -> None:
    """Committed rows of all attempts together: each repository once, and whole."""
    seen: Counter[tuple[str | None, ...]] = Counter()
    for attempt in story.attempts:
        for result in attempt.sink.committed:
            seen[result.unit.registry_id, result.unit.region, result.unit.repository] += 1
    assert not seen or max(seen.values()) == 1, "a repository was committed twice"
    last = story.attempts[-1]
    if not last.ledger.incomplete():
        for at, region in story.world.places.items():
            for name, repository in region.repositories.items():
                gone = repository.deleted_at <= last.seconds or region.disabled
                assert seen[*at, name] or gone, f"complete, without {name}"
