"""What is wrong though each value may stand there: rows that would come twice, names of two accounts, of no region."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from difflib import get_close_matches
from fnmatch import filter as matching

from crawler.accounts.fields import is_region
from crawler.accounts.problems import Problem, quoted

#: From how much in common on a name may be a slip for another: `eu-west-9` and `eu-west-1` are, `mars-north-7` is none.
_CLOSE = 0.8


@dataclass(frozen=True, slots=True)
class Reach:
    """An account's way to one registry, its own or another's. `regions` as in `model.Account`; positions 1-based."""

    registry_id: str
    regions: tuple[str, ...]
    line: int
    column: int
    path: str


@dataclass(slots=True)
class _Seen:
    first: Reach
    #: The first that reads regions which only AWS can tell: by glob, or all.
    open_ended: Reach | None = None
    by_region: dict[str, Reach] = field(default_factory=dict[str, Reach])


def repeated(reaches: Iterable[Reach]) -> Iterator[Problem]:
    """Registries reached twice, unless both ways list plain region names and share none."""
    registries: dict[str, _Seen] = {}
    for reach in reaches:
        plain = all(is_region(region) for region in reach.regions)
        seen = registries.get(reach.registry_id)
        if seen is None:
            seen = registries[reach.registry_id] = _Seen(reach)
        elif other := _overlap(seen, reach, plain=plain):
            yield Problem(
                reach.line,
                reach.column,
                reach.path,
                f"the registry {reach.registry_id} is read already by {other.path} (line {other.line}): its rows would "
                "be repeated; remove one of the two, or give both plain region names that differ",
            )
        if not plain and seen.open_ended is None:
            seen.open_ended = reach
        for region in reach.regions:
            seen.by_region.setdefault(region, reach)


def _overlap(seen: _Seen, reach: Reach, *, plain: bool) -> Reach | None:
    if not plain:
        return seen.first
    shared = (seen.by_region[region] for region in reach.regions if region in seen.by_region)
    return seen.open_ended or next(shared, None)


def ambiguous(names: Iterable[tuple[str, int, int, str]]) -> Iterator[Problem]:
    """Warnings for (name, line, column, path) whose name came before."""
    first: dict[str, tuple[int, str]] = {}
    for name, line, column, path in names:
        if name not in first:
            first[name] = (line, path)
            continue
        before_line, before = first[name]
        text = f"{quoted(name)} is also {before} (line {before_line}); --account selects both"
        yield Problem(line, column, path, text)


def unknown_region(text: str, known: Collection[str]) -> str | None:
    """What to say of a name or glob that fits none of the regions that are known; it may be newer than they are."""
    if text in known:
        return None
    if not is_region(text):
        return (
            None if matching(known, text) else f"{quoted(text)} matches no region that this version knows; correct it"
        )
    close = get_close_matches(text, known, 1, _CLOSE)
    hint = f"did you mean {close[0]}?" if close else "correct it?"
    return f"{quoted(text)} is no region that this version knows; {hint} It is tried as written, for AWS opens new ones"
