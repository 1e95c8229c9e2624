"""The active accounts of an organization, page by page.

https://docs.aws.amazon.com/organizations/latest/APIReference/API_ListAccounts.html: 20 a page, about 8 pages a second.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

from crawler.errors import ChainBroken
from crawler.model import Account, Organization, Warn

#: One call of Organizations, made to last: operation, parameters, member that the answer must hold.
Call = Callable[[str, Mapping[str, Any], str], Awaitable[dict[str, Any]]]

_PAGE_SIZE = 20


async def active_accounts(call: Call, organization: Organization, warn: Warn) -> AsyncGenerator[Account, None]:
    """Yield the member pattern, completed with ID and name, for each active account that is not excluded.

    An empty page may still name a next one. A token that comes twice raises `ChainBroken`. Consume under `aclosing`.
    Warns of what was to be excluded and is not there, once all have been listed.
    """
    unmatched = set(organization.exclude)
    async with aclosing(_listed(call, organization)) as found:
        async for entry in found:
            account_id, name = str(entry["Id"]), str(entry.get("Name") or "")
            excluded = {
                glob for glob in organization.exclude if fnmatchcase(account_id, glob) or fnmatchcase(name, glob)
            }
            unmatched -= excluded
            # Status retired on 2026-09-09 in favour of State; older servers know only the former.
            if (entry.get("State") or entry.get("Status")) != "ACTIVE":
                continue
            if not excluded:
                yield replace(organization.member, account_id=account_id, name=name)
    for glob in sorted(unmatched):
        warn("exclude: names no account of the organization", glob)


async def _listed(call: Call, organization: Organization) -> AsyncGenerator[dict[str, Any], None]:
    if not organization.include_ous:
        async with aclosing(_pages(call, "ListAccounts", {}, "Accounts")) as accounts:
            async for account in accounts:
                yield account
        return
    waiting = list(reversed(organization.include_ous))
    seen: set[str] = set()
    while waiting:
        parent = waiting.pop()
        if parent in seen:
            continue  # an OU that was named beside one of its ancestors
        seen.add(parent)
        asked = {"ParentId": parent}
        async with aclosing(_pages(call, "ListAccountsForParent", asked, "Accounts")) as accounts:
            async for account in accounts:
                yield account
        async with aclosing(_pages(call, "ListOrganizationalUnitsForParent", asked, "OrganizationalUnits")) as units:
            waiting += [str(unit["Id"]) async for unit in units]


async def _pages(
    call: Call, operation: str, params: Mapping[str, Any], member: str
) -> AsyncGenerator[dict[str, Any], None]:
    seen: set[str] = set()
    asked = {**params, "MaxResults": _PAGE_SIZE}
    while True:
        answer = await call(operation, asked, member)
        for entry in answer[member]:
            yield entry
        token = answer.get("NextToken")
        if not token:
            return
        if token in seen:
            raise ChainBroken("RepeatedToken", f"organizations:{operation} gives the same NextToken twice")
        seen.add(token)
        asked = {**asked, "NextToken": token}
