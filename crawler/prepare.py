"""The commands that come before a crawl: what it may do, whether it will work, what it would cost."""

from __future__ import annotations

import sys
from functools import partial
from typing import Annotated, Literal

from cyclopts import Parameter, validators

from crawler.errors import CrawlError, UsageError
from crawler.model import RowKind
from crawler.wanted import pieces

_Accounts = Annotated[
    str, Parameter(allow_leading_hyphen=True, help="File that names the accounts; - for standard input. Required.")
]
_Account = Annotated[tuple[str, ...], Parameter(help="Only these accounts: ids, names or globs of names.")]
_Region = Annotated[tuple[str, ...], Parameter(help="Only these regions: names or globs.")]
_AccountTag = Annotated[tuple[str, ...], Parameter(help="Only accounts that have all of these tags.")]
_Rows = Annotated[
    Literal["ids", "details"], Parameter(help="What the crawl shall list: by ListImages, or by DescribeImages.")
]
_AtOnce = Annotated[int, Parameter(validator=validators.Number(gt=0), help="Targets (account and region) at a time.")]
_Timeout = Annotated[float, Parameter(validator=validators.Number(gt=0), help="Seconds for one request.")]
_Verbose = Annotated[int, Parameter(name=["--verbose", "-v"], count=True, help="Log more; -vv logs every detail.")]

#: Somebody waits for the answer, and a service that needs more tries than this is not well.
_ATTEMPTS = 4


def policy(
    *,
    accounts: _Accounts = "",
    account: _Account = (),
    account_tag: _AccountTag = (),
    rows: _Rows = "ids",
    of: Annotated[
        Literal["all", "hub", "members"],
        Parameter(help="Whose: of those that the crawl starts with, of the roles that it assumes, or of all."),
    ] = "all",
    hub: Annotated[
        str | None, Parameter(help="ARN of the role or user that runs the crawler, for roles to trust.")
    ] = None,
    format: Annotated[  # noqa: A002  (the option's name)
        Literal["json", "cloudformation", "terraform"], Parameter(help="How to write them.")
    ] = "json",
) -> int:
    """Print the least IAM policies that the accounts file needs."""
    import anyio  # noqa: PLC0415  (like AWS's libraries it takes its time, and --help shall not)

    from crawler import logs  # noqa: PLC0415  (see cli.crawl)
    from crawler.accounts import open_accounts  # noqa: PLC0415  (see cli.crawl)
    from crawler.aws import known_regions  # noqa: PLC0415  (see cli.crawl)
    from crawler.permissions import needed  # noqa: PLC0415  (see cli.crawl)
    from crawler.policies import FORMATS  # noqa: PLC0415  (see cli.crawl)

    logs.configure("text", 0)
    file = open_accounts(accounts, account, account_tag, regions=known_regions())
    try:
        found = anyio.run(needed, file, hub, RowKind(rows))
    except CrawlError as error:
        raise UsageError(f"policy: {error}") from error
    chosen = [grant for grant in found if of == "all" or (of == "hub") == (grant.role is None)]
    if not chosen:
        raise UsageError("policy: the file names no role, so there are no members; --of hub prints what reads")
    if format != "json" and len(chosen) > 1:
        listed = "".join(f"\n  {grant.who}" for grant in chosen)
        raise UsageError(
            f"policy: --format {format} holds one of these; choose with --of hub or members, and --account:{listed}"
        )
    sys.stdout.write(FORMATS[format](chosen))
    return 0


def doctor(
    *,
    accounts: _Accounts = "",
    account: _Account = (),
    account_tag: _AccountTag = (),
    region: _Region = (),
    rows: _Rows = "ids",
    output: Annotated[
        str, Parameter(allow_leading_hyphen=True, help="Where the rows of the crawl shall go: can it be written?")
    ] = "-",
    targets_at_once: _AtOnce = 32,
    timeout: _Timeout = 20.0,
    format: Annotated[  # noqa: A002  (the option's name)
        Literal["table", "json"], Parameter(help="A table with the failures and their fixes, or each check as a line.")
    ] = "table",
    verbose: _Verbose = 0,
) -> int:
    """Check every account and region side by side, and tell what to do. Exit code 3 when a check failed."""
    import anyio  # noqa: PLC0415  (see policy)

    from crawler import doctor as checks  # noqa: PLC0415  (see cli.crawl)
    from crawler import logs  # noqa: PLC0415  (see cli.crawl)
    from crawler.accounts import open_accounts  # noqa: PLC0415  (see cli.crawl)
    from crawler.aws import known_regions  # noqa: PLC0415  (see cli.crawl)
    from crawler.settings import Settings  # noqa: PLC0415  (see cli.crawl)

    logs.configure("text", verbose)
    file = open_accounts(accounts, account, account_tag, regions=known_regions())
    settings = Settings(
        accounts=accounts,
        account=account,
        account_tag=account_tag,
        region=pieces(region),
        rows=RowKind(rows),
        output=output,
        targets_at_once=targets_at_once,
        timeout=timeout,
        attempts=_ATTEMPTS,
        page_timeout=3 * timeout,
    )
    findings = checks.Findings(checks.tell_line if format == "json" else checks.tell_nothing, settings.rows)
    anyio.run(checks.examine, settings, file, findings)
    if format == "table":
        checks.show(findings)
    if not findings.totals.targets:
        raise UsageError("doctor: nothing to check: no account or region matches what was asked for")
    return 3 if findings.failed else 0


def plan(
    *,
    accounts: _Accounts = "",
    account: _Account = (),
    account_tag: _AccountTag = (),
    region: _Region = (),
    repository: Annotated[
        tuple[str, ...], Parameter(help="Only repositories whose names match one of these globs.")
    ] = (),
    exclude_repository: Annotated[
        tuple[str, ...], Parameter(help="No repositories whose names match one of these globs.")
    ] = (),
    rows: _Rows = "ids",
    hints: Annotated[
        str | None, Parameter(allow_leading_hyphen=True, help="File that a crawl with --hints left: how long it was.")
    ] = None,
    page_size: Annotated[
        int, Parameter(validator=validators.Number(gte=1, lte=1000), help="Image IDs asked for in a page.")
    ] = 1000,
    targets_at_once: _AtOnce = 32,
    timeout: _Timeout = 60.0,
    format: Annotated[Literal["text", "json"], Parameter(help="How to write it.")] = "text",  # noqa: A002  (as above)
    verbose: _Verbose = 0,
) -> int:
    """Show what a crawl would list, and what it would cost, without a request for images."""
    import anyio  # noqa: PLC0415  (see policy)

    from crawler import logs, plan  # noqa: PLC0415  (see cli.crawl)
    from crawler.accounts import open_accounts  # noqa: PLC0415  (see cli.crawl)
    from crawler.aws import known_regions  # noqa: PLC0415  (see cli.crawl)
    from crawler.settings import Settings  # noqa: PLC0415  (see cli.crawl)

    logs.configure("text", verbose)
    file = open_accounts(accounts, account, account_tag, regions=known_regions())
    settings = Settings(
        accounts=accounts,
        account=account,
        account_tag=account_tag,
        region=pieces(region),
        repository=pieces(repository),
        exclude_repository=pieces(exclude_repository),
        rows=RowKind(rows),
        hints=hints,
        page_size=page_size,
        targets_at_once=targets_at_once,
        timeout=timeout,
    )
    made, survey = anyio.run(plan.make_plan, settings, file)
    if format == "json":
        plan.show_json(made)
    else:
        plan.show(made, survey)
    if not survey.totals.targets:
        raise UsageError("plan: nothing to crawl: no account or region matches what was asked for")
    return 3 if made.unknown else 0


def import_(
    source: Annotated[Literal["profiles", "organization"], Parameter(help="Where the accounts are named now.")],
    /,
    *,
    member_role: Annotated[
        str, Parameter(help="Role in every account of the organization: a name, or an ARN with {account_id}.")
    ] = "inventory",
    external_id: Annotated[str | None, Parameter(help="External id to assume it with.")] = None,
    profile: Annotated[str | None, Parameter(help="AWS CLI profile to list the organization with.")] = None,
) -> int:
    """Print a first accounts file, from AWS CLI profiles or from an organization."""
    import anyio  # noqa: PLC0415  (see policy)

    from crawler import draft, logs  # noqa: PLC0415  (see cli.crawl)
    from crawler.report import printable  # noqa: PLC0415  (see cli.crawl)

    logs.configure("text", 0)
    try:
        if source == "profiles":
            text = draft.of_profiles()
        else:
            text = anyio.run(
                partial(draft.of_organization, member_role, profile=profile, external_id=external_id or None)
            )
    except CrawlError as error:
        sys.stderr.write(f"import: {printable(str(error))}\n")
        return 3
    sys.stdout.write(text)
    return 0
