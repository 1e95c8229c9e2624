"""One run, wired: settings in, exit code out."""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, ExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING

import anyio
from anyio import to_thread
from rich.console import Console

from crawler import __version__, log_context
from crawler.accounts import AccountsFile, read_accounts, selected
from crawler.aws import known_regions
from crawler.crews import engine_of, machines_of, reach_machines
from crawler.cutting import Shares
from crawler.descriptors import raise_descriptors
from crawler.destination import AlreadyPublished, Destination, StreamDestination
from crawler.engines.local import LAST_LINES, Stop
from crawler.errors import CrawlError, Fatal
from crawler.hints import Hints
from crawler.hints_file import HintsFile
from crawler.ledger import Ledger
from crawler.progress import progress
from crawler.report import Ending, Terminal, as_json, printable, summarize
from crawler.settings import Settings
from crawler.sinks.output import Output
from crawler.sinks.writer import writing
from crawler.standard_error import LAST_WORDS, StandardError, unblocked
from crawler.timeline import RATES_KEPT, Watch
from crawler.verdict import COMPLETE, FATAL, INCOMPLETE, READER_GONE, fatal, verdict_of
from crawler.wiring import crawl_all, hints_of, tell_unmatched

if TYPE_CHECKING:
    from crawler.telemetry import Telemetry

logger = logging.getLogger(__name__)


def start(settings: Settings) -> int:
    """Run to the end and return the exit code. Raises `UsageError` before anything was asked of AWS."""
    # Until the run itself listens. Left to the system, it would end the process where it stands; and one that is the
    # first of its container, whom the kernel sends no such signal unhandled, not at all.
    signal.signal(signal.SIGTERM, _end)
    raise_descriptors()
    # Reading and opening may block (a terminal, a pipe without a reader). Out of the event loop, Ctrl-C ends that.
    settings.agree()
    everything, text = read_accounts(settings.accounts, known_regions())
    file = selected(everything, settings.account, settings.account_tag)
    reach_machines(settings)
    with ExitStack() as files:
        # All are opened before the first request: what cannot be written shall not cost a night.
        place: Callable[[HintsFile], AbstractAsyncContextManager[Destination]]
        if settings.publishes:
            place = partial(_place, settings, text, file)
        else:
            place = partial(_stream, settings, files.enter_context(Output(settings.output)))
        ledger_file = files.enter_context(Output(settings.ledger)) if settings.ledger else None
        report_file = files.enter_context(Output(settings.report)) if settings.report else None
        shown = files.enter_context(unblocked())
        main = partial(
            run, settings, file, place, ledger_file, report_file, hints=hints_of(settings, everything), shown=shown
        )
        gc.freeze()  # what was imported
        return anyio.run(main, backend_options={"use_uvloop": find_spec("uvloop") is not None})


def _end(number: int, _: object) -> None:
    sys.exit(128 + number)


@asynccontextmanager
async def _stream(settings: Settings, output: Output, hints: HintsFile) -> AsyncGenerator[Destination]:  # noqa: ARG001  (the function's that it stands for)
    yield StreamDestination(output, settings.output, settings.rows)


def _place(
    settings: Settings, text: bytes, file: AccountsFile, hints: HintsFile
) -> AbstractAsyncContextManager[Destination]:
    from crawler.publication import Order, publication  # noqa: PLC0415  (its libraries are an extra, and heavy)

    order = Order(
        output=settings.output,
        format=settings.format or "parquet",
        rows=settings.rows,
        run_id=settings.run_id,
        resume=settings.resume,
        settings=settings.selecting(text, file),
        iceberg=settings.iceberg,
        delta=settings.delta,
        publish_partial=settings.publish_partial,
    )
    if settings.share is None:
        return publication(order)
    from crawler.shares import shared_publication  # noqa: PLC0415  (its libraries are an extra)

    plan = Shares(settings.share[1], hints.hints).plan
    return shared_publication(order, settings.share, plan, hints, settings.tolerate)


async def run(
    settings: Settings,
    file: AccountsFile,
    place: Callable[[HintsFile], AbstractAsyncContextManager[Destination]],
    ledger_file: Output | None,
    report_file: Output | None,
    *,
    hints: AbstractAsyncContextManager[HintsFile],
    shown: StandardError | None,
) -> int:
    """Crawl as `settings` say; publish the files; print the summary."""
    try:
        async with hints as remembered, place(remembered) as destination, machines_of(settings):
            code, hangs = await _run(
                settings, file, destination, ledger_file, report_file, hints=remembered, shown=shown
            )
    except AlreadyPublished as found:
        _say(str(found))
        return COMPLETE if found.status in ("complete", "tolerated") else INCOMPLETE
    except (CrawlError, BaseExceptionGroup) as error:  # of the place: what the crawl itself met, `_run` has told
        if failure := fatal(error):
            _say(f"FAILED: {printable(str(failure))}")
            return FATAL
        raise
    if hangs:  # the interpreter would wait for it
        os._exit(code)
    return code


async def _run(
    settings: Settings,
    file: AccountsFile,
    destination: Destination,
    ledger_file: Output | None,
    report_file: Output | None,
    *,
    hints: HintsFile,
    shown: StandardError | None,
) -> tuple[int, bool]:
    """Return the exit code, and whether a look-up or a write may hang in a thread for minutes yet."""
    console = Terminal()
    log_context.begin(destination.run_id)
    for warning in file.warnings:
        logger.warning(printable(warning))
    accounts = "an organization" if file.organization else len(file.accounts)
    logger.info("crawling", extra={"accounts_selected": accounts, **settings.shown()})
    started = datetime.now(UTC)
    telemetry = _telemetry(settings)
    stop, ledger = Stop(), Ledger(tell=telemetry.record if telemetry else None)
    watch = Watch(ledger)
    async with stop.listening():
        failure = await _crawl(
            settings,
            file,
            destination,
            ledger_file,
            stop=stop,
            watch=watch,
            console=console,
            hints=hints.hints,
            telemetry=telemetry,
        )
        verdict = partial(verdict_of, settings, stop, ledger, destination)
        status, code, _ = verdict(failure)
        if ledger_file:
            failure = _publish(ledger_file) or failure
        whole = code in (COMPLETE, INCOMPLETE)
        if whole:
            watch.timeline.rates = hints.hints.slowest(RATES_KEPT)
            failure = await _appear(destination, status, watch, stop) or failure
        # It has ended: a signal that comes now only cuts short what is waited for.
        ending = Ending(*verdict(failure), started, datetime.now(UTC))
        if not settings.share:  # whose hints are those of all shares
            totals = ledger.totals
            with stop.within():
                await hints.publish(totals.pages if whole else None, totals.repositories.total(), totals.rows)
        if report_file:
            text = as_json(ledger, ending, version=__version__, settings=settings.shown())
            if failed := _publish(report_file, text):
                failure = failed
                ending = Ending(*verdict(failed), started, ending.ended)
        # Until here a terminal that nobody reads has held up nothing. The summary is worth a wait: it is not dropped.
        with stop.within(at_least=LAST_WORDS):
            await _drained(shown)
            if ending.exit_code != READER_GONE:
                with suppress(OSError):  # a terminal that went away
                    _conclude(settings, ending, ledger, destination, failure)
            await _drained(shown)
            if telemetry:
                await to_thread.run_sync(telemetry.close, abandon_on_cancel=True)
    return ending.exit_code, bool(stop.signal or failure)


def _conclude(
    settings: Settings, ending: Ending, ledger: Ledger, destination: Destination, failure: Fatal | None
) -> None:
    if settings.quiet:
        if failure:  # quiet, but not wordless
            _say(f"FAILED: {printable(str(failure))}")
        return
    summarize(Terminal(), ledger, ending)
    if said := destination.published():
        _say(said)


def _say(text: str) -> None:
    Terminal().print(text, markup=False, highlight=False, soft_wrap=True)


def _telemetry(settings: Settings) -> Telemetry | None:
    if not settings.otel:
        return None
    from crawler.telemetry import otlp  # noqa: PLC0415  (its libraries are an extra)

    return otlp(settings.rows.operations)


async def _drained(shown: StandardError | None) -> None:
    if shown:
        await shown.drain()


async def _appear(destination: Destination, status: str, watch: Watch, stop: Stop) -> Fatal | None:
    """Let the rows appear, unless a signal comes; tell what was in the way."""
    try:
        with stop.within():
            await stop.run(partial(destination.publish, status, watch.ledger, watch.timeline))
    except (CrawlError, BaseExceptionGroup) as error:
        if failure := fatal(error):
            return failure
        raise
    return None


def _publish(file: Output, text: bytes = b"") -> Fatal | None:
    """Let a file appear, after the last of its bytes; tell what was in the way."""
    try:
        file.write(text)
        file.publish()
    except Fatal as failure:
        return failure
    return None


async def _crawl(
    settings: Settings,
    file: AccountsFile,
    destination: Destination,
    ledger_file: Output | None,
    *,
    stop: Stop,
    watch: Watch,
    console: Console,
    hints: Hints,
    telemetry: Telemetry | None,
) -> Fatal | None:
    """Crawl to the end, to the first signal, or to what nothing survives, which is returned. A bug is raised."""
    ledger = watch.ledger
    known = None if file.organization else len(file.accounts)
    try:
        with stop.within():
            # The ledger's writers outlive that of the rows: they have to tell how those ended.
            async with _lines(ledger, ledger_file, destination):
                with stop.within(spare=LAST_LINES):
                    async with (
                        engine_of(
                            settings, destination, accounts=known or 0, watch=watch, hints=hints, telemetry=telemetry
                        ) as engine,
                        progress(ledger, console, accounts=known, expected=hints.expected, quiet=settings.quiet),
                    ):
                        await destination.recall(ledger.record, hints.learn)
                        ledger.recalled()
                        async with watch.watching():
                            await stop.run(partial(crawl_all, engine, ledger, settings, file))
                        if not stop.signal and not settings.share:  # what one share does not match, another may
                            tell_unmatched(engine, ledger, settings)
    except (CrawlError, BaseExceptionGroup) as error:
        failure = fatal(error)
        if failure is None:
            raise
        return failure
    return None


@asynccontextmanager
async def _lines(ledger: Ledger, file: Output | None, destination: Destination) -> AsyncGenerator[None]:
    """Have the ledger written while the body runs: into its file, and to where the run is kept."""
    async with AsyncExitStack() as writers:
        to_file = await writers.enter_async_context(writing(file.write)) if file else None
        to_store = await writers.enter_async_context(destination.keeping())
        ledger.sends = [send for send in (to_file, to_store) if send]
        yield
