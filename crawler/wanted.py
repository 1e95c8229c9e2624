"""Which regions and repositories are wanted, and which of the globs that say so match nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from fnmatch import fnmatchcase

from crawler.model import PUBLIC_REGION, Account, Target


@dataclass(frozen=True, slots=True)
class Filter:
    """Which regions and repositories to crawl, by globs on their names; none means all. An account's own narrow it."""

    regions: tuple[str, ...] = ()
    repositories: tuple[str, ...] = ()
    exclude_repositories: tuple[str, ...] = ()

    def region(self, name: str) -> bool:
        """Tell whether this region is wanted."""
        return not self.regions or _matches(name, self.regions)

    def targets(self, account: Account, regions: Iterable[str]) -> list[Target]:
        """The wanted registries of an account that has these regions, each once, and that of ECR Public with them."""
        # Named twice is crawled once: a repeated target would repeat its rows.
        registry_ids = dict.fromkeys((account.account_id, *account.registries))
        targets = [
            Target(account, region, registry_id)
            for region in dict.fromkeys(filter(self.region, regions))
            for registry_id in registry_ids
        ]
        if account.public and self.region(PUBLIC_REGION):
            targets.append(Target.of_public(account))
        return targets

    def repository(self, account: Account, name: str) -> bool:
        """Tell whether both these globs and the account's want this repository."""
        return (
            (not self.repositories or _matches(name, self.repositories))
            and (not account.repositories or _matches(name, account.repositories))
            and not _matches(name, (*self.exclude_repositories, *account.exclude_repositories))
        )


def _matches(name: str, globs: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, glob) for glob in globs)


class Unmatched:
    """Globs that have matched nothing so far: slips of the pen, perhaps."""

    def __init__(self, globs: Iterable[str]) -> None:
        self.globs = set(globs)

    def see(self, names: Iterable[str]) -> None:
        """Take out the globs that match one of the names. Costs nothing once all have matched."""
        if self.globs:
            self.globs = {glob for glob in self.globs if not any(fnmatchcase(name, glob) for name in names)}


def told_unmatched(
    asked: Mapping[str, Sequence[str]], regions: AbstractSet[str], repositories: AbstractSet[str]
) -> Iterator[tuple[str, str]]:
    """Warnings of what matched nothing, beside what did: text and glob. `asked` is what each option was given."""
    for option, left, text in (
        ("region", regions, "--region matches no region of these accounts"),
        ("repository", repositories, "--repository matches none that was listed; globs match whole names"),
    ):
        if len(left) < len(set(asked[option])):
            yield from ((text, glob) for glob in sorted(left))


def pieces(values: Iterable[str]) -> tuple[str, ...]:
    """`a,b` and `a` `b` are the same two values."""
    return tuple(piece for value in values for piece in (part.strip() for part in value.split(",")) if piece)
