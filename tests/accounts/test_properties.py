"""Whatever the bytes: an AccountsFile or a UsageError. Whatever the accounts: dumped as YAML they come back."""

import string
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from crawler.accounts import AccountsFile, Selection, json_schema, load
from crawler.accounts import document as document_module
from crawler.errors import UsageError

VALIDATOR = jsonschema.Draft202012Validator(json_schema())

KEYS = st.sampled_from(
    [
        "accounts",
        "organization",
        "vars",
        "crawler",
        "account_id",
        "role",
        "regions",
        "member_role",
        "registries",
        "x",
        "<<",
    ]
)
SCALARS = st.sampled_from(
    [
        "123456789012",
        "12345678901",
        "arn:aws:iam::123456789012:role/x",
        "all",
        "us-east-1",
        "eu-*",
        "~",
        "",
        "é",
        "{",
        "*a",
    ]
)
TREES = st.recursive(
    st.none() | SCALARS | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=6),
    max_leaves=30,
)


def file_or_refusal(data: bytes) -> None:
    try:
        assert isinstance(load("f", data), AccountsFile)
    except UsageError as refusal:
        lines = str(refusal).split("\n")
        assert 1 <= len(lines) <= 21
        assert all(line.startswith(("f:", "… and ")) and line.isprintable() for line in lines)


@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    file_or_refusal(data)


@given(st.text(max_size=200) | st.text(alphabet="ab:-[]{},&*!|>'\"%@#?~ \n\t<", max_size=60))
def test_any_text(text: str) -> None:
    file_or_refusal(text.encode("utf-8", "surrogatepass"))


@given(st.text(alphabet="ab:-[]{},&*!|>'\"%@#?~ \\ud8\n\t<", max_size=60))
def test_any_text_with_the_pure_parser(text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(document_module, "LOADER", yaml.SafeLoader)
        file_or_refusal(text.encode())


@given(
    TREES | st.fixed_dictionaries({"accounts": TREES}) | st.fixed_dictionaries({"organization": TREES, "vars": TREES})
)
def test_any_tree(tree: object) -> None:
    file_or_refusal(yaml.safe_dump(tree, allow_unicode=True).encode())


WORDS = st.text(alphabet=string.ascii_letters + string.digits + "_-+=,.@", min_size=2, max_size=20)
REGIONS = st.sampled_from(["us-east-1", "eu-west-3", "us-gov-west-1", "eu-*", "*"])
# What YAML cannot write, or AWS not have; any other text comes back as it was.
TEXTS = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Cn", "Zl", "Zp"], exclude_characters="\ufeff"), min_size=1
)
ARNS = WORDS.map("arn:aws:iam::{{account_id}}:role/{}".format)


def entries(account_id: str) -> st.SearchStrategy[dict[str, Any]]:
    settings = st.fixed_dictionaries(
        {},
        optional={
            "repositories": st.lists(TEXTS, min_size=1, max_size=3),
            "tag_status": st.sampled_from(["ANY", "TAGGED", "UNTAGGED"]),
            "image_status": st.sampled_from(["ANY", "ACTIVE", "ARCHIVED", "ACTIVATING"]),
            "public": st.booleans(),
            "max_rps": st.floats(min_value=0.001, max_value=1e9),
            "session_name": WORDS,
            "session_tags": st.dictionaries(
                st.sampled_from(["team", "cost"]), WORDS.map(lambda word: word.replace(",", ""))
            ),
            "duration_seconds": st.integers(900, 3600),
        },
    )
    return st.fixed_dictionaries(
        {"account_id": st.just(account_id), "role": st.lists(WORDS | ARNS, min_size=1, max_size=3)},
        optional={
            "name": TEXTS,
            "external_id": WORDS,
            "regions": st.lists(REGIONS, min_size=1, max_size=3, unique=True),
            "tags": st.lists(TEXTS, max_size=3),
            "vars": st.dictionaries(WORDS.filter(lambda word: word != "crawler"), TEXTS, max_size=2),
            "crawler": settings,
        },
    )


FILES = st.lists(
    st.from_regex(r"[0-9]{12}", fullmatch=True).filter(str.isascii), min_size=1, max_size=3, unique=True
).flatmap(lambda ids: st.tuples(*map(entries, ids)))


@given(FILES, st.fixed_dictionaries({"default_flow_style": st.booleans(), "allow_unicode": st.booleans()}))
def test_what_is_dumped_comes_back(written: tuple[dict[str, Any], ...], style: dict[str, bool]) -> None:
    text = yaml.safe_dump({"accounts": list(written)}, width=10_000, **style)
    accounts = load("f", text.encode()).accounts
    assert len(accounts) == len(written)
    for account, entry in zip(accounts, written, strict=True):
        settings = entry.get("crawler", {})
        assert account.account_id == entry["account_id"]
        assert list(account.role) == entry["role"]
        assert account.name == entry.get("name", "")
        assert set(account.external_ids) == ({entry["external_id"]} if "external_id" in entry else set())
        assert list(account.regions) == entry.get("regions", ["all"])
        assert list(account.tags) == entry.get("tags", [])
        assert list(account.repositories) == settings.get("repositories", [])
        assert account.tag_status == settings.get("tag_status")
        assert account.image_status == settings.get("image_status")
        assert account.public == settings.get("public", False)
        assert account.max_rps == settings.get("max_rps")
        assert dict(account.session_tags) == settings.get("session_tags", {})
        assert account.duration == settings.get("duration_seconds")
        assert Selection([account.account_id], account.tags).selects(account)
    VALIDATOR.validate(yaml.safe_load(text))
