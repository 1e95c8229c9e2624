from __future__ import annotations

import re
from pathlib import Path

import pytest

import crawler
from crawler.wording import counted


@pytest.mark.parametrize(
    ("number", "one", "told"),
    [
        (1, "target", "1 target"),
        (0, "target", "0 targets"),
        (2, "repository", "2 repositories"),
        (1, "repository", "1 repository"),
        (1_024, "image ID", "1,024 image IDs"),
    ],
)
def test_one_is_singular(number: int, one: str, told: str) -> None:
    assert counted(number, one) == told


def test_no_count_that_a_user_sees_goes_without() -> None:
    """A plural right behind a number in an f-string, which would read `1 targets`."""
    plural = re.compile(
        r"\{[^{}]*\} (?:accounts|changes|chains|checks|image IDs|images|pages|parts|regions|repositories|requests"
        r"|rows|targets|units|uploads)\b"
    )
    source = Path(crawler.__file__).parent
    found = [
        f"{path.name}: {line.strip()}"
        for path in sorted(source.rglob("*.py"))
        for line in path.read_text().splitlines()
        if plural.search(line) and "<Estate" not in line and "1 account, " not in line  # a debugging view, both forms
    ]
    assert found == []
