"""YAML where every scalar stays the text that was written, and every node knows its line and column.

PyYAML's loaders guess types by YAML 1.1: `012345670123` becomes an octal number and `NO` becomes false. Only its parser
is used here: events, one at a time, so that depth and size are bounded while reading. Its composer recurses (in C,
where depth ends in a crash) and expands aliases, a bomb of a few lines.

Syntax: https://yaml.org/spec/1.1/
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from sys import intern
from typing import NoReturn, cast

import yaml
from yaml.events import (
    AliasEvent,
    CollectionEndEvent,
    CollectionStartEvent,
    DocumentStartEvent,
    Event,
    MappingStartEvent,
    ScalarEvent,
)

from crawler.accounts.problems import Path, Problem, quoted, shown

#: 10 MiB are some 40,000 accounts with everything written out, four times the largest organizations.
MAX_BYTES = 10 * 1024 * 1024
MAX_DEPTH = 20
MAX_NODES = 1_000_000

#: A document so broken is not read on: memory must not grow with the number of its errors.
_MAX_PROBLEMS = 1_000

_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_SURROGATE = re.compile("[\ud800-\udfff]")


#: The C parser is 20 times as fast, but PyYAML can be built without it.
LOADER: type[yaml.CSafeLoader | yaml.SafeLoader] = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader


@dataclass(slots=True, eq=False)
class Node:
    """A value of the file: text, None for an empty value (nothing, `~` or `null`, unquoted), a list or a mapping.

    `line` and `column` are 1-based and those of the value; `key_line` and `key_column` those of its key in a mapping.
    """

    line: int
    column: int
    value: str | list[Node] | dict[str, Node] | None
    key_line: int = 0
    key_column: int = 0

    def plain(self, depth: int = MAX_DEPTH) -> object:
        """The value without positions, down to `depth` levels of lists and mappings; what is deeper stays a node."""
        if isinstance(self.value, list):
            return [node.plain(depth - 1) for node in self.value] if depth else self
        if isinstance(self.value, dict):
            return {key: node.plain(depth - 1) for key, node in self.value.items()} if depth else self
        return self.value

    def find(self, path: Path) -> tuple[Node, Path]:
        """The deepest node on the way down `path`, and the part of the path that leads to it."""
        node = self
        for depth, step in enumerate(path):
            child = node._child(step)
            if child is None:
                return node, path[:depth]
            node = child
        return node, path

    def _child(self, step: str | int) -> Node | None:
        if isinstance(self.value, dict) and isinstance(step, str):
            return self.value.get(step)
        if isinstance(self.value, list) and isinstance(step, int) and step < len(self.value):
            return self.value[step]
        return None


@dataclass(slots=True)
class Document:
    """What was read. `root` is None where the file could not be read to its end; then `problems` say why."""

    root: Node | None = None
    problems: list[Problem] = field(default_factory=list[Problem])


def read(data: bytes) -> Document:
    """The one document in `data`, UTF-8 with or without a byte order mark. It never raises."""
    if len(data) > MAX_BYTES:
        size = f"{len(data) / 1024 / 1024:.1f} MiB are more than the {MAX_BYTES // 1024 // 1024} MiB that are read"
        return _unread(1, 1, f"{size}; split the accounts over several files and crawl each, or use organization:")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8-sig")
        return _unread(*_end(before), f"byte 0x{data[error.start]:02x} is not UTF-8; save the file as UTF-8")
    if unprintable := _UNPRINTABLE.search(text):
        found = f"the control character U+{ord(unprintable[0]):04X} is not allowed in YAML; remove it"
        return _unread(*_end(text[: unprintable.start()]), found)
    reader = _Reader()
    try:
        for event in yaml.parse(text, Loader=LOADER):
            reader.take(event)
    except yaml.MarkedYAMLError as error:
        reader.problems.append(_syntax(error, text))
    except _StopReadingError as stop:
        reader.problems.append(stop.problem)
    else:
        if reader.root is not None and reader.root.value is not None:
            return Document(reader.root, reader.problems)
        reader.problems.append(Problem(1, 1, "", "the file is empty; write accounts: and a list of accounts"))
    return Document(None, reader.problems)


def _unread(line: int, column: int, text: str) -> Document:
    return Document(None, [Problem(line, column, "", text)])


def _end(text: str) -> tuple[int, int]:
    """Line and column, 1-based, of what follows `text`."""
    return text.count("\n") + 1, len(text) - text.rfind("\n")


def _syntax(error: yaml.MarkedYAMLError, text: str) -> Problem:
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    rows = text.splitlines()
    rest = rows[line - 1][column - 1 :] if line <= len(rows) else ""
    problem = error.problem or "it cannot be parsed"
    if rest.startswith("\t"):
        problem = "a tab cannot indent; use spaces"
    elif "scanning an alias" in (error.context or ""):
        problem = "text that starts with * must be quoted: '*-prod'"
    elif rest[:1] in tuple("@`%"):
        problem = f"text that starts with {rest[0]} must be quoted"
    elif "mapping values are not allowed" in problem:
        problem = "a second ':' in one line; quote text that contains ': ', or mend the indentation"
    elif error.context:
        problem = f"{problem} {error.context}"
    return Problem(line, column, "", f"not valid YAML: {problem}")


class _StopReadingError(Exception):
    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.problem = problem


@dataclass(slots=True)
class _Open:
    """A list or mapping whose end has not come. `step` is its place in the one around it, None for the outermost."""

    node: Node
    step: str | int | None
    #: A key that waits for its value; None where a key is next.
    key: ScalarEvent | None = None
    #: The next value belongs to a key that was refused, so it is read and left out.
    drop: bool = False

    def next_step(self) -> str | int | None:
        """Where the next value will be: its index or its key."""
        if isinstance(self.node.value, list):
            return len(self.node.value)
        return self.key.value if self.key else None


class _Reader:
    """Builds nodes from events with a stack of its own, so the depth of the file is not the depth of our calls."""

    def __init__(self) -> None:
        self.root: Node | None = None
        self.problems: list[Problem] = []
        self._stack: list[_Open] = []
        self._nodes = 0

    def take(self, event: Event) -> None:
        if isinstance(event, ScalarEvent):
            self._scalar(event)
        elif isinstance(event, CollectionStartEvent):
            self._open(event)
        elif isinstance(event, CollectionEndEvent):
            self._stack.pop()
        elif isinstance(event, AliasEvent):
            if not (self._stack and self._stack[-1].drop):  # the value of a merge key, which is refused already
                hint = f"if a glob is meant, quote it: {quoted('*' + (event.anchor or ''))}"
                self._refuse(event, f"aliases are not read; write the value out, or, {hint}")
            self._add(Node(*_place(event), None), event)
        elif isinstance(event, DocumentStartEvent) and self.root is not None:
            self._stop(event, "a second document starts here; keep one, and remove the line ---")

    def _scalar(self, event: ScalarEvent) -> None:
        if event.tag is not None:
            self._refuse(event, f"the tag {quoted(event.tag)} is not read; remove it, every value is taken as text")
        if LOADER is yaml.SafeLoader and _SURROGATE.search(event.value):  # the C parser refuses these itself
            self._stop(event, "not valid YAML: half a surrogate pair; write the character itself")
        value = None if not event.style and event.value in _NULLS else event.value
        self._add(Node(*_place(event), value), event)

    def _open(self, event: CollectionStartEvent) -> None:
        if event.tag is not None:
            self._refuse(event, f"the tag {quoted(event.tag)} is not read; remove it")
        if len(self._stack) == MAX_DEPTH:
            self._stop(event, f"nested more than {MAX_DEPTH} levels deep; an accounts file needs five")
        node = Node(*_place(event), {} if isinstance(event, MappingStartEvent) else [])
        step = self._stack[-1].next_step() if self._stack else None
        self._add(node, event)
        self._stack.append(_Open(node, step))

    def _add(self, node: Node, event: Event) -> None:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            self._stop(event, f"more than {MAX_NODES:,} values; split the accounts over several files")
        if not self._stack:
            self.root = node
            return
        top = self._stack[-1]
        if isinstance(top.node.value, list):
            top.node.value.append(node)
        elif top.drop:
            top.drop = False
        elif top.key is None:
            self._key(top, event)
        else:
            node.key_line, node.key_column = _place(top.key)
            if node.key_line == node.line:
                node.key_line = node.line  # the same object: ints are a third of what nodes cost
            # Ten keys in each of 10,000 accounts are ten texts, not as many as there are keys.
            cast("dict[str, Node]", top.node.value)[intern(top.key.value)] = node
            top.key = None

    def _key(self, top: _Open, event: Event) -> None:
        siblings = cast("dict[str, Node]", top.node.value)
        top.drop = True
        if not isinstance(event, ScalarEvent):
            if not isinstance(event, AliasEvent):  # an alias has been refused already
                self._refuse(event, "a key must be plain text, not a list or a mapping")
        elif event.value == "<<" and not event.style:
            self._refuse(event, "merge keys (<<) are not read; write the keys out")
        elif event.value in siblings:
            first = siblings[event.value]
            path = (*self._path(), event.value)
            place = f"{first.key_line}:{first.key_column}"
            self._refuse(event, f"given twice, first at {place}; keep one of the two", path)
        else:
            top.key, top.drop = event, False

    def _path(self) -> Path:
        steps = [level.step for level in self._stack]
        if self._stack:
            steps.append(self._stack[-1].next_step())
        return tuple(step for step in steps if step is not None)

    def _refuse(self, event: Event, text: str, path: Path | None = None) -> None:
        self.problems.append(Problem(*_place(event), shown(self._path() if path is None else path), text))
        if len(self.problems) >= _MAX_PROBLEMS:
            self._stop(event, "too many errors; the rest of the file was not read")

    def _stop(self, event: Event, text: str) -> NoReturn:
        raise _StopReadingError(Problem(*_place(event), shown(self._path()), text))


def _place(event: Event) -> tuple[int, int]:
    mark = event.start_mark
    return (mark.line + 1, mark.column + 1) if mark else (1, 1)
