"""Some of the accounts: by id or name, and by tags, as in c7n-org."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from fnmatch import translate

from crawler.accounts.problems import quoted
from crawler.errors import UsageError
from crawler.model import Account

_GLOB = re.compile(r"[*?\[]")


class Selection:
    """Which accounts to crawl.

    An account is selected if its id or name is any of `ids_or_names`, exactly or by glob, case-sensitive, several
    between commas; and if it has every one of `tags`, exactly. Either one empty selects all.
    """

    def __init__(self, ids_or_names: Sequence[str] = (), tags: Sequence[str] = ()) -> None:
        self._given = tuple(ids_or_names)
        self._tags = frozenset(tags)
        parts = [part for item in ids_or_names for part in _parts(item)]
        # A name may hold a comma or a bracket itself, so whatever is given counts as it stands too.
        self._exact = frozenset((*ids_or_names, *parts)) - {""}  # an account without a name is not selected by that
        globs = [translate(part) for part in parts if _GLOB.search(part)]
        self._glob = re.compile("|".join(globs)) if globs else None

    def selects(self, account: Account) -> bool:
        """Whether this account, of the file or listed by its organization, is to be crawled."""
        return self._named(account) and self._tags.issubset(account.tags)

    def _named(self, account: Account) -> bool:
        if not self._given:
            return True
        keys = (account.account_id, account.name)
        return not self._exact.isdisjoint(keys) or (self._glob is not None and any(map(self._glob.match, keys)))


def select(accounts: Sequence[Account], ids_or_names: Sequence[str], tags: Sequence[str]) -> tuple[Account, ...]:
    """The accounts selected, in their order.

    Raises:
        UsageError: where a selector fits no account at all, or all of them together fit none.
    """
    unfit = [*_unfit_names(accounts, ids_or_names), *_unfit_tags(accounts, tags)]
    selection = Selection(ids_or_names, tags)
    selected = tuple(account for account in accounts if selection.selects(account))
    if not unfit and not selected:
        unfit = ["--account and --account-tag together fit no account; each alone fits some"]
    if unfit:
        raise UsageError("\n".join(unfit))
    return selected


def _parts(item: str) -> list[str]:
    return [part.strip() for part in item.split(",") if part.strip()]


def _unfit_names(accounts: Sequence[Account], ids_or_names: Sequence[str]) -> Iterator[str]:
    known = {key: None for account in accounts for key in (account.account_id, account.name) if key}
    for item in ids_or_names:
        if item in known:
            continue
        for part in _parts(item) or [item]:
            if not any(map(Selection([part]).selects, accounts)):
                yield f"--account {quoted(part)}: no account has this id or name{_close(part, known)}"


def _unfit_tags(accounts: Sequence[Account], tags: Sequence[str]) -> Iterator[str]:
    known = {tag: None for account in accounts for tag in account.tags}
    for tag in dict.fromkeys(tags):
        if tag not in known:
            yield f"--account-tag {quoted(tag)}: no account has this tag{_close(tag, known)}"


def _close(text: str, known: Iterable[str]) -> str:
    """Near misses, whatever their case."""
    folded = {candidate.casefold(): candidate for candidate in known}
    close = [folded[key] for key in get_close_matches(text.casefold(), folded, 3)]
    return f"; close are {', '.join(map(quoted, close))}" if close else ""
