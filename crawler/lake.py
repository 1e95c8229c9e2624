"""The commands on published runs: list, show, compare, clean."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from datetime import timedelta
from typing import Annotated, Literal

import anyio
from cyclopts import Parameter

from crawler.errors import CrawlError, Fatal, UsageError
from crawler.extras import need
from crawler.wording import counted

#: More than a century, and less than what dates can hold.
_MOST_HOURS = 1_000_000

_Output = Annotated[str, Parameter(help="Where runs were published: DIR/ or s3://bucket/prefix/.")]


def runs(*, output: _Output) -> int:
    """List the runs of an output, a line of JSON each."""
    need("lake", "obstore", "pyarrow")
    from crawler.publication import opened  # noqa: PLC0415  (its libraries are an extra, and heavy)
    from crawler.rows import to_line  # noqa: PLC0415  (its libraries are an extra)
    from crawler.runs import catalog  # noqa: PLC0415  (its libraries are an extra)

    async def main() -> None:
        async with opened(output, writes=False) as store, aclosing(catalog.runs(store)) as listed:
            unfit: list[str] = []
            async for run in listed:
                sys.stdout.buffer.write(to_line(run.summary()))
                unfit += [run.unfit] * bool(run.unfit)
        _tell_unfit(unfit)

    return _run(main)


def show(run: Annotated[str, Parameter(help="Id of the run.")], *, output: _Output) -> int:
    """Show one run: its manifest; or, while it is not published, what its newest attempt said when it began."""
    need("lake", "obstore", "pyarrow")
    from crawler.publication import opened  # noqa: PLC0415  (see runs)
    from crawler.runs import catalog, layout  # noqa: PLC0415  (its libraries are an extra)

    async def main() -> None:
        layout.check_run_id(run, "run")
        async with opened(output, writes=False) as store:
            found = await catalog.find(store, run)
        document = found.manifest or found.claim
        if document is None:
            raise UsageError(f"there is no run {run} in {output}; `crawler runs --output {output}` lists all")
        sys.stdout.buffer.write(document.encode())

    return _run(main)


def clean(
    *,
    output: _Output,
    older_than: Annotated[float, Parameter(help="Hours; what is younger may belong to a live run.")] = 24.0,
) -> int:
    """Remove what no reader will ever read: parts of dead attempts, half-written files, stale uploads."""
    if not 0 <= older_than <= _MOST_HOURS:
        raise UsageError(f"--older-than {older_than:g}: write hours, from 0 to {_MOST_HOURS:,}")
    need("lake", "obstore", "pyarrow")
    from crawler.publication import clean_store  # noqa: PLC0415  (see runs)

    async def main() -> None:
        cleaned = await clean_store(output, timedelta(hours=older_than))
        sys.stderr.write(
            f"removed {counted(cleaned.parts, 'part')} that no run names, "
            f"{counted(cleaned.local, 'half-written file')}, {counted(cleaned.uploads, 'stale upload')}\n"
        )
        _tell_unfit(cleaned.unfit)

    return _run(main)


def diff(
    run_a: Annotated[str, Parameter(help="Id of the earlier run.")],
    run_b: Annotated[str, Parameter(help="Id of the later run.")],
    *,
    output: _Output,
    to: Annotated[str, Parameter(allow_leading_hyphen=True, help="File for the changes; - for standard output.")] = "-",
    format: Annotated[Literal["ndjson", "parquet"], Parameter(help="Of the changes.")] = "ndjson",  # noqa: A002  (the option's name)
) -> int:
    """List image IDs added, removed and retagged between two runs, from repositories listed to the end in both."""
    need("lake", "obstore", "pyarrow", "duckdb")
    from crawler.comparison import write_changes  # noqa: PLC0415  (see runs)

    async def main() -> None:
        compared = await write_changes(output, run_a, run_b, to, format)
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in compared.changes.items()) or "no change"
        why = ", for not being listed to the end in both runs, or being in one of them only" if compared.neither else ""
        sys.stderr.write(f"{kinds} in {counted(compared.both, 'repository')}; {compared.neither:,} not compared{why}\n")

    return _run(main)


def report(
    run: Annotated[str, Parameter(help="Id of the run.")],
    *,
    output: _Output,
    to: Annotated[
        str,
        Parameter(name=["--to", "-o"], allow_leading_hyphen=True, help="File for the page; - for standard output."),
    ] = "report.html",
    since: Annotated[
        str | None,
        Parameter(help="Id of the run to compare with; the one before, of the same selection, if not given."),
    ] = None,
) -> int:
    """Draw one run as a page of HTML: what is missing, where the images are, when AWS throttled, what changed."""
    need("lake", "obstore", "pyarrow", "duckdb")
    need("report", "jinja2", "vl_convert")
    from crawler.overview.write import write_page  # noqa: PLC0415  (see runs)

    async def main() -> None:
        await write_page(output, run, to, since)
        if to != "-":
            sys.stderr.write(f"{to} is written: open it in a browser\n")

    return _run(main)


def _tell_unfit(unfit: Sequence[str]) -> None:
    if unfit:
        raise Fatal("RunUnfit", f"{counted(len(unfit), 'run')} cannot be read: {'; '.join(unfit)}")


def _run(main: Callable[[], Awaitable[None]]) -> int:
    try:
        anyio.run(main)
    except CrawlError as error:
        from crawler.report import printable  # noqa: PLC0415  (rich is heavy)

        sys.stderr.write(f"{printable(str(error))}\n")
        return 1
    return 0
