"""The command line: flags and CRAWLER_… variables become settings. Nothing heavy is imported before it is needed."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Literal

from cyclopts import App, CycloptsError, Group, Parameter, validators
from cyclopts.config import Env

from crawler import __version__, emulation, lake, prepare, usage
from crawler.errors import UsageError
from crawler.extras import need
from crawler.model import COMPLETE, ImageStatus, Outcome, RowKind, Split, TagStatus
from crawler.wanted import pieces

_WHAT = Group("What to crawl", sort_key=1)
_WHERE = Group("Where results go", sort_key=2)
_HOW = Group("How hard to try", sort_key=3)
_SHOWN = Group("What is shown", sort_key=4)


def _told(error: CycloptsError) -> object:
    return usage.told(error, [name for name in app if not name.startswith("-")])


_positive = validators.Number(gt=0)

app = App(
    name="crawler",
    help=(
        "List every image ID of every Amazon ECR repository of a company, over all accounts and regions, as NDJSON.\n\n"
        "Rows go to standard output, everything else to standard error. Exit code: 0 complete; 3 some unit was denied "
        "or failed, the rows of all others are there; 2 usage or accounts file; 1 fatal; 129, 130 or 143 after a "
        "signal; 141 when the reader of standard output has gone.\n\n"
        "An option with several values is repeated, or they stand between commas. Every option is also an environment "
        "variable: --targets-at-once is CRAWLER_TARGETS_AT_ONCE."
    ),
    version=__version__,
    config=Env("CRAWLER_"),
    default_parameter=Parameter(
        negative=(), show_env_var=False, show_default=lambda value: str(value) if value else None
    ),
    help_format="plaintext",
    error_formatter=_told,
)


def _outcomes(values: tuple[str, ...]) -> frozenset[Outcome]:
    choices = {outcome.lower(): outcome for outcome in Outcome if outcome not in COMPLETE}
    for piece in pieces(values):
        if piece.lower() not in choices:
            raise UsageError(f"--tolerate {piece}: cannot be tolerated; choose from {', '.join(choices)}")
    return frozenset(choices[piece.lower()] for piece in pieces(values))


@app.default
def crawl(
    *,
    accounts: Annotated[
        str,
        Parameter(
            group=_WHAT,
            allow_leading_hyphen=True,
            help="File that names the accounts; - for standard input. See `crawler schema`. Required.",
        ),
    ] = "",
    account: Annotated[
        tuple[str, ...], Parameter(group=_WHAT, help="Only these accounts: ids, names or globs of names.")
    ] = (),
    account_tag: Annotated[
        tuple[str, ...], Parameter(group=_WHAT, help="Only accounts that have all of these tags, as in `type:prod`.")
    ] = (),
    region: Annotated[tuple[str, ...], Parameter(group=_WHAT, help="Only these regions: names or globs.")] = (),
    repository: Annotated[
        tuple[str, ...], Parameter(group=_WHAT, help="Only repositories whose names match one of these globs.")
    ] = (),
    exclude_repository: Annotated[
        tuple[str, ...], Parameter(group=_WHAT, help="No repositories whose names match one of these globs.")
    ] = (),
    rows: Annotated[
        Literal["ids", "details"],
        Parameter(
            group=_WHAT,
            help="A row for each image ID (digest, tag), or for each image with its tags, size, times and types.",
        ),
    ] = "ids",
    tag_status: Annotated[
        Literal["any", "tagged", "untagged"], Parameter(group=_WHAT, help="Which images, by tag.")
    ] = "any",
    image_status: Annotated[
        Literal["any", "active", "archived", "activating"],
        Parameter(group=_WHAT, help="Which images, by status; AWS itself would leave archived ones out."),
    ] = "any",
    output: Annotated[
        str,
        Parameter(
            group=_WHERE,
            allow_leading_hyphen=True,
            help="File for the rows, which appears when it is whole; - for standard output; DIR/ or "
            "s3://bucket/prefix/ for a run that is published there.",
        ),
    ] = "-",
    format: Annotated[  # noqa: A002  (the option's name)
        Literal["ndjson", "ndjson.gz", "ndjson.zst", "parquet"] | None,
        Parameter(group=_WHERE, help="Of the parts of a published run; parquet if not given."),
    ] = None,
    run_id: Annotated[
        str | None,
        Parameter(group=_WHERE, help="Begin the published run of this name, or go on with it; made up if not given."),
    ] = None,
    resume: Annotated[
        bool, Parameter(group=_WHERE, help="Go on with the newest run that is not published yet.")
    ] = False,
    iceberg: Annotated[
        str | None,
        Parameter(group=_WHERE, help="Add the published run to an Iceberg table, as in `catalog:namespace.table`."),
    ] = None,
    delta: Annotated[
        str | None, Parameter(group=_WHERE, help="Add the published run to the Delta table at this folder or s3://….")
    ] = None,
    publish_partial: Annotated[
        bool, Parameter(group=_WHERE, help="Add a run to tables although something is missing in it, marked as such.")
    ] = False,
    ledger: Annotated[
        str | None,
        Parameter(
            group=_WHERE,
            allow_leading_hyphen=True,
            help="File for the outcome of every target and repository, as NDJSON.",
        ),
    ] = None,
    report: Annotated[
        str | None,
        Parameter(group=_WHERE, allow_leading_hyphen=True, help="File for the summary of the run, as JSON."),
    ] = None,
    tolerate: Annotated[
        tuple[str, ...], Parameter(group=_WHERE, help="Outcomes that do not make the exit code 3, as in `denied`.")
    ] = (),
    page_size: Annotated[
        int, Parameter(group=_HOW, validator=validators.Number(gte=1, lte=1000), help="Image IDs asked for in a page.")
    ] = 1000,
    targets_at_once: Annotated[
        int, Parameter(group=_HOW, validator=_positive, help="Registries (account and region) open at a time.")
    ] = 32,
    requests_per_target: Annotated[
        int, Parameter(group=_HOW, validator=_positive, help="Requests in flight in each of them.")
    ] = 8,
    max_rps: Annotated[
        float | None, Parameter(group=_HOW, validator=_positive, help="Requests a second in each of them, at most.")
    ] = None,
    rate_share: Annotated[
        float,
        Parameter(
            group=_HOW,
            validator=validators.Number(gt=0, lte=1),
            help="Part of the rate that AWS grants to use, once it is known; 0.5 leaves half to others.",
        ),
    ] = 1.0,
    hints: Annotated[
        str | None,
        Parameter(
            group=_HOW,
            allow_leading_hyphen=True,
            help="File, or s3://…, in which a run leaves the rates and long repositories it found, for the next.",
        ),
    ] = None,
    split_chains: Annotated[
        Literal["no", "tags", "all"],
        Parameter(
            group=_HOW,
            help="List what the hints call long in parts at once: by tag status, or also by image status. See README.",
        ),
    ] = "no",
    workers: Annotated[
        int | None,
        Parameter(
            group=_HOW,
            validator=validators.Number(gte=1),
            help="Crawl in this many processes, for estates that keep a core busy; --targets-at-once is of each.",
        ),
    ] = None,
    engine: Annotated[
        Literal["ray"] | None,
        Parameter(
            group=_HOW, help="Crawl on a Ray cluster, or with a Ray of this machine alone; needs --output s3://…."
        ),
    ] = None,
    address: Annotated[
        str | None,
        Parameter(
            group=_HOW, help="Of the cluster's head, as in 10.0.0.1:6379; without it, and RAY_ADDRESS, of this machine."
        ),
    ] = None,
    shard: Annotated[
        str | None,
        Parameter(group=_HOW, show=False, help="Crawl one of N shares of the accounts: see `crawler shard`."),
    ] = None,
    timeout: Annotated[
        float, Parameter(group=_HOW, validator=_positive, help="Seconds for one request; then it is tried again.")
    ] = 60.0,
    attempts: Annotated[
        int, Parameter(group=_HOW, validator=_positive, help="Requests for one page, before it has failed.")
    ] = 20,
    page_timeout: Annotated[
        float,
        Parameter(group=_HOW, validator=_positive, help="Seconds after its first failure in which a page is tried."),
    ] = 900.0,
    target_timeout: Annotated[
        float,
        Parameter(
            group=_HOW,
            validator=_positive,
            help="Seconds for one registry, or to find those of an account; then it has failed.",
        ),
    ] = 21600.0,
    log_format: Annotated[
        Literal["text", "json"], Parameter(group=_SHOWN, help="How log lines on standard error are written.")
    ] = "text",
    verbose: Annotated[
        int, Parameter(name=["--verbose", "-v"], count=True, group=_SHOWN, help="Say more; -vv says every detail.")
    ] = 0,
    otel: Annotated[
        bool,
        Parameter(group=_SHOWN, help="Send metrics and traces to the OpenTelemetry collector that OTEL_… names."),
    ] = False,
    quiet: Annotated[bool, Parameter(group=_SHOWN, help="Show no progress and no summary.")] = False,
) -> int:
    """Crawl."""
    if not accounts:
        example = usage.EXAMPLES["shard"] if shard else "crawler --accounts accounts.yaml"
        raise UsageError(f"--accounts is missing: {example}, or crawler --help")
    from crawler import job, logs  # noqa: PLC0415  (AWS's libraries take half a second, --help shall not)
    from crawler.settings import Settings  # noqa: PLC0415  (see crawl)

    logs.configure(log_format, verbose)
    settings = Settings(
        accounts=accounts,
        account=account,
        account_tag=account_tag,
        region=pieces(region),
        repository=pieces(repository),
        exclude_repository=pieces(exclude_repository),
        rows=RowKind(rows),
        tag_status=TagStatus(tag_status.upper()),
        image_status=ImageStatus(image_status.upper()),
        page_size=page_size,
        output=output,
        format=format,
        run_id=run_id,
        resume=resume,
        iceberg=iceberg,
        delta=delta,
        publish_partial=publish_partial,
        ledger=ledger,
        report=report,
        tolerate=_outcomes(tolerate),
        targets_at_once=targets_at_once,
        requests_per_target=requests_per_target,
        max_rps=max_rps,
        rate_share=rate_share,
        hints=hints,
        split_chains=Split(split_chains),
        timeout=timeout,
        attempts=attempts,
        page_timeout=page_timeout,
        target_timeout=target_timeout,
        workers=workers,
        engine=engine,
        address=address,
        shard=shard,
        log_format=log_format,
        verbose=verbose,
        otel=otel,
        quiet=quiet,
    )
    if otel:
        need("otel", "opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")
    if engine:
        need("ray", "ray")
    if settings.publishes:
        need("lake", "obstore", "pyarrow", "msgspec", *["pyiceberg"] * bool(iceberg), *["deltalake"] * bool(delta))
    return job.start(settings)


for _command in (
    prepare.policy,
    prepare.doctor,
    prepare.plan,
    lake.runs,
    lake.show,
    lake.report,
    lake.diff,
    lake.clean,
):
    app.command(_command, help_epilogue=usage.for_example(_command.__name__))
app.command(prepare.import_, name="import", help_epilogue=usage.for_example("import"))
app.command(emulation.demo)
app.command(emulation.emulator)


@app.command
def schema() -> int:
    """Print the JSON Schema of the accounts file, for editors."""
    import json  # noqa: PLC0415  (see crawl)

    from crawler.accounts import json_schema  # noqa: PLC0415  (see crawl)

    sys.stdout.write(json.dumps(json_schema(), indent=2) + "\n")
    return 0


@app.command(help_epilogue=usage.for_example("completion"))
def completion(
    shell: Annotated[Literal["bash", "zsh", "fish", "powershell"], Parameter(help="The shell it is for.")],
) -> int:
    """Print a script that completes commands, options and choices in a shell."""
    sys.stdout.write(app.generate_completion(prog_name="crawler", shell=shell))  # starts none  # nosec B604
    return 0


@app.command(name="shard", help_epilogue=usage.for_example("shard"))
def share(
    which: Annotated[str, Parameter(help="Which share of how many, as in 3/8; from 1/8 to 8/8.")],
    *options: Annotated[str, Parameter(allow_leading_hyphen=True, help="Those of a crawl, the same for all shares.")],
) -> int:
    """Crawl one of N shares of the accounts, for array jobs; the last one publishes the run."""
    return int(app(["--shard", which, *options], result_action="return_value"))


@app.command(show=False)
def worker(descriptor: int) -> int:
    """Crawl shards for the process that started this one: see `--workers`."""
    from crawler.worker import serve  # noqa: PLC0415  (see crawl)

    return serve(descriptor)


def main() -> None:
    """Run the command line and exit with its code. Sets the process's umask."""
    # Files name internal systems: what we write, and libraries for us, is nobody's business but the owner's.
    os.umask(0o077)
    try:
        sys.exit(app(result_action="return_value"))
    except UsageError as error:
        from crawler.report import printable  # noqa: PLC0415  (rich is heavy)

        sys.stderr.write("".join(f"{printable(line)}\n" for line in str(error).split("\n")))
        sys.exit(2)
    except KeyboardInterrupt:  # before the crawl, which has its own way to stop
        sys.exit(130)
