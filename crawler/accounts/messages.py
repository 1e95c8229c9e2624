"""pydantic's errors, in words for who wrote the file: where, what is wrong, and what to write instead."""

from __future__ import annotations

import re
from collections.abc import Iterator
from difflib import get_close_matches
from functools import lru_cache
from typing import TYPE_CHECKING, cast

from pydantic import BaseModel, ValidationError

from crawler.accounts.problems import Path, Problem, shown
from crawler.accounts.schema import AccountEntry, Defaults, OrganizationEntry, Outline, Settings

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

    from crawler.accounts.document import Node

_LONGEST_ECHO = 40
#: An account with more keys holds data, not settings, and to look for slips in it takes long.
_MANY_KEYS = 100
_UNQUOTED = re.compile(r"[A-Za-z][\w./@-]*(:+[\w./@-]+)*", re.ASCII)

_EXPECTED = {
    "string_type": "a string",
    "list_type": "a list of strings",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "enum": "a string",
    "int_type": "a number",
    "float_type": "a number",
    "bool_type": "true or false",
}
_OTHER_CLOUDS = {"subscriptions": "Azure", "projects": "Google Cloud", "tenancies": "Oracle Cloud"}


def problems(error: ValidationError, root: Node, path: Path) -> Iterator[Problem]:
    """One problem for each of the errors that pydantic found in the node at `path`."""
    for details in error.errors(include_url=False):
        location = (*path, *details["loc"])
        node, found = root.find(location)
        kind = details["type"]
        if kind == "missing":
            yield Problem(node.line, node.column, shown(location), f"is missing; write {_example(location)}")
        elif kind == "extra_forbidden":
            yield Problem(node.key_line, node.key_column, shown(location), _unknown(location))
        else:
            yield Problem(node.line, node.column, shown(found), _wrong(details, found))


def _wrong(details: ErrorDetails, path: Path) -> str:
    kind, value = details["type"], cast("object", details["input"])
    context = details.get("ctx", {})
    if kind == "value_error":
        return str(context["error"])
    if kind == "too_short":
        return f"is empty; write {_example(path)}"
    if kind == "too_long":
        return f"has more than {context['max_length']} entries; remove some"
    if not path:
        return f"expected a mapping, got {_kind(value)}; write accounts: and a list of accounts"
    return f"expected {_expected(kind, path)}, got {_kind(value)}; write {_instead(kind, value, path)}"


def _expected(kind: str, path: Path) -> str:
    if kind == "list_type" and path[-1] == "accounts":
        return "a list of accounts"
    if kind == "list_type" and path[-1] == "role":
        return "a string or a list of strings"
    return _EXPECTED[kind]


def _kind(value: object) -> str:
    if value is None:
        return "no value"
    return "a string" if isinstance(value, str) else "a list" if isinstance(value, list) else "a mapping"


def _instead(kind: str, value: object, path: Path) -> str:
    """The user's own value as a list, where only the brackets are missing; else an example."""
    if (
        kind == "list_type"
        and path[-1] != "accounts"
        and isinstance(value, str)
        and len(value) <= _LONGEST_ECHO
        and value.isprintable()
    ):
        items = [item.strip() for item in value.split(",")]
        return f"{path[-1]}: {_flow(items)}"
    return _example(path)


def _example(path: Path) -> str:
    """An example for the key at the end of `path`, or for the key whose entry or tag that is."""
    models: list[type[BaseModel]] = [Outline] if len(path) == 1 else [Settings, AccountEntry]
    if path[0] == "organization" and len(path) > 1:
        models = [Defaults, OrganizationEntry]
    examples = {key: field.examples for model in models for key, field in model.model_fields.items()}
    for step in reversed(path):
        if isinstance(step, str) and (example := examples.get(step)):
            return f"{step}: {_flow(example[0])}"
    return _flow({"account_id": "123456789012"})


def _flow(value: object) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_flow(item) for item in cast('list[object]', value))}]"
    if isinstance(value, dict):
        items = cast("dict[str, object]", value).items()
        return f"{{{', '.join(f'{key}: {_flow(item)}' for key, item in items)}}}"
    text = str(value).lower() if isinstance(value, bool) else str(value)
    quotes = isinstance(value, str) and not _UNQUOTED.fullmatch(text)
    return "'" + text.replace("'", "''") + "'" if quotes else text


def _unknown(path: Path) -> str:
    *above, last = path
    key = str(last)
    if not above and key in _OTHER_CLOUDS:
        return f"is for {_OTHER_CLOUDS[key]}, and only AWS accounts are read; list those under accounts:"
    if not above and key == "crawler":
        return "settings for all accounts belong under vars: {crawler: …}"
    if key == "registries":
        return "belongs to one account: read for all of them, its rows would be repeated; write it in that account"
    if above == ["organization"] and key in Defaults.model_fields:
        return f"belongs under crawler: {{{key}: …}}"
    known = list(_model(tuple(above)).model_fields)
    if close := get_close_matches(key[:_LONGEST_ECHO], known, 1):
        return f"unknown key; did you mean {close[0]}?"
    return f"unknown key; known are {', '.join(known)}"


def _model(path: Path) -> type[BaseModel]:
    if not path:
        return Outline
    if path == ("organization",):
        return OrganizationEntry
    return Settings if path[0] == "accounts" else Defaults


def misspelled(node: Node, path: Path) -> Iterator[Problem]:
    """Warnings for keys of an account that are allowed, since c7n-org allows any, but look like slips."""
    keys = cast("dict[str, Node]", node.value)
    if len(keys) > _MANY_KEYS:
        return
    for key, child in keys.items():
        if key in AccountEntry.model_fields or len(key) > _LONGEST_ECHO:
            continue
        if key in Settings.model_fields:
            text = f"is read under crawler: only; write crawler: {{{key}: …}}"
        elif (close := _close_account_key(key)) and close not in keys:
            text = f"unknown key, ignored; did you mean {close}?"
        else:
            continue
        yield Problem(child.key_line, child.key_column, shown((*path, key)), text)


@lru_cache(maxsize=1024)
def _close_account_key(key: str) -> str | None:
    """Cached, because what one account has beside our keys all accounts of a file have."""
    return next(iter(get_close_matches(key, AccountEntry.model_fields, 1, cutoff=0.8)), None)
