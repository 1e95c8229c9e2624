"""Every refusal of accounts.yaml, word for word: file, line, column, path, what is wrong, what to write instead."""

import re
from pathlib import Path

import pytest

from crawler.accounts import load
from crawler.errors import UsageError

CASES = [
    case
    for case in Path(__file__).with_name("refusals.txt").read_text("utf-8").strip().split("\n\n")
    if not case.startswith("#")
]


def refused(text: str, source: str = "f") -> list[str]:
    with pytest.raises(UsageError) as caught:
        load(source, text.encode())
    return str(caught.value).split("\n")


@pytest.mark.parametrize("case", CASES)
def test_word_for_word(case: str) -> None:
    text, *expected = re.split(r"\n> ", case)
    assert expected
    assert refused(text) == expected


def test_the_cases_are_all_there() -> None:
    assert len(CASES) > 100


def test_standard_input_has_a_name() -> None:
    assert refused("[]", "-") == ["<stdin>:1:1: expected a mapping, got a list; write accounts: and a list of accounts"]


def test_a_screen_of_problems() -> None:
    shown = refused("accounts:\n" + "- account_id: 1\n" * 5_000)
    assert len(shown) == 21
    assert shown[-1] == "… and 980 more"


def test_an_endless_role() -> None:
    role = f"arn:aws:iam::123456789012:role/{'a/' * 1100}a"
    (line,) = refused(f"accounts: [{{account_id: '123456789012', role: '{role}'}}]")
    assert line.startswith(f"f:1:47: accounts[0].role: '{role[:60]}…' is not the ARN of a role: ")
    assert "it is longer than 2048 characters; write one such as " in line


def test_an_external_id_is_not_repeated() -> None:
    (line,) = refused("accounts: [{account_id: '123456789012', role: x, external_id: 'my secret'}]")
    assert "secret" not in line
