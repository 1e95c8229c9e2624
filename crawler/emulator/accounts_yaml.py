"""Writes files for `crawler --accounts` that fit an estate."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from crawler.emulator.account import Account


def listed(accounts: Iterable[tuple[Account, Sequence[str]]], role: str) -> str:
    """The form `accounts:`: an entry for each (account, enabled regions)."""
    lines = ["accounts:"]
    for account, regions in accounts:
        entry = {
            "account_id": account.id,
            "name": account.name or account.id,
            "role": role,
            "external_id": account.external_id,
            "regions": list(regions),
            "crawler": {"public": True} if account.public else None,
        }
        # JSON is YAML, and quotes every string: no id can be taken for a number.
        pairs = [f"{key}: {json.dumps(value)}" for key, value in entry.items() if value is not None]
        lines.append("- " + "\n  ".join(pairs))
    return "\n".join(lines) + "\n"


def organization(regions: Sequence[str], role: str) -> str:
    """The form `organization:`: the hub's own keys list the accounts, `role` is assumed in each."""
    return f"organization:\n  member_role: {json.dumps(role)}\n  regions: {json.dumps(list(regions))}\n"
