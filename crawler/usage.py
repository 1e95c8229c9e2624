"""How commands are typed: an example of each, and what is said of one that cannot be meant."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING

from cyclopts import Argument, CycloptsError, CycloptsPanel, MissingArgumentError, UnusedCliTokensError

if TYPE_CHECKING:
    from rich.panel import Panel

#: One of each command that needs to be told something. Short enough for a line of a terminal.
EXAMPLES = {
    "clean": "crawler clean --output s3://bucket/inventory/",
    "completion": "crawler completion bash > completion.bash",
    "diff": "crawler diff monday tuesday --output s3://bucket/inventory/",
    "doctor": "crawler doctor --accounts accounts.yaml",
    "import": "crawler import profiles > accounts.yaml",
    "plan": "crawler plan --accounts accounts.yaml",
    "policy": "crawler policy --accounts accounts.yaml",
    "report": "crawler report monday --output s3://bucket/inventory/ -o report.html",
    "runs": "crawler runs --output s3://bucket/inventory/",
    "shard": "crawler shard 3/8 --accounts accounts.yaml --run-id monday --output out/",
    "show": "crawler show monday --output s3://bucket/inventory/",
}
_OF_RUNS = frozenset(("diff", "report", "show"))


def for_example(command: str) -> str:
    """The last words of a command's help."""
    return f"For example:\n\n{EXAMPLES[command]}" if command in EXAMPLES else ""


def told(error: CycloptsError, commands: Sequence[str]) -> Panel:
    """What is wrong with a command line, and what to type; of what is left to cyclopts, its own words."""
    command = error.command_chain[0] if error.command_chain else ""
    if isinstance(error, UnusedCliTokensError) and error.unused_tokens:
        return CycloptsPanel(_unused(error.unused_tokens[0], command, commands))
    if isinstance(error, MissingArgumentError) and command in EXAMPLES and error.argument:
        return CycloptsPanel(f"{_missing(error.argument, error.keyword)}\n{_next(command)}")
    return CycloptsPanel(error)


def _unused(word: str, command: str, commands: Sequence[str]) -> str:
    if command:
        return f'"{word}" means nothing to crawler {command}.\n{_next(command)}'
    if close := get_close_matches(word, commands, n=1):
        return f'"{word}" is no command. Did you mean crawler {close[0]}?'
    return f'"{word}" means nothing here. Is --accounts missing before it?'


def _missing(argument: Argument, typed: str | None) -> str:
    what = (argument.parameter.help or "").removesuffix(".")
    if typed:
        return f"{typed} has no value: {what}."
    field = argument.field_info
    name = argument.name if field.kind is field.KEYWORD_ONLY else argument.name.lstrip("-").replace("-", "_").upper()
    return f"{name} is missing: {what}."


def _next(command: str) -> str:
    lists = "\n`crawler runs --output …` lists the runs that there are." if command in _OF_RUNS else ""
    example = f"For example:\n  {EXAMPLES[command]}" if command in EXAMPLES else ""
    return f"{example}{lists}\n`crawler {command} --help` has all options.".lstrip()
