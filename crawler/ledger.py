"""What happened to each unit: one line, one outcome; and the sums that the summary and the exit code rest on."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

import anyio

from crawler.model import COMPLETE, INTERRUPTED, NOT_REACHED, Account, Chain, Outcome, Result, Unit
from crawler.rows import from_json, to_line
from crawler.wording import counted

logger = logging.getLogger(__name__)

Send = Callable[[bytes], Awaitable[None]]

#: Code of a repository that was listed to the end, and whose rows did not reach the output.
NOT_WRITTEN = "NotWritten"

#: Causes of failure kept in memory for the summary; the ledger file has a line for each unit.
FAILURES_KEPT = 100

#: Seconds that a line may take on its way into the file once the run is being stopped.
LAST_WORDS = 0.5


@dataclass(slots=True)
class Totals:
    """Sums over all units recorded so far.

    `requests` counts attempts, so `requests - pages` failed. `listed` counts names of repositories, wanted or not;
    `stopped` the units that a stop left behind, which `Ledger.failures` leaves out: they have failed at nothing.
    `accounts` counts those that have ended with all of their units.
    """

    targets: Counter[Outcome] = field(default_factory=Counter[Outcome])
    repositories: Counter[Outcome] = field(default_factory=Counter[Outcome])
    listed: int = 0
    rows: int = 0
    pages: int = 0
    requests: int = 0
    throttled: int = 0
    restarts: int = 0
    stopped: int = 0
    accounts: int = 0

    def outcomes(self) -> Counter[Outcome]:
        """Units of both kinds by outcome."""
        return self.targets + self.repositories

    def add(self, other: Totals) -> None:
        """Count in the sums of other units."""
        self.targets += other.targets
        self.repositories += other.repositories
        self.listed += other.listed
        self.rows += other.rows
        self.pages += other.pages
        self.requests += other.requests
        self.throttled += other.throttled
        self.restarts += other.restarts
        self.stopped += other.stopped
        self.accounts += other.accounts


def nothing_matches(asked: Mapping[str, Sequence[str]], totals: Totals) -> str | None:
    """Tell what was asked for and exists nowhere: a slip of the pen must not read as an empty company.

    `asked` is what each option was given, as `Settings.asked` has it.
    """
    if not totals.targets:
        options = ("account", "account_tag", "region")
        selected = " ".join(f"--{name.replace('_', '-')} {','.join(asked[name])}" for name in options if asked[name])
        return f"nothing to crawl: no account or region matches {selected or 'the accounts file'}"
    if asked["repository"] and totals.listed and not totals.repositories:
        globs, listed = ",".join(asked["repository"]), counted(totals.listed, "repository")
        return f"--repository {globs} matches none of {listed}; globs match whole names, by case"
    return None


@dataclass(slots=True)
class Failure:
    """What units of one account failed at, in the same words: the first of them, and how many there are.

    A role that is denied fails each region of its account, and is one thing to mend.
    """

    first: Result
    units: int = 1


@dataclass(slots=True)
class Running:
    """A unit that has begun and not ended, `since` when by anyio's clock."""

    unit: Unit
    chain: Chain
    since: float


class Ledger:
    """Takes every result once. Each of `sends` gets each line as bytes, once; without any there are only the sums.

    A send takes a line whole, or nothing of it where it is cancelled. `tell` is called with each result, after it was
    counted and before its line is written. What `keeps` takes to itself is not recorded, but entered later by whoever
    that is. `running` are the units that have begun and not ended, by the id of their
    chain; and those of each worker, as one. `unmatched` are the globs on regions, and those on repositories, that
    matched nothing, once the crawl has come to its end.
    """

    def __init__(self, *sends: Send, tell: Callable[[Result], None] | None = None) -> None:
        self.sends: Sequence[Send] = sends
        self._listener = tell
        self.keeps: Callable[[Result], bool] | None = None
        self.totals = Totals()
        self.running: dict[Hashable, Running] = {}
        self.recalled_pages = self.recalled_rows = 0
        self._failures: dict[Hashable, Failure] = {}
        self.warnings: dict[str, list[str]] = {}
        self.unmatched: tuple[AbstractSet[str], AbstractSet[str]] = (frozenset(), frozenset())

    def fetched(self) -> int:
        """Pages of all units so far, those included that have not ended."""
        return self.totals.pages + sum(chain.pages for chain in self.under_way())

    def under_way(self) -> Iterator[Chain]:
        """The chains that have not ended, and what they are made of."""
        for running in self.running.values():
            yield running.chain
            yield from running.chain.parts

    def recalled(self) -> None:
        """Take note that all that was recorded so far was done by earlier attempts, and not in this one's time."""
        self.recalled_pages, self.recalled_rows = self.totals.pages, self.totals.rows

    def warn(self, message: str, where: str) -> None:
        """See `Warn`. Logged the first time; the places of equal messages are gathered for summary and report."""
        if message not in self.warnings:
            logger.warning(message, extra={"where": where})
        places = self.warnings.setdefault(message, [])
        if where not in places:
            places.append(where)

    async def record(self, result: Result) -> None:
        """Count the result and write its line. Works inside a cancelled scope too: an interrupted unit has its line."""
        if not (self.keeps and self.keeps(result)):
            await self.enter([result])

    async def enter(self, results: Sequence[Result]) -> None:
        """Do so for several at once, whether they were kept or not."""
        for result in results:
            self._count(result)
        if results and self.sends:
            text = b"".join(map(line, results))
            for send in self.sends:
                await _surely(send, text)

    def _count(self, result: Result) -> None:
        totals = self.totals
        if result.unit.repository is None:
            totals.targets[result.outcome] += 1
            totals.listed += result.chain.items
        else:
            totals.repositories[result.outcome] += 1
            totals.rows += result.chain.items
        totals.pages += result.chain.pages
        totals.requests += result.chain.attempts
        totals.throttled += result.chain.throttled
        totals.restarts += result.chain.restarts
        if _stopped(result):
            totals.stopped += 1
        elif result.outcome not in COMPLETE:
            self._keep(result)
        if self._listener:
            self._listener(result)
        _tell(result)

    async def join(self, totals: Totals, lines: bytes, left: Iterable[Result]) -> None:
        """Count in what another ledger has recorded: its sums and its lines; and, for the failures, what is `left`."""
        self.totals.add(totals)
        for result in left:
            if result.outcome not in COMPLETE and not _stopped(result):
                self._keep(result)
        if lines:
            for send in self.sends:
                await _surely(send, lines)

    def _keep(self, result: Result) -> None:
        account = result.unit.account
        cause = account and account.account_id, result.outcome, result.code, _without_place(result)
        if cause in self._failures:
            self._failures[cause].units += 1
        elif len(self._failures) < FAILURES_KEPT:
            self._failures[cause] = Failure(result)

    @property
    def failures(self) -> Sequence[Failure]:
        """The first causes of failure, in the order in which they came up."""
        return tuple(self._failures.values())

    def incomplete(self, tolerated: AbstractSet[Outcome] = frozenset()) -> int:
        """How many units leave something out that was not tolerated."""
        fine = COMPLETE | tolerated
        return sum(count for outcome, count in self.totals.outcomes().items() if outcome not in fine)


def _without_place(result: Result) -> str | None:
    """The message but for where it happened: the same refusal in each region of an account is one cause."""
    message = result.message
    for name in (result.unit.repository, result.unit.region, result.unit.registry_id):
        message = message.replace(name, "…") if message and name else message
    return message


def _stopped(result: Result) -> bool:
    return result.code in (INTERRUPTED, NOT_REACHED)


async def _surely(send: Send, text: bytes) -> None:
    with anyio.move_on_after(LAST_WORDS, shield=True):
        await send(text)
        return
    # A slow disk, or a run being stopped: the first waits on here, the second ends here.
    await send(text)


def _tell(result: Result) -> None:
    """Log the result: what is missing and whole targets for `-v`, each repository for `-vv`."""
    minor = result.unit.repository is not None and result.outcome in COMPLETE
    level = logging.DEBUG if minor else logging.INFO
    if logger.isEnabledFor(level):
        told = fields(result)
        reason = told.pop("message")  # a log record has a message of its own, and refuses another
        logger.log(level, "ended", extra=told | {"reason": reason})


def line(result: Result) -> bytes:
    """The result as one line of NDJSON, newline included."""
    return to_line(fields(result))


def fields(result: Result) -> dict[str, object]:
    """The result as a record. Keys and their order are part of the interface."""
    unit, chain = result.unit, result.chain
    return {
        "registryId": unit.registry_id,
        "region": unit.region,
        "repositoryName": unit.repository,
        "outcome": result.outcome,
        "code": result.code,
        "message": result.message,
        "pages": chain.pages,
        # A target's own pages hold repositories; its rows are those of its repositories, each on its own line.
        "rows": chain.items if unit.repository is not None else 0,
        "repositories": chain.items if unit.repository is None else None,
        "attempts": chain.attempts,
        "throttled": chain.throttled,
        "restarts": chain.restarts,
        "seconds": round(result.seconds, 3),
        "lastTokenHash": chain.last_token_hash,
        "accountId": unit.account.account_id if unit.account else None,
        "accountName": (unit.account.name or None) if unit.account else None,
    }


def parse(data: bytes) -> Result:
    """A line of the ledger as the result that it was made from; of the account, its id and name are left."""
    told = from_json(data)
    account = Account(told["accountId"], told["accountName"] or "") if told["accountId"] else None
    repository = told["repositoryName"]
    chain = Chain(
        pages=told["pages"],
        items=told["rows"] if repository is not None else told["repositories"],
        attempts=told["attempts"],
        throttled=told["throttled"],
        last_token_hash=told["lastTokenHash"],
        restarts=told["restarts"],
    )
    unit = Unit(account, told["registryId"], told["region"], repository)
    return Result(unit, Outcome(told["outcome"]), told["code"], told["message"], chain, told["seconds"])
