"""YAML as text with positions: what is read, what is refused, and that no file can hang or exhaust the process."""

import time

import pytest
import yaml

from crawler.accounts import document
from crawler.accounts.document import MAX_BYTES, MAX_DEPTH, Document, Node, read
from crawler.accounts.problems import lines

SPLIT = "split the accounts over several files and crawl each, or use organization:"


@pytest.fixture(params=["C parser", "pure parser"])
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    loader = yaml.SafeLoader if request.param == "pure parser" else yaml.CSafeLoader
    monkeypatch.setattr(document, "LOADER", loader)


def plain(text: str) -> object:
    result = read(text.encode())
    assert result.problems == []
    assert result.root is not None
    return result.root.plain()


def findings(text: str | bytes) -> list[str]:
    return list(lines("f", read(text.encode() if isinstance(text, str) else text).problems))


@pytest.mark.usefixtures("parser")
@pytest.mark.parametrize(
    "scalar",
    ["012345678901", "NO", "yes", "1e3", "0x1F", "1_000", "2026-11-23", "12:30:45", ".inf", "true", "=", "None"],
)
def test_every_scalar_stays_the_text_that_was_written(scalar: str) -> None:
    assert plain(f"a: {scalar}") == {"a": scalar}
    assert plain(f"{scalar}: a") == {scalar: "a"}


@pytest.mark.usefixtures("parser")
def test_only_unquoted_nulls_are_absent_values() -> None:
    text = "a:\nb: ~\nc: null\nd: Null\ne: NULL\nf: '~'\ng: \"\"\nh: 'null'\ni: [~, x]\nnull: k"
    assert plain(text) == {
        "a": None, "b": None, "c": None, "d": None, "e": None,
        "f": "~", "g": "", "h": "null", "i": [None, "x"], "null": "k",
    }  # fmt: skip


@pytest.mark.usefixtures("parser")
@pytest.mark.parametrize(
    "text", ["\ufeffa: b", "%YAML 1.1\n---\na: b\n...\n", "a: &anchor b\n", "a: b\r\n", "# c\n\na: b"]
)
def test_harmless_forms_are_read(text: str) -> None:
    assert plain(text) == {"a": "b"}


def test_a_plain_copy_goes_as_deep_as_it_is_told() -> None:
    deep = "[" * MAX_DEPTH + "x" + "]" * MAX_DEPTH
    assert str(plain(deep)) == deep.replace("x", "'x'")
    root = read(b"a: {b: {c: d}, e: f}").root
    assert root is not None
    assert root.plain(2) == {"a": {"b": root.find(("a", "b"))[0], "e": "f"}}


@pytest.mark.usefixtures("parser")
def test_positions_are_one_based_and_count_characters() -> None:
    root = read("é: {ü: x}\nb:\n- c: y\n".encode()).root
    assert root is not None
    inner, found = root.find(("é", "ü"))
    assert (inner.key_line, inner.key_column, inner.line, inner.column, found) == (1, 5, 1, 8, ("é", "ü"))
    item, found = root.find(("b", 0, "missing", 7))
    assert (item.line, item.column, found) == (3, 3, ("b", 0))
    assert root.find(("b", 5))[1] == ("b",)
    assert root.find((0,))[1] == ()


@pytest.mark.usefixtures("parser")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "f:1:1: the file is empty; write accounts: and a list of accounts"),
        ("# only this\n", "f:1:1: the file is empty; write accounts: and a list of accounts"),
        ("---\n...\n", "f:1:1: the file is empty; write accounts: and a list of accounts"),
        (
            "a:\n- &x b\n- *x\n",
            "f:3:3: a[1]: aliases are not read; write the value out, or, if a glob is meant, quote it: '*x'",
        ),
        (
            "r:\n  - *-prod\n",
            "f:2:5: r[0]: aliases are not read; write the value out, or, if a glob is meant, quote it: '*-prod'",
        ),
        ("a: {<<: {b: c}}", "f:1:5: a: merge keys (<<) are not read; write the keys out"),
        ("a: &x {b: c}\nd:\n  <<: *x\n", "f:3:3: d: merge keys (<<) are not read; write the keys out"),
        ("a:\n- b: 1\n  c: 2\n  b: 3\n", "f:4:3: a[0].b: given twice, first at 2:3; keep one of the two"),
        ("a: 1\n'a': 2\n", "f:2:1: a: given twice, first at 1:1; keep one of the two"),
        ("--- {a: b}\n--- {c: d}\n", "f:2:1: a second document starts here; keep one, and remove the line ---"),
        (
            "a: !!int 3\n",
            "f:1:4: a: the tag 'tag:yaml.org,2002:int' is not read; remove it, every value is taken as text",
        ),
        ("a: !!python/tuple [x]\n", "f:1:4: a: the tag 'tag:yaml.org,2002:python/tuple' is not read; remove it"),
        ("? [a, b]\n: c\n", "f:1:3: a key must be plain text, not a list or a mapping"),
        ("a:\n  {b: c}: d\n", "f:2:3: a: a key must be plain text, not a list or a mapping"),
        ("a:\n\tb: 1", "f:2:1: not valid YAML: a tab cannot indent; use spaces"),
        ("regions:\n- @x", "f:2:3: not valid YAML: text that starts with @ must be quoted"),
        ("regions:\n- *", "f:2:4: not valid YAML: text that starts with * must be quoted: '*-prod'"),
        (
            "a: b: c",
            "f:1:5: not valid YAML: a second ':' in one line; quote text that contains ': ', or mend the indentation",
        ),
        ("a: 'x", "f:1:6: not valid YAML: found unexpected end of stream while scanning a quoted scalar"),
        ("a: \x07x", "f:1:4: the control character U+0007 is not allowed in YAML; remove it"),
        ("a: \x00", "f:1:4: the control character U+0000 is not allowed in YAML; remove it"),
        (
            "[" * 21,
            f"f:1:21: {'[0]' * 20}: nested more than 20 levels deep; an accounts file needs five",
        ),
    ],
)  # fmt: skip
def test_what_is_refused(text: str, expected: str) -> None:
    assert findings(text) == [expected]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"a: b\nc: \xe9", "f:2:4: byte 0xe9 is not UTF-8; save the file as UTF-8"),
        ("\ufeffa: b".encode("utf-16-le"), "f:1:1: byte 0xff is not UTF-8; save the file as UTF-8"),
        (b"a: \xed\xa0\x80", "f:1:4: byte 0xed is not UTF-8; save the file as UTF-8"),
        (
            b"x" * (MAX_BYTES + 1),
            f"f:1:1: 10.0 MiB are more than the 10 MiB that are read; {SPLIT}",
        ),
    ],
)
def test_bytes_that_are_refused(data: bytes, expected: str) -> None:
    assert findings(data) == [expected]


@pytest.mark.usefixtures("parser")
def test_half_a_surrogate_pair_is_refused() -> None:
    (finding,) = findings('a: "\\ud800"')
    assert finding.startswith("f:1:")
    assert "not valid YAML" in finding


def test_everything_refused_is_listed_in_order_and_the_rest_is_read() -> None:
    result = read(b"a: !!int 1\na: 2\nb: *x\n? [c]\n: {d: e}\nf: g\n")
    assert [(problem.line, problem.column) for problem in result.problems] == [(1, 4), (2, 1), (3, 4), (4, 3)]
    assert result.root is not None
    assert result.root.plain() == {"a": "1", "b": None, "f": "g"}


def test_twenty_lines_are_shown_and_the_rest_is_counted() -> None:
    shown = findings("a: 1\n" * 31)
    assert len(shown) == 21
    assert shown[0] == "f:2:1: a: given twice, first at 1:1; keep one of the two"
    assert shown[-1] == "… and 10 more"


def test_a_key_cannot_drive_the_terminal() -> None:
    assert findings('"\\e[31m": 1\n"\\e[31m": 2') == [
        "f:2:1: '\\x1b[31m': given twice, first at 1:1; keep one of the two"
    ]


ALIAS_BOMB = "a: &a [x, x]\n" + "".join(
    f"{chr(code)}: &{chr(code)} [*{chr(code - 1)}, *{chr(code - 1)}]\n" for code in range(ord("b"), ord("z"))
)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(ALIAS_BOMB, id="alias bomb"),
        pytest.param("[" * 5_000_000, id="nested lists"),
        pytest.param("{" * 5_000_000, id="nested mappings"),
        pytest.param("- " * 2_000_000, id="nested block lists"),
        pytest.param("? " * 2_000_000, id="nested keys"),
        pytest.param("a: {" + "a: 1, " * 500_000 + "}", id="duplicate keys"),
        pytest.param("a: [" + "!x y, " * 500_000 + "]", id="tags"),
        pytest.param("'" * 9_999_999, id="quotes"),
        pytest.param("x" * 9_000_000 + ": 1", id="long key"),
    ],
)
def test_bombs_are_refused_at_once(text: str) -> None:
    started = time.process_time()
    result = read(text.encode())
    assert result.problems
    assert time.process_time() - started < 2


@pytest.mark.parametrize("text", ["a: '" + "x" * 9_000_000 + "'", "a: >\n" + "  x\n" * 2_000_000, "#\n" * 4_000_000])
def test_long_texts_are_read_at_once(text: str) -> None:
    started = time.process_time()
    read(text.encode())
    assert time.process_time() - started < 2


def test_values_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document, "MAX_NODES", 1_000)
    assert read(b"[" + b"x," * 999 + b"]").problems == []
    assert findings("[" + "x," * 1000 + "]") == [
        "f:1:2000: [999]: more than 1,000 values; split the accounts over several files"
    ]


def test_debugging_views() -> None:
    assert repr(read(b"")) == (
        "Document(root=None, problems=[Problem(line=1, column=1, path='', "
        "text='the file is empty; write accounts: and a list of accounts')])"
    )
    assert repr(Document(Node(1, 2, "x"))) == (
        "Document(root=Node(line=1, column=2, value='x', key_line=0, key_column=0), problems=[])"
    )
