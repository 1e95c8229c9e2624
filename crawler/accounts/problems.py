"""What is wrong with the file: one line for each finding, with the place where the user must look."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

#: Keys and indices from the top of the file down to a value.
Path = tuple[str | int, ...]

#: A screen is enough: a file wrong in more places than this is wrong in one way.
SHOWN = 20

_QUOTED_LENGTH = 60
_PLAIN_KEY = re.compile(r"[A-Za-z0-9_<-]+")


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """A finding. `line` and `column` are 1-based, columns count characters; `path` is "" for the whole file."""

    line: int
    column: int
    path: str
    text: str


def shown(path: Path) -> str:
    """A path as users write it: `accounts[3].regions`, indices 0-based."""
    parts: list[str] = []
    for step in path:
        if isinstance(step, int):
            parts.append(f"[{step}]")
        else:
            key = step if _PLAIN_KEY.fullmatch(step) else quoted(step)
            parts.append(f".{key}" if parts else key)
    return "".join(parts)


def quoted(text: str) -> str:
    """The user's own text within a message: on one line, shortened, and unable to drive a terminal."""
    return repr(text if len(text) <= _QUOTED_LENGTH else f"{text[:_QUOTED_LENGTH]}…")


def lines(source: str, problems: Iterable[Problem]) -> Iterator[str]:
    """`file:line:column: path: text` for each, in the order of the file: at most `SHOWN`, then a count of the rest."""
    ordered = sorted(set(problems))
    for problem in ordered[:SHOWN]:
        where = f"{problem.path}: " if problem.path else ""
        yield f"{source}:{problem.line}:{problem.column}: {where}{problem.text}"
    if len(ordered) > SHOWN:
        yield f"… and {len(ordered) - SHOWN} more"
