"""Which unit a line of the log is about: account, registry, region and repository, beside what it says.

Put around the registries where the log tells requests, and only there: a crawl that says nothing pays nothing for it.
What a Fetch binds stays bound in its task, so that the retry around it says the same of its failure.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TypeVar

from structlog.contextvars import bind_contextvars, unbind_contextvars

from crawler.model import Account, Fetch, Image, Page, Part, Split, Target
from crawler.registry import Registries, Registry
from crawler.rehearsal import Narrowed

T = TypeVar("T")

_UNIT = ("registryId", "region", "repositoryName")


def begin(run_id: str) -> None:
    """Have every line of this task, and of those that it starts, name the run."""
    bind_contextvars(run=run_id)


def watch(registries: Registries) -> Registries:
    """The same registries; where requests are logged, those to them name their unit."""
    return _Located(registries) if logging.getLogger("crawler").isEnabledFor(logging.INFO) else registries


class _Located(Narrowed):
    def __init__(self, behind: Registries) -> None:
        super().__init__(behind, _LocatedRegistry)

    async def regions(self, account: Account) -> Mapping[str, bool]:
        """See `Registries`."""
        unbind_contextvars(*_UNIT)
        bind_contextvars(accountId=account.account_id)
        return await super().regions(account)

    async def open(self, target: Target) -> Registry:
        """See `Registries`."""
        _bind(target)
        return await super().open(target)


class _LocatedRegistry:
    """A `Registry` whose requests say what they are about."""

    def __init__(self, target: Target, behind: Registry) -> None:
        self._target = target
        self._behind = behind

    def repositories(self) -> Fetch[str]:
        """See `Registry`."""
        return self._located(self._behind.repositories())

    def images(self, repository: str, part: Part | None = None) -> Fetch[Image]:
        """See `Registry`."""
        return self._located(self._behind.images(repository, part), repository)

    def parts(self, split: Split) -> Sequence[Part]:
        """See `Registry`."""
        return self._behind.parts(split)

    def _located(self, fetch: Fetch[T], repository: str | None = None) -> Fetch[T]:
        async def located(token: str | None) -> Page[T]:
            _bind(self._target, repository)
            return await fetch(token)

        return located


def _bind(target: Target, repository: str | None = None) -> None:
    unbind_contextvars("repositoryName")
    named = {"repositoryName": repository} if repository is not None else {}
    bind_contextvars(accountId=target.account.account_id, registryId=target.registry_id, region=target.region, **named)
