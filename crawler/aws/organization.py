"""The active accounts of an organization, page by page.

https://docs.aws.amazon.com/organizations/latest/APIReference/API_ListAccounts.html: 20 a page, about 8 pages a second.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import replace
from fnmatch import fnmatchcase
from operator import itemgetter
from typing import Any

from crawler.aws.api import Documented
from crawler.errors import ChainBroken
from crawler.model import Account, Chain, Organization, Page, Warn
from crawler.pages import each_once

#: One call of Organizations, made to last: operation, parameters, member that the answer must hold, and its entries.
Call = Callable[[str, Mapping[str, Any], str, Documented], Awaitable[dict[str, Any]]]

_PAGE_SIZE = 20

#: States of accounts in which nothing can be asked. One that is not known here is tried: it may be a new one.
_CLOSED = frozenset({"PENDING_ACTIVATION", "SUSPENDED", "PENDING_CLOSURE", "CLOSED"})

_ACCOUNT_ID = re.compile(r"[0-9]{12}")


async def active_accounts(call: Call, organization: Organization, warn: Warn) -> AsyncGenerator[Account, None]:
    """Yield the member pattern, completed with ID and name, for each active account that is not excluded, once.

    An empty page may still name a next one. A list that never ends raises `ChainBroken`, as in `each_once`; it has no
    time of its own, for accounts are crawled as they come. Consume under `aclosing`.
    Warns of what was to be excluded and is not there, once all have been listed.
    """
    unmatched = set(organization.exclude)
    seen: set[str] = set()
    async with aclosing(_listed(call, organization)) as found:
        async for entry in found:
            account_id, name = entry["Id"], str(entry.get("Name") or "")
            if account_id in seen:
                continue  # it was moved, or others were closed, while pages came: its rows would come twice
            seen.add(account_id)
            excluded = {
                glob for glob in organization.exclude if fnmatchcase(account_id, glob) or fnmatchcase(name, glob)
            }
            unmatched -= excluded
            if not excluded and _state(entry) not in _CLOSED:
                yield replace(organization.member, account_id=account_id, name=name)
    for glob in sorted(unmatched):
        warn("exclude: names no account of the organization", glob)


async def _listed(call: Call, organization: Organization) -> AsyncGenerator[dict[str, Any], None]:
    if not organization.include_ous:
        async with aclosing(_entries(call, "ListAccounts", {}, "Accounts", is_account)) as accounts:
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
        async with aclosing(_entries(call, "ListAccountsForParent", asked, "Accounts", is_account)) as accounts:
            async for account in accounts:
                yield account
        operation, member = "ListOrganizationalUnitsForParent", "OrganizationalUnits"
        async with aclosing(_entries(call, operation, asked, member, is_unit)) as units:
            waiting += [unit["Id"] async for unit in units]


def _state(account: Mapping[str, Any]) -> object:
    # Status retired on 2026-09-09 in favour of State; older servers know only the former.
    return account.get("State") or account.get("Status")


def is_account(entry: Mapping[str, Any]) -> bool:
    """Tell whether an entry says which account it is, and its state: without one it is not whole."""
    account_id = entry.get("Id")
    return isinstance(account_id, str) and _ACCOUNT_ID.fullmatch(account_id) is not None and bool(_state(entry))


def is_unit(entry: Mapping[str, Any]) -> bool:
    """Tell whether an entry says which organizational unit it is."""
    return isinstance(entry.get("Id"), str)


async def _entries(
    call: Call, operation: str, params: Mapping[str, Any], member: str, documented: Documented
) -> AsyncGenerator[dict[str, Any], None]:
    async def fetch(token: str | None) -> Page[dict[str, Any]]:
        asked = {**params, "MaxResults": _PAGE_SIZE} | ({"NextToken": token} if token else {})
        answer = await call(operation, asked, member, documented)
        return Page(answer[member], answer.get("NextToken") or None)

    try:
        async with aclosing(each_once(fetch, Chain(), itemgetter("Id"))) as found:
            async for entries in found:
                for entry in entries:
                    yield entry
    except ChainBroken as broken:
        raise ChainBroken(broken.code, f"organizations:{operation}: {broken.message}") from broken
