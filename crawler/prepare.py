"""The commands that come before a crawl: what it may do, whether it will work, what it would cost."""

from __future__ import annotations

import sys
from typing import Annotated, Literal

from cyclopts import Parameter

from crawler.errors import CrawlError, UsageError

_Accounts = Annotated[
    str, Parameter(allow_leading_hyphen=True, help="File that names the accounts; - for standard input. Required.")
]
_Account = Annotated[tuple[str, ...], Parameter(help="Only these accounts: ids, names or globs of names.")]
_AccountTag = Annotated[tuple[str, ...], Parameter(help="Only accounts that have all of these tags.")]


def policy(
    *,
    accounts: _Accounts = "",
    account: _Account = (),
    account_tag: _AccountTag = (),
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

    from crawler.accounts import open_accounts  # noqa: PLC0415
    from crawler.permissions import needed  # noqa: PLC0415
    from crawler.policies import FORMATS  # noqa: PLC0415

    file = open_accounts(accounts, account, account_tag)
    try:
        found = anyio.run(needed, file, hub)
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
