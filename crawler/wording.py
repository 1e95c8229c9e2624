"""Numbers as a sentence has them."""

from __future__ import annotations


def counted(number: int, one: str) -> str:
    """`1 target`, `2 targets`, `1,024 repositories`, `0 requests`; `one` is the noun of a single thing."""
    if number == 1:
        return f"1 {one}"
    return f"{number:,} {one[:-1]}ies" if one.endswith("ry") else f"{number:,} {one}s"
