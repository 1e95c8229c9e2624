"""One run, wired: settings in, exit code out."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import cast

import anyio
from rich.console import Console

from crawler import __version__
from crawler.accounts import AccountsFile, Selection, load, select
from crawler.aws import AwsRegistries
from crawler.crawl import Crawl, Filter, Limits
from crawler.engines.local import Stop
from crawler.errors import CrawlError, Fatal, ReaderGone, UsageError
from crawler.ledger import Ledger
from crawler.model import Account, ImageStatus, Outcome, TagStatus
from crawler.progress import progress
from crawler.report import Ending, Terminal, as_json, printable, summarize
from crawler.retry import RetryPolicy
from crawler.sinks.ndjson import NdjsonSink
from crawler.sinks.output import Output
from crawler.sinks.writer import Send, writing

logger = logging.getLogger(__name__)

#: Exit codes: the shell's interface, with 128 + signal besides.
COMPLETE, FATAL, USAGE, INCOMPLETE, READER_GONE = 0, 1, 2, 3, 141


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything a run was asked for. Names are the command line's; times in seconds."""

    accounts: str
    account: tuple[str, ...] = ()
    account_tag: tuple[str, ...] = ()
    region: tuple[str, ...] = ()
    repository: tuple[str, ...] = ()
    exclude_repository: tuple[str, ...] = ()
    tag_status: TagStatus = TagStatus.ANY
    image_status: ImageStatus = ImageStatus.ANY
    page_size: int = 1000
    output: str = "-"
    ledger: str | None = None
    report: str | None = None
    tolerate: frozenset[Outcome] = frozenset()
    targets_at_once: int = 32
    requests_per_target: int = 8
    max_rps: float | None = None
    timeout: float = 60.0
    attempts: int = 20
    page_timeout: float = 900.0
    target_timeout: float = 6 * 3600.0
    quiet: bool = False

    def limits(self) -> Limits:
        """Bounds of the crawl."""
        return Limits(
            targets_at_once=self.targets_at_once,
            requests_per_target=self.requests_per_target,
            max_rps=self.max_rps,
            attempt_seconds=self.timeout,
            target_seconds=self.target_timeout,
        )

    def policy(self) -> RetryPolicy:
        """When and how often to try again."""
        return RetryPolicy(attempts=self.attempts, seconds=self.page_timeout)

    def filter(self) -> Filter:
        """Regions and repositories that are wanted."""
        return Filter(self.region, self.repository, self.exclude_repository)


def start(settings: Settings) -> int:
    """Run to the end and return the exit code. Raises `UsageError` before anything was asked of AWS."""
    return anyio.run(run, settings, backend_options={"use_uvloop": find_spec("uvloop") is not None})


async def run(settings: Settings) -> int:
    """Crawl as `settings` say; publish the files; print the summary."""
    file = _read(settings)
    console = Terminal()
    for warning in file.warnings:
        logger.warning(printable(warning))
    started = datetime.now(UTC)
    stop, ledger = Stop(), Ledger()
    with ExitStack() as files:
        # All are opened before the first request: what cannot be written shall not cost a night.
        output = files.enter_context(Output(settings.output))
        ledger_file = files.enter_context(Output(settings.ledger)) if settings.ledger else None
        report_file = files.enter_context(Output(settings.report)) if settings.report else None
        failure = await _crawl(settings, file, output, ledger_file, stop=stop, ledger=ledger, console=console)
        verdict = partial(_verdict, settings, stop, ledger)
        if verdict(failure)[1] in (COMPLETE, INCOMPLETE):
            failure = _publish(output)
        if ledger_file:
            failure = _publish(ledger_file) or failure
        ending = Ending(*verdict(failure), started, datetime.now(UTC))
        if report_file:
            text = as_json(ledger, ending, version=__version__, settings=_shown(settings))
            failure = _publish(report_file, text) or failure
            ending = Ending(*verdict(failure), started, ending.ended)
    if not settings.quiet and ending.exit_code != READER_GONE:
        with suppress(OSError):  # a terminal that went away
            summarize(console, ledger, ending)
    if stop.signal or failure:
        # A look-up or a write may hang in a thread for minutes yet, and the interpreter would wait for it.
        sys.stderr.flush()
        os._exit(ending.exit_code)
    return ending.exit_code


def _publish(file: Output, text: bytes = b"") -> Fatal | None:
    """Let a file appear, after the last of its bytes; tell what was in the way."""
    try:
        file.write(text)
        file.publish()
    except Fatal as failure:
        return failure
    return None


def _read(settings: Settings) -> AccountsFile:
    """Load the accounts file, and of its accounts those that were asked for."""
    try:
        text = sys.stdin.buffer.read() if settings.accounts == "-" else Path(settings.accounts).read_bytes()
    except OSError as error:
        raise UsageError(f"{settings.accounts}: cannot be read: {error.strerror}") from error
    file = load(settings.accounts, text)
    if file.organization:
        return file
    accounts = select(file.accounts, settings.account, settings.account_tag)
    return replace(file, accounts=tuple(_in_regions(account, settings.region) for account in accounts))


async def _crawl(
    settings: Settings,
    file: AccountsFile,
    output: Output,
    ledger_file: Output | None,
    *,
    stop: Stop,
    ledger: Ledger,
    console: Console,
) -> Fatal | None:
    """Crawl to the end, to the first signal, or to what nothing survives, which is returned. A bug is raised."""
    try:
        async with (
            stop.listening(),
            # The ledger's writer outlives that of the rows: it has to tell how those ended.
            _lines(ledger_file) as ledger.send,
            writing(output.write) as send_rows,
            progress(ledger, console, quiet=settings.quiet),
            AwsRegistries(
                policy=settings.policy(),
                page_size=settings.page_size,
                tag_status=settings.tag_status,
                image_status=settings.image_status,
                attempt_timeout=settings.timeout,
                pool_limit=settings.targets_at_once * settings.requests_per_target,
            ) as registries,
        ):
            crawl = Crawl(
                registries,
                NdjsonSink(send_rows),
                ledger,
                limits=settings.limits(),
                policy=settings.policy(),
                wanted=settings.filter(),
            )
            await stop.run(partial(_all, crawl, settings, file))
    except (CrawlError, BaseExceptionGroup) as error:
        failure = _fatal(error)
        if failure is None:
            raise
        return failure
    return None


async def _all(crawl: Crawl, settings: Settings, file: AccountsFile) -> None:
    if file.organization:
        # The pattern of all members, so that --region holds for each.
        organization = replace(file.organization, member=_in_regions(file.organization.member, settings.region))
        await crawl.organization(organization, Selection(settings.account, settings.account_tag).selects)
    else:
        await crawl.accounts(file.accounts)


def _in_regions(account: Account, regions: tuple[str, ...]) -> Account:
    """Take plain --region names at their word where the account says `all`: nothing is left to ask AWS."""
    plain = regions and not any(set(region) & set("*?[") for region in regions)
    return replace(account, regions=regions) if plain and account.regions == ("all",) else account


@asynccontextmanager
async def _lines(file: Output | None) -> AsyncGenerator[Send | None]:
    if file is None:
        yield None
        return
    async with writing(file.write) as send:
        yield send


def _fatal(error: BaseException) -> Fatal | None:
    """Find the one reason among the errors of a group, if all are expected ones; a reader that has gone comes first."""
    leaves = list(_leaves(error))
    fatal = [leaf for leaf in leaves if isinstance(leaf, Fatal)]
    if len(fatal) < len(leaves):
        return None
    return next((leaf for leaf in fatal if isinstance(leaf, ReaderGone)), fatal[0])


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in cast("BaseExceptionGroup[BaseException]", error).exceptions:
            yield from _leaves(inner)
    else:
        yield error


def _verdict(settings: Settings, stop: Stop, ledger: Ledger, failure: Fatal | None) -> tuple[str, int, str | None]:
    """Status, exit code and reason."""
    if failure:
        gone = isinstance(failure, ReaderGone)
        return ("interrupted", READER_GONE, str(failure)) if gone else ("failed", FATAL, str(failure))
    if stop.signal:
        unwritten = "; rows that their reader did not take are lost" if stop.cut_short else ""
        return "interrupted", 128 + stop.signal, f"{stop.signal.name} received{unwritten}"
    if not ledger.totals.targets:
        return "failed", USAGE, "nothing to crawl: no account or region matches what was asked for"
    if ledger.incomplete(settings.tolerate):
        return "incomplete", INCOMPLETE, None
    if tolerated := ledger.incomplete():
        return "tolerated", COMPLETE, f"{tolerated:,} units are missing, whose outcomes --tolerate names"
    return "complete", COMPLETE, None


def _shown(settings: Settings) -> dict[str, object]:
    """The settings as the report has them. None is a secret."""
    tolerated = [outcome.value for outcome in Outcome if outcome in settings.tolerate]
    return {**asdict(settings), "tolerate": tolerated}
