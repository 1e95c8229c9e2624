"""What exists in the emulated AWS, and the truth that a crawl of it has to find."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from crawler.emulator import accounts_yaml, document, generate
from crawler.emulator.account import Account, Repositories
from crawler.emulator.details import detail
from crawler.emulator.images import EVERYTHING, PLAIN, Filter, Mix

#: The account that owns the hub key pair and manages the organization, unless the estate says otherwise.
HUB = "999999999999"

REGIONS = ("us-east-1", "eu-west-1", "ap-southeast-2")
_PARTITIONS = {"cn-": "aws-cn", "us-gov-": "aws-us-gov", "eusc-": "aws-eusc"}


class Row(NamedTuple):
    """One row of the truth; `tag` is None for an untagged image."""

    registry_id: str
    region: str
    repository: str
    digest: str
    tag: str | None


class Estate:
    """All accounts. `regions` are those that this AWS has; an account may have fewer of them enabled."""

    def __init__(self, accounts: Iterable[Account], *, hub: str = HUB, regions: Iterable[str] = ()) -> None:
        self.accounts = {account.id: account for account in accounts}
        self.hub = hub
        self.accounts.setdefault(hub, Account(hub, name="hub"))
        named = (region for account in self.accounts.values() for region in (*account.regions, *account.repositories))
        self.regions = tuple(dict.fromkeys((*regions, *named))) or REGIONS

    def __repr__(self) -> str:
        return f"<Estate: {len(self.accounts)} accounts, {len(self.regions)} regions, {self.total()} rows>"

    @property
    def partition(self) -> str:
        """The partition that the regions belong to: `aws`, `aws-cn`, and so on."""
        return next((name for prefix, name in _PARTITIONS.items() if self.regions[0].startswith(prefix)), "aws")

    def enabled(self, account: Account) -> tuple[str, ...]:
        """The regions enabled for the account."""
        return account.regions or self.regions

    def registries(self) -> Iterator[tuple[Account, str, Repositories]]:
        """Each (account, enabled region, repositories by name): the targets that can be crawled, empty ones too."""
        nothing: Repositories = {}
        for account in self.accounts.values():
            for region in self.enabled(account):
                yield account, region, account.repositories.get(region, nothing)

    def rows(self, *, tag_status: str = "ANY", image_status: str = "ANY") -> Iterator[Row]:
        """The truth: every row that ListImages has to give, with the filters of the API.

        Accounts that are not ACTIVE, and what policies hide, are part of it: filter by account where that matters.
        """
        wanted = Filter(tag_status, image_status)
        for account, region, repositories in self.registries():
            for repository in repositories.values():
                for digest, tag in repository.images.rows(wanted):
                    yield Row(account.id, region, repository.name, digest, tag)

    def details(self, *, tag_status: str = "ANY", image_status: str = "ANY") -> Iterator[tuple[str, dict[str, object]]]:
        """The truth for DescribeImages, as `rows` is for ListImages: the region and the details of each image."""
        wanted = Filter(tag_status, image_status)
        for account, region, repositories in self.registries():
            for repository in repositories.values():
                for image in repository.images.described(wanted, 0, len(repository.images)):
                    yield region, detail(account.id, repository.name, image)

    def total(self) -> int:
        """How many rows `rows()` gives, without making them."""
        return sum(r.images.total(EVERYTHING) for _, _, names in self.registries() for r in names.values())

    def accounts_yaml(self, role: str = "inventory") -> str:
        """A file for `--accounts` in the form `accounts:`, with all ACTIVE accounts and their enabled regions."""
        return accounts_yaml.listed([(a, self.enabled(a)) for a in self.accounts.values() if a.state == "ACTIVE"], role)

    def organization_yaml(self, role: str = "inventory") -> str:
        """A file for `--accounts` in the form `organization:`. It cannot carry an external id for each account."""
        return accounts_yaml.organization(self.regions, role)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Estate:
        """Read an estate file (YAML or JSON); `document.py` tells its format, and `example.yaml` is one.

        Raises ValueError with file and key of what is wrong, OSError if the file cannot be read.
        """
        try:
            parsed = document.parse(Path(path).read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
        return cls(parsed.accounts, hub=parsed.hub or HUB, regions=parsed.regions)

    @classmethod
    def generate(
        cls,
        seed: int = 0,
        *,
        accounts: int = 25,
        regions: Sequence[str] = REGIONS,
        empty: float = 0.6,
        largest: int = 5_000,
    ) -> Estate:
        """A realistic estate: most targets empty, sizes by Zipf's law. The same seed gives the same estate.

        `empty` is the share of targets without a repository, `largest` the number of images of the biggest one.
        """
        return cls(generate.skewed(seed, accounts, regions, empty=empty, largest=largest), regions=regions)

    @classmethod
    def uniform(
        cls,
        *,
        repositories: int,
        images: int,
        accounts: int = 1,
        regions: Sequence[str] = REGIONS[:1],
        filled: float = 1.0,
        mix: Mix = PLAIN,
        seed: int = 0,
    ) -> Estate:
        """For benchmarks: each filled target has `repositories` of `images` each; `filled` is the share of targets."""
        made = generate.uniform(
            seed, accounts, regions, repositories=repositories, images=images, filled=filled, mix=mix
        )
        return cls(made, regions=regions)

    @cached_property
    def ous(self) -> Mapping[str, str]:
        """Organizational units by path: their id in Organizations, parents before children; "" is the root's."""
        paths = {"": "r-root"}
        for account in self.accounts.values():
            parts = account.ou.split("/") if account.ou else []
            for depth in range(1, len(parts) + 1):
                path = "/".join(parts[:depth])
                paths.setdefault(path, f"ou-root-{len(paths):08d}")
        return paths
