"""The table of tests/README.md names tests and faults that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from tests.program.fault_matrix import ALWAYS, ONCE

TESTS = Path(__file__).parents[1]
TABLE = (TESTS / "README.md").read_text().partition("| fault | test |")[2]


def functions_of(file: str) -> set[str]:
    functions = ast.FunctionDef, ast.AsyncFunctionDef
    return {node.name for node in ast.walk(ast.parse((TESTS / file).read_text())) if isinstance(node, functions)}


def test_every_test_that_is_named_exists() -> None:
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", TABLE)
    assert len(named) > 50
    assert {(file, name) for file, name in named if name not in functions_of(file)} == set()


def test_every_fault_that_is_named_strikes_in_the_test_beside_it() -> None:
    strikes = {
        "test_a_fault_that_passes_loses_nothing": ONCE,
        "test_a_fault_that_stays_is_told_and_never_called_complete": ALWAYS,
    }
    named = re.findall(r"::(\w+)` \(([\w,\- ]+)\)", TABLE)
    assert len(named) > 10
    assert {
        (test, fault) for test, faults in named for fault in faults.split(", ") if fault not in strikes[test]
    } == set()


def test_every_line_has_a_test_and_says_what_it_asserts() -> None:
    lines = [re.split(r"(?<!\\)\|", line) for line in TABLE.splitlines()[2:] if line.startswith("|")]
    assert len(lines) > 20
    assert all("::test_" in tests and asserted.strip() for _, _, tests, asserted, _ in lines)
