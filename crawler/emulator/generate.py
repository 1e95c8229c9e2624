"""Accounts from a seed."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from crawler.emulator.account import Account, Repositories, Repository
from crawler.emulator.images import MIXED, Mix, Series

_TEAMS = ("payments", "search", "identity", "data", "mobile", "platform", "risk", "web", "billing", "ml")
_PARTS = ("api", "worker", "frontend", "cron", "gateway", "batch", "proxy", "migrations", "sidecar", "base")
_OUS = ("prod", "dev", "prod/eu", "")
_MOST_REPOSITORIES = 40
_WITHOUT_IMAGES = 0.1


def skewed(seed: int, accounts: int, regions: Sequence[str], *, empty: float, largest: int) -> list[Account]:
    """See `Estate.generate`. Sizes are `largest / rank`, dealt out at random: a few are huge and most are small."""
    random = Random(seed)  # noqa: S311 - an estate is no secret  # nosec B311
    targets = [(number, region) for number in range(1, accounts + 1) for region in regions]
    # At least one is filled: an estate without an image would prove nothing.
    filled = sorted(random.sample(targets, k=max(1, round(len(targets) * (1 - empty)))))  # nosec B311
    counts = {target: min(_MOST_REPOSITORIES, int(random.paretovariate(0.8))) for target in filled}
    ranks = list(range(1, sum(counts.values()) + 1))
    random.shuffle(ranks)
    repositories: dict[int, dict[str, Repositories]] = {}
    for (number, region), count in counts.items():
        sizes = [0 if random.random() < _WITHOUT_IMAGES else largest // ranks.pop() for _ in range(count)]  # nosec B311
        key = f"{seed}/{account_id(number)}/{region}"
        repositories.setdefault(number, {})[region] = _repositories(key, [_name(i) for i in range(count)], sizes, MIXED)
    return [
        Account(
            account_id(number),
            f"{_TEAMS[number % len(_TEAMS)]}-{number}",
            ou=_OUS[number % len(_OUS)],
            repositories=repositories.get(number, {}),
        )
        for number in range(1, accounts + 1)
    ]


def uniform(
    seed: int, accounts: int, regions: Sequence[str], *, repositories: int, images: int, filled: float, mix: Mix
) -> list[Account]:
    """See `Estate.uniform`. Filled targets are spread evenly over all."""
    names = [f"team-{n % 97:02d}/service-{n:05d}" for n in range(repositories)]

    def in_regions(number: int) -> dict[str, Repositories]:
        first = (number - 1) * len(regions)
        # Target i is filled when the running total passes a whole number there: 0.1 fills every tenth.
        chosen = [r for i, r in enumerate(regions, first) if int((i + 1) * filled) > int(i * filled)]
        key = f"{seed}/{account_id(number)}"
        return {region: _repositories(f"{key}/{region}", names, [images] * len(names), mix) for region in chosen}

    return [Account(account_id(n), f"account-{n}", repositories=in_regions(n)) for n in range(1, accounts + 1)]


def account_id(number: int) -> str:
    """Twelve digits, the first of which are zeros: the kind that careless YAML takes for an octal number."""
    return f"{number:012d}"


def _name(number: int) -> str:
    return f"{_TEAMS[number % len(_TEAMS)]}/{_PARTS[number // len(_TEAMS) % len(_PARTS)]}-{number}"


def _repositories(key: str, names: Sequence[str], sizes: Sequence[int], mix: Mix) -> Repositories:
    return {name: Repository(name, Series(f"{key}/{name}", size, mix)) for name, size in zip(names, sizes, strict=True)}
