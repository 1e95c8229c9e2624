"""For any world, any faults that pass and any that last: the rows and the ledger are right."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from crawler.crawl import Limits
from crawler.errors import CrawlError, Denied, KeysExpired, KeysUnknown, Throttled
from crawler.model import Account, Outcome
from crawler.retry import RetryPolicy
from tests.core.strategies import failures, schedules, spots, worlds
from tests.fakes import Rehearsal, Row, Spot, Step, Tree, World

ACCOUNTS = (Account("1" * 12), Account("2" * 12))
WORLDS = worlds([account.account_id for account in ACCOUNTS])
LIMITS = st.builds(Limits, targets_at_once=st.integers(1, 3), requests_per_target=st.integers(1, 3))


def crawled(world: World, limits: Limits, policy: RetryPolicy | None = None) -> Rehearsal:
    rehearsal = Rehearsal(world, limits=limits)
    if policy:
        rehearsal.policy = policy
    rehearsal.of(*ACCOUNTS)
    assert world.peak <= limits.targets_at_once * limits.requests_per_target
    assert max(world.peaks.values(), default=0) <= limits.requests_per_target
    return rehearsal


def check_chain(line: dict[str, object], steps: dict[Spot, list[Step]], at: Spot, pages: list[list[object]]) -> None:
    """Check the counts of one chain that came to its end, against its steps."""
    faults = [step for index in range(len(pages)) for step in steps.get((*at, index), [])]
    items = sum(map(len, pages))
    assert line["outcome"] == ("OK" if items else "EMPTY")
    assert line["pages"] == len(pages)
    assert line["attempts"] == len(pages) + len(faults)
    assert line["throttled"] == sum(isinstance(fault, Throttled) for fault in faults)
    assert line["restarts"] == 0
    assert line["code"] is line["message"] is None
    assert line["rows" if line["repositoryName"] else "repositories"] == items


@settings(max_examples=120)
@given(data=st.data(), trees=WORLDS, limits=LIMITS)
def test_rows_equal_the_tree_under_any_faults_that_pass(
    data: st.DataObject, trees: dict[tuple[str, str], Tree], limits: Limits
) -> None:
    world = World(trees)
    steps = data.draw(schedules(world))
    for spot, planned in steps.items():
        world.will(spot, *planned)
    rehearsal = crawled(world, limits)

    assert rehearsal.rows == world.rows()
    assert set(rehearsal.outcomes()) == rehearsal.known(*ACCOUNTS) | {
        (account.account_id, None, None)
        for account in ACCOUNTS
        if not any(registry_id == account.account_id for registry_id, _ in trees)
    }
    for at, tree in trees.items():
        check_chain(rehearsal.line(*at), steps, ("repositories", *at), tree.names)
        for name, pages in tree.images.items():
            check_chain(rehearsal.line(*at, name), steps, ("images", *at, name), pages)
    totals = rehearsal.ledger.totals
    assert totals.rows == world.rows().total()
    assert totals.requests == sum(count for spot, count in world.calls.items() if spot[0] != "regions")
    assert totals.pages == len(list(spots(trees)))
    assert rehearsal.ledger.incomplete() == 0
    chains = [tokens for tokens in world.tokens.values() if tokens]
    assert all(tokens[0] is None for tokens in chains)


def _doubtful(expected: Expected, account_id: str) -> bool:
    return any(unit[0] == account_id and outcome == "REGION_DISABLED" for unit, outcome in expected.outcomes.items())


@dataclass
class Expected:
    """What must come of a world with faults that last: worked out without any concurrency."""

    world: World
    faults: dict[Spot, CrawlError]

    def __post_init__(self) -> None:
        self.rows: Counter[Row] = Counter()
        self.outcomes: dict[tuple[str | None, ...], str] = {}
        for account in ACCOUNTS:
            places = [place for place in self.world.trees if place[0] == account.account_id]
            if not places:
                self.outcomes[account.account_id, None, None] = "REGION_DISABLED"
            for place in places:
                self._target(place, answered=any(self._knows_keys(other) for other in places))

    def _first(self, at: Spot, pages: int) -> tuple[int, CrawlError | None]:
        """How many pages are answered, and the error after them."""
        found = ((index, self.faults.get((*at, index))) for index in range(pages))
        return next(((index, error) for index, error in found if error), (pages, None))

    def _knows_keys(self, place: tuple[str, ...]) -> bool:
        error = self.faults.get(("repositories", *place, 0))
        return error is None or (isinstance(error, Denied) and not isinstance(error, KeysUnknown | KeysExpired))

    def _target(self, place: tuple[str, ...], *, answered: bool) -> None:
        tree = self.world.trees[place]
        listed, error = self._first(("repositories", *place), len(tree.names))
        names = [name for page in tree.names[:listed] for name in page]
        outcome = error.outcome if error else (Outcome.OK if names else Outcome.EMPTY)
        if isinstance(error, KeysUnknown) and listed == 0 and answered:
            outcome = Outcome.REGION_DISABLED
        self.outcomes[*place, None] = Outcome.FAILED if outcome is Outcome.GONE else outcome
        for name in names:
            pages = tree.images[name]
            came, error = self._first(("images", *place, name), len(pages))
            rows = [row for page in pages[:came] for row in page]
            self.rows.update((*place, name, row["imageDigest"], row.get("imageTag")) for row in rows)  # type: ignore[misc]  # another shape would fail the comparison
            self.outcomes[*place, name] = error.outcome if error else (Outcome.OK if rows else Outcome.EMPTY)


@settings(max_examples=200)
@given(data=st.data(), trees=WORLDS, limits=LIMITS)
def test_faults_that_last_end_their_unit_and_no_other(
    data: st.DataObject, trees: dict[tuple[str, str], Tree], limits: Limits
) -> None:
    world = World(trees)
    faults = data.draw(failures(world))
    for spot, error in faults.items():
        world.always(spot, error)
    expected = Expected(world, faults)
    rehearsal = crawled(world, limits, RetryPolicy(attempts=3))

    assert rehearsal.outcomes() == expected.outcomes
    assert rehearsal.rows == expected.rows
    for spot, error in faults.items():
        if spot in world.calls:
            # Who knows the keys is asked once more where another does not.
            again = spot[0] == "repositories" and spot[-1] == 0 and _doubtful(expected, str(spot[1]))
            assert world.calls[spot] in ({1, 2} if again else {3 if error.retryable else 1})
    for line in rehearsal.lines:
        if line["outcome"] in ("OK", "EMPTY"):
            assert line["code"] is None
            assert line["attempts"] == line["pages"]
