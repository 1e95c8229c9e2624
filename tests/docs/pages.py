"""The commands of the documentation, on the pages as they are built: with what is included from the README."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from functools import cache
from operator import itemgetter
from pathlib import Path

from markdown import Markdown

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

_FENCED = re.compile(
    r"^(?P<indent> *)```(?P<language>\S*)[^\n]*\n(?P<body>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL
)
_INLINE = re.compile(r"(?<!`)`([^`]+)`(?!`)")
_COMMAND = re.compile(r"(python -m|crawler|make|docker|aws|pip|kubectl) \S")
#: `crawler diff` names a command; `crawler diff RUN_A RUN_B` and `--output …` are about any: nobody types them so.
_MENTION = re.compile(r"crawler [a-z]+|python -m crawler|.*(…|\b[A-Z_]{3,}\b|\bI/N\b).*", re.DOTALL)


@cache
def text_of(page: Path) -> str:
    """A page with its includes expanded, by the extension that mkdocs.yml names."""
    built = Markdown(
        extensions=["pymdownx.snippets"],
        extension_configs={"pymdownx.snippets": {"base_path": [str(ROOT)], "check_paths": True}},
    )
    return "\n".join(built.preprocessors["snippet"].run(page.read_text().split("\n")))


def without_blocks(text: str) -> str:
    """What stands outside of fenced code."""
    return _FENCED.sub("", text)


def languages(text: str) -> set[str]:
    """Of the fenced blocks."""
    return {found["language"] for found in _FENCED.finditer(text)}


def steps(page: Path) -> Iterator[tuple[str, str | None]]:
    """Commands of a page in their order, each with what is said to come of it; None where nothing is said of that."""
    text = text_of(page)
    found: list[tuple[int, str, str | None]] = []
    for block in _FENCED.finditer(text):
        if block["language"] == "console":
            found.extend((block.start(), *step) for step in _typed(textwrap.dedent(block["body"])))
    blanked = _FENCED.sub(lambda block: " " * len(block[0]), text)
    for code in _INLINE.finditer(blanked):
        command = " ".join(code[1].split())
        if _COMMAND.match(command) and not _MENTION.fullmatch(command):
            found.append((code.start(), command, None))
    yield from ((command, told) for _, command, told in sorted(found, key=itemgetter(0)))


def _typed(block: str) -> list[tuple[str, str | None]]:
    found = []
    for step in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        parted = re.fullmatch(r"((?:[^\n]*\\\n)*[^\n]*)\n?(.*)", step, re.DOTALL)
        assert parted
        found.append((parted[1], parted[2].rstrip("\n")))
    # A block of commands alone shows what to type, and nothing of what comes of it.
    return [(command, told if any(each for _, each in found) else None) for command, told in found]
