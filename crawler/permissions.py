"""The accounts file as the identities behind it, and what each is for."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

from crawler.accounts import AccountsFile
from crawler.aws import AwsRegistries
from crawler.errors import UsageError
from crawler.model import Account, RowKind
from crawler.policies import Access, Grant, grants
from crawler.policies.needs import HUB
from crawler.retry import RetryPolicy

_PRINCIPAL = re.compile(r"arn:aws(-[a-z]+)*:iam::[0-9]{12}:(root|(role|user)/[\w+=,.@/-]+)", re.ASCII)
_GLOB = re.compile(r"[*?\[]|^all$")


async def needed(file: AccountsFile, hub: str | None, rows: RowKind = RowKind.IDS) -> list[Grant]:
    """What every identity of the file needs for rows of this kind. Asks AWS nothing.

    Bare role names are completed as the crawl does it.

    Raises `UsageError` where `hub` is no ARN that a role can trust, `CrawlError` where AWS's configuration is broken.
    """
    if hub is not None and not _PRINCIPAL.fullmatch(hub):
        raise UsageError(
            f"--hub {hub!r}: write the ARN of a role or user, such as arn:aws:iam::123456789012:role/inventory-hub; "
            "of a session (assumed-role) it is the ARN of the role behind it"
        )
    async with aclosing(_accesses(file, rows)) as accesses:
        return grants([access async for access in accesses], hub=hub or HUB)


async def _accesses(file: AccountsFile, rows: RowKind) -> AsyncGenerator[Access]:
    async with AwsRegistries(policy=RetryPolicy(attempts=1), warn=lambda _, __: None) as registries:
        if file.organization:
            units = bool(file.organization.include_ous)
            yield Access(file.organization.hub, lists_accounts=True, lists_units=units)
            yield await _reading(registries, replace(file.organization.member, account_id="*"), rows)
        for account in file.accounts:
            yield await _reading(registries, account, rows)


async def _reading(registries: AwsRegistries, account: Account, rows: RowKind) -> Access:
    finds = any(_GLOB.search(region) for region in account.regions)
    return Access(await registries.identity(account), reads=rows, reads_public=account.public, finds_regions=finds)
