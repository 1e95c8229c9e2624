"""A crawl that takes nothing along: the same walk over accounts, regions and repositories, seen through a narrow glass.

`doctor` and `plan` ask what a crawl would meet. So they are crawls, with the same identities, bounds, retries and
outcomes, over registries that show less. Rejected: a walk of their own, which would agree with the crawl for a month.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

from crawler.accounts import AccountsFile
from crawler.crawl import Crawl
from crawler.ledger import Ledger
from crawler.model import Account, Fetch, Image, Organization, Page, Part, Result, Split, Target
from crawler.registry import Registries, Registry
from crawler.settings import Settings
from crawler.wanted import Filter
from crawler.wiring import crawl_all, registries_of


class Narrowed:
    """`Registries` behind others: each registry that is opened is seen through `narrow`."""

    def __init__(self, behind: Registries, narrow: Callable[[Target, Registry], Registry]) -> None:
        self._behind = behind
        self._narrow = narrow

    def members(self, organization: Organization) -> AsyncGenerator[Account]:
        """See `Registries`."""
        return self._behind.members(organization)

    async def regions(self, account: Account) -> Mapping[str, bool]:
        """See `Registries`."""
        return await self._behind.regions(account)

    async def open(self, target: Target) -> Registry:
        """See `Registries`."""
        return self._narrow(target, await self._behind.open(target))


class FirstOfAll:
    """A registry of one repository, the first that is wanted, with the first page of its images: two requests."""

    def __init__(self, target: Target, behind: Registry, wanted: Filter) -> None:
        self._account = target.account
        self._behind = behind
        self._wanted = wanted

    def repositories(self) -> Fetch[str]:
        """See `Registry`."""
        fetch = self._behind.repositories()

        async def first(token: str | None) -> Page[str]:
            page = await fetch(token)
            return Page([name for name in page.items if self._wanted.repository(self._account, name)][:1], None)

        return first

    def parts(self, split: Split) -> Sequence[Part]:
        """See `Registry`."""
        return self._behind.parts(split)

    def images(self, repository: str, part: Part | None = None) -> Fetch[Image]:
        """See `Registry`."""
        fetch = self._behind.images(repository, part)

        async def first(token: str | None) -> Page[Image]:
            return Page((await fetch(token)).items, None)

        return first


class NamesOnly:
    """A registry whose repositories are all there, and whose images nobody asks for."""

    def __init__(self, behind: Registry) -> None:
        self._behind = behind

    def repositories(self) -> Fetch[str]:
        """See `Registry`."""
        return self._behind.repositories()

    def parts(self, split: Split) -> Sequence[Part]:
        """See `Registry`."""
        return self._behind.parts(split)

    def images(self, repository: str, part: Part | None = None) -> Fetch[Image]:  # noqa: ARG002 - as the protocol has it
        """See `Registry`. Sends nothing, and answers an empty page."""

        async def nothing(_: str | None) -> Page[Image]:
            return Page((), None)

        return nothing


class _Nowhere:
    """A `Sink` and its `Rows`, which keep nothing."""

    def holds(self, target: Target, repository: str | None = None) -> bool:  # noqa: ARG002 - as the protocol has it
        return False

    @contextmanager
    def repository(self, target: Target, name: str) -> Generator[_Nowhere]:  # noqa: ARG002 - the same
        yield self

    def target_ended(self, result: Result) -> None:
        pass

    async def send(self, images: Sequence[Image]) -> None:
        pass

    def commit(self, result: Result) -> None:
        pass


async def rehearse(
    settings: Settings, file: AccountsFile, ledger: Ledger, narrow: Callable[[Registries], Registries]
) -> None:
    """Walk as a crawl with these settings would, over what `narrow` makes of all registries.

    `ledger` is told how each unit ended. Raises as `Crawl` does.
    """
    async with registries_of(replace(settings, page_size=1), ledger.warn) as registries:
        crawl = Crawl(
            narrow(registries),
            _Nowhere(),
            ledger,
            limits=settings.limits(),
            policy=settings.policy(),
            wanted=settings.filter(),
            rows=settings.rows,
        )
        await crawl_all(crawl, ledger, settings, file)
    for option, left in (("--region", crawl.regions), ("--repository", crawl.repositories)):
        for glob in sorted(left.globs):
            ledger.warn(f"{option} matches nothing", glob)
