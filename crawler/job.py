"""One run, wired: settings in, exit code out."""

from __future__ import annotations

import gc
import logging
import math
import os
import resource
import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import cast

import anyio
from rich.console import Console

from crawler import __version__
from crawler.accounts import MAX_BYTES, AccountsFile, Selection, load, select
from crawler.aws import AwsRegistries
from crawler.crawl import Crawl
from crawler.engines.local import Stop
from crawler.errors import CrawlError, Fatal, ReaderGone, UsageError
from crawler.ledger import Ledger
from crawler.model import Account, Outcome, Result, Unit
from crawler.progress import progress
from crawler.report import Ending, Terminal, as_json, printable, summarize
from crawler.settings import Settings
from crawler.sinks.ndjson import NdjsonSink
from crawler.sinks.output import Output
from crawler.sinks.writer import Send, writing
from crawler.standard_error import LAST_WORDS, StandardError, unblocked

logger = logging.getLogger(__name__)

#: Exit codes: the shell's interface, with 128 + signal besides.
COMPLETE, FATAL, USAGE, INCOMPLETE, READER_GONE = 0, 1, 2, 3, 141


def start(settings: Settings) -> int:
    """Run to the end and return the exit code. Raises `UsageError` before anything was asked of AWS."""
    _raise_descriptors()
    # Reading and opening may block (a terminal, a pipe without a reader). Out of the event loop, Ctrl-C ends that.
    file = _read(settings)
    with ExitStack() as files:
        # All are opened before the first request: what cannot be written shall not cost a night.
        output = files.enter_context(Output(settings.output))
        ledger_file = files.enter_context(Output(settings.ledger)) if settings.ledger else None
        report_file = files.enter_context(Output(settings.report)) if settings.report else None
        shown = files.enter_context(unblocked())
        main = partial(run, settings, file, output, ledger_file, report_file, shown=shown)
        # A page is a thousand dictionaries that die young and in no cycle: the collector need not look at each page.
        gc.freeze()
        gc.set_threshold(100_000)
        return anyio.run(main, backend_options={"use_uvloop": find_spec("uvloop") is not None})


def _raise_descriptors() -> None:
    """Ask for as many open files as the system allows: each connection is one, and 1,024 is a usual default."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # some systems call no limit a number that they do not take back
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


async def run(
    settings: Settings,
    file: AccountsFile,
    output: Output,
    ledger_file: Output | None,
    report_file: Output | None,
    *,
    shown: StandardError | None,
) -> int:
    """Crawl as `settings` say; publish the files; print the summary."""
    console = Terminal()
    for warning in file.warnings:
        logger.warning(printable(warning))
    accounts = "an organization" if file.organization else len(file.accounts)
    logger.info("crawling", extra={"accounts_selected": accounts, **settings.shown()})
    started = datetime.now(UTC)
    stop, ledger = Stop(), Ledger()
    failure = await _crawl(settings, file, output, ledger_file, stop=stop, ledger=ledger, console=console)
    verdict = partial(_verdict, settings, stop, ledger)
    if verdict(failure)[1] in (COMPLETE, INCOMPLETE):
        failure = _publish(output)
    if ledger_file:
        failure = _publish(ledger_file) or failure
    ending = Ending(*verdict(failure), started, datetime.now(UTC))
    if report_file:
        text = as_json(ledger, ending, version=__version__, settings=settings.shown())
        failure = _publish(report_file, text) or failure
        ending = Ending(*verdict(failure), started, ending.ended)
    with anyio.move_on_after(LAST_WORDS if stop.signal else math.inf):
        # Until here a terminal that nobody reads has held up nothing. The summary is worth a wait: it is not dropped.
        await _drained(shown)
        if not settings.quiet and ending.exit_code != READER_GONE:
            with suppress(OSError):  # a terminal that went away
                summarize(console, ledger, ending)
        await _drained(shown)
    if stop.signal or failure:
        # A look-up or a write may hang in a thread for minutes yet, and the interpreter would wait for it.
        os._exit(ending.exit_code)
    return ending.exit_code


async def _drained(shown: StandardError | None) -> None:
    if shown:
        await shown.drain()


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
    settings.keep_apart()
    try:
        # One byte more than is allowed tells a file that is too large; the rest of it need not be in memory.
        with sys.stdin.buffer if settings.accounts == "-" else Path(settings.accounts).open("rb") as source:
            text = source.read(MAX_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{settings.accounts}: cannot be read: {error.strerror}") from error
    file = load(settings.accounts, text)
    if file.organization:
        return file
    return replace(file, accounts=select(file.accounts, settings.account, settings.account_tag))


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
                warn=ledger.warn,
                page_size=settings.page_size,
                tag_status=settings.tag_status,
                image_status=settings.image_status,
                attempt_timeout=settings.timeout,
                pool_limit=settings.targets_at_once * settings.requests_per_target,
                rate_share=settings.rate_share,
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
            await stop.run(partial(_all, crawl, ledger, settings, file))
            if not stop.signal:
                _tell_unmatched(crawl, ledger, settings)
    except (CrawlError, BaseExceptionGroup) as error:
        failure = _fatal(error)
        if failure is None:
            raise
        return failure
    return None


async def _all(crawl: Crawl, ledger: Ledger, settings: Settings, file: AccountsFile) -> None:
    if not file.organization:
        await crawl.accounts(file.accounts)
        return
    unmatched = set(settings.account)

    def selects(account: Account) -> bool:
        unmatched.difference_update([name for name in unmatched if Selection([name]).selects(account)])
        return Selection(settings.account, settings.account_tag).selects(account)

    await crawl.organization(file.organization, selects)
    for name in sorted(unmatched):
        # In a file this is known before the crawl; here it is what the crawl could not find.
        message = f"--account {name}: no active account of the organization has this id or name"
        await ledger.record(Result(Unit(), Outcome.FAILED, "SelectorUnmatched", message))


def _tell_unmatched(crawl: Crawl, ledger: Ledger, settings: Settings) -> None:
    """Warn of what matched nothing, beside what did. Where nothing matched at all, that is the verdict."""
    for given, left, text in (
        (settings.region, crawl.regions, "--region matches no region of these accounts"),
        (settings.repository, crawl.repositories, "--repository matches none that was listed; globs match whole names"),
    ):
        if len(left.globs) < len(set(given)):
            for glob in sorted(left.globs):
                ledger.warn(text, glob)


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
        if stop.cut_short:
            rest = "; rows that their reader did not take are lost"
        else:
            rest = f"; the rows so far are in {settings.output}.partial" if settings.output != "-" else ""
        return "interrupted", 128 + stop.signal, f"{stop.signal.name} received{rest}"
    if nothing := _nothing_matches(settings, ledger):
        return "failed", USAGE, nothing
    if missing := ledger.incomplete(settings.tolerate):
        return "incomplete", INCOMPLETE, f"{_units(missing)} missing, exit code {INCOMPLETE}"
    if tolerated := ledger.incomplete():
        return "tolerated", COMPLETE, f"{_units(tolerated)} missing, with outcomes that --tolerate names"
    return "complete", COMPLETE, None


def _nothing_matches(settings: Settings, ledger: Ledger) -> str | None:
    """Tell what was asked for and exists nowhere: a slip of the pen must not read as an empty company."""
    totals = ledger.totals
    if not totals.targets:
        options = {"account": settings.account, "account-tag": settings.account_tag, "region": settings.region}
        selected = " ".join(f"--{name} {','.join(given)}" for name, given in options.items() if given)
        return f"nothing to crawl: no account or region matches {selected or 'the accounts file'}"
    if settings.repository and totals.listed and not totals.repositories:
        globs = ",".join(settings.repository)
        return f"--repository {globs} matches none of {totals.listed:,} repositories; globs match whole names, by case"
    return None


def _units(count: int) -> str:
    return "1 account, target or repository is" if count == 1 else f"{count:,} accounts, targets or repositories are"
