"""What is crawled: the estates, and what they cost at least in requests."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from math import ceil

import botocore.session

from crawler.emulator import Account, Estate

#: Owns everything in the works of one account; the other one is empty, to measure a client's own start-up.
FILLED, EMPTY = "000000000001", "000000000002"
REGION = "us-east-1"
_PAGE = 1000


@dataclass(frozen=True)
class Work:
    """`accounts` accounts in `regions` regions, of whose registries `filled` have `repositories` of `images` each.

    A registry refuses what exceeds `rate` a second and `burst` at once (None: nothing), after `latency` seconds each.
    With one account the caller's own keys are used, with more a role is assumed in each. Rates are told in `unit`.
    """

    name: str
    unit: str
    repositories: int
    images: int
    accounts: int = 1
    regions: int = 1
    filled: float = 1.0
    tls: bool = False
    rate: float | None = None
    burst: float = 1.0
    latency: float = 0.0

    @property
    def title(self) -> str:
        """What it is, in words."""
        if self.accounts == 1:
            return f"{self.repositories:,} repositories × {self.images:,} images"
        return f"{len(self.targets()):,} targets{' over TLS' if self.tls else ''}, {1 - self.filled:.0%} empty"

    @cached_property
    def estate(self) -> Estate:
        """The same for the same numbers, in every process."""
        names = botocore.session.get_session().get_available_regions("ecr") if self.regions > 1 else [REGION]
        made = Estate.uniform(
            repositories=self.repositories,
            images=self.images,
            accounts=self.accounts,
            regions=names[: self.regions],
            filled=self.filled,
        )
        empty = [Account(EMPTY)] if self.accounts == 1 else []
        return Estate([*made.accounts.values(), *empty], regions=made.regions)

    def targets(self, accounts: int | None = None) -> list[tuple[str, str]]:
        """(account, region) of all that is crawled, or of the first `accounts` accounts."""
        ids = list(self.estate.accounts)[: accounts or self.accounts]
        return [(id_, region) for id_ in ids for region in self.estate.regions]

    def repositories_of(self, account: str, region: str) -> list[str]:
        """Names of the repositories there."""
        return list(self.estate.accounts[account].repositories.get(region, ()))

    def requests(self, accounts: int | None = None) -> int:
        """ECR requests that nobody can do without: 1,000 results a page, and one page where there is nothing."""
        images = max(1, ceil(self.images / _PAGE))
        found = [len(self.repositories_of(*target)) for target in self.targets(accounts)]
        return sum(max(1, ceil(count / _PAGE)) + count * images for count in found)

    def lines(self, accounts: int | None = None) -> Iterator[bytes]:
        """The truth as NDJSON: what a client of these accounts must write, in any order."""
        ids = {account for account, _ in self.targets(accounts)}
        for row in self.estate.rows():
            if row.registry_id in ids:
                yield (
                    f'{{"registryId":"{row.registry_id}","region":"{row.region}","repositoryName":"{row.repository}",'
                    f'"imageDigest":"{row.digest}","imageTag":"{row.tag}"}}\n'
                ).encode()

    def accounts_yaml(self, accounts: int | None = None, *, empty: bool = False) -> str:
        """The accounts file: of all, of the first `accounts`, or (`empty`) of one registry without a repository."""
        regions = self.estate.regions
        if self.accounts == 1:
            return f"accounts:\n- account_id: '{EMPTY if empty else FILLED}'\n  regions: [{REGION}]\n"
        ids = list(self.estate.accounts)[: accounts or self.accounts]
        if empty:
            id_, region = next(target for target in self.targets() if not self.repositories_of(*target))
            ids, regions = [id_], (region,)
        entries = (f"- account_id: '{id_}'\n  role: inventory\n  regions: [{', '.join(regions)}]\n" for id_ in ids)
        return "accounts:\n" + "".join(entries)


def works(*, quick: bool) -> dict[str, Work]:
    """All works by name; `quick` ones are so small that they prove only that the benchmark itself works."""
    if quick:
        pages, small, wide = (3, 2_000), (30, 10), (3, 4)
        million, ten_million, later, many = (3, 2_000), (3, 4_000), (3, 4_020), (6, 10)
        throttled, burst, several, resumed, longer = (30,), 20.0, (2, 2_000, 6), (30, 200), (40, 200)
    else:
        pages, small, wide = (100, 20_000), (20_000, 10), (300, 34)
        million, ten_million, later, many = (100, 10_000), (100, 100_000), (100, 100_500), (3_000, 34)
        throttled, burst, several, resumed, longer = (400,), 40.0, (20, 20_000, 40), (2_000, 10_000), (4_000, 10_000)
    made = (
        Work("pages", "rows", *pages),
        Work("small", "requests", *small),
        Work("targets", "targets", 2, 10, *wide, filled=0.1, tls=True),
        Work("throttle", "requests", *throttled, 10, rate=20.0, burst=burst, latency=0.03),
        Work("memory-1m", "rows", *million),
        Work("memory-10m", "rows", *ten_million),
        Work("later-10m", "rows", *later),
        Work("resumed", "rows", *resumed),
        Work("resumed-longer", "rows", *longer),
        Work("workers", "rows", *several, filled=0.5),
        Work("memory-targets", "targets", 2, 10, *many, filled=0.1, tls=True),
    )
    return {work.name: work for work in made}
