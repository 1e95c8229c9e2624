"""An account of the emulated AWS, its registry in each region, and who may do what there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from crawler.emulator.images import Listed, Series
from crawler.emulator.throttle import Throttle


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository; `denied` is an explicit deny in its resource-based policy."""

    name: str
    images: Listed | Series
    denied: bool = False


#: Repositories of one registry in one region, by name.
Repositories = Mapping[str, Repository]


@dataclass(frozen=True, slots=True)
class Account:
    """One account.

    `state` is that of Organizations (ACTIVE, SUSPENDED, PENDING_CLOSURE, CLOSED, PENDING_ACTIVATION) and `ou` a path
    such as `prod/payments`, empty for the root. Without `regions` all of the estate are enabled. Its roles can be
    assumed with `external_id` where one is set, by `trusted` accounts where some are named, and not at all when
    `deny_role`. `deny` holds actions such as `ecr:ListImages` that the account's own policies do not allow. `readers`
    maps other accounts to globs of the repositories that they may list. `throttle` replaces the server's. `public` is
    what its registry in ECR Public holds.
    """

    id: str
    name: str = ""
    state: str = "ACTIVE"
    ou: str = ""
    regions: tuple[str, ...] = ()
    external_id: str | None = None
    trusted: tuple[str, ...] = ()
    deny_role: bool = False
    deny: tuple[str, ...] = ()
    readers: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    throttle: Throttle | None = None
    repositories: Mapping[str, Repositories] = field(default_factory=dict[str, Repositories])
    public: Repositories = field(default_factory=dict[str, Repository])

    def lets_list(self, reader: str, repository: str | None = None) -> bool:
        """Whether another account may list that repository, or anything at all here."""
        return any(repository is None or fnmatchcase(repository, glob) for glob in self.readers.get(reader, ()))
