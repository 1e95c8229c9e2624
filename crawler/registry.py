"""What `crawl.py` sees of the world behind it: two protocols, implemented by `aws/` and by the fakes of the tests."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Protocol

from crawler.model import Account, Fetch, Image, Organization, Part, Split, Target


class Registry(Protocol):
    """One target, opened. Each call of a method starts a new chain; nothing is sent before its Fetch is awaited.

    A Fetch makes one attempt: it raises a `CrawlError` (see `errors.py`) and neither paces nor retries. A stall is no
    answer: it keeps a deadline of its own for each request, and raises `Transient`. Not one around the whole attempt:
    that may have to renew keys first, which has retries and deadlines of its own, and would begin anew each time.
    """

    def repositories(self) -> Fetch[str]:
        """Names of the repositories, as DescribeRepositories pages them."""
        ...

    def images(self, repository: str, part: Part | None = None) -> Fetch[Image]:
        """Images of one repository, or of a part of it, as rows want them.

        Image IDs as ListImages pages them, one for each (digest, tag); or details as DescribeImages does.
        """
        ...

    def parts(self, split: Split) -> Sequence[Part]:
        """The parts that are together what is listed of a repository, split as far as `split` says."""
        ...


class Registries(Protocol):
    """Every registry that our identities open."""

    def members(self, organization: Organization) -> AsyncGenerator[Account]:
        """The active accounts of an organization, each once.

        Makes its own attempts last: retries inside, then `CrawlError`.
        """
        ...

    async def regions(self, account: Account) -> Mapping[str, bool]:
        """The regions of the account's list, each with whether AWS itself calls it enabled there.

        Plain names are taken at their word, and so are those of the partition where AWS may not be asked: False.
        Assumes the account's role where it has to ask. Retries inside, then `CrawlError`.
        """
        ...

    async def open(self, target: Target) -> Registry:
        """Find the target's endpoint and the keys to ask it with, assuming the account's role where it has one.

        Retries inside, then `CrawlError`.
        """
        ...
