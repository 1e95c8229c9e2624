"""A page by column is the page by row, and what is no page is refused in the same words."""

from __future__ import annotations

import json

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from crawler.aws import answers, columns
from crawler.errors import Transient
from crawler.model import Columnar

texts = st.text(st.characters(codec=None))
ids = st.lists(st.fixed_dictionaries({"imageDigest": texts}, optional={"imageTag": texts | st.none()}), max_size=5)
anything = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts | st.just("imageDigest"), inner, max_size=3),
)
documents = st.fixed_dictionaries(
    {"imageIds": ids}, optional={"nextToken": texts | st.none(), "other": anything, "__type": anything}
) | st.fixed_dictionaries({"imageIds": st.lists(anything, max_size=3) | anything}, optional={"nextToken": anything})


def read(decode: answers.Decode[object], body: bytes) -> object:
    try:
        page = decode(body)
    except Transient as error:
        return str(error)
    rows = [{"imageTag": None, **row} for row in page.items]  # type: ignore[dict-item]  # rows as tests write them
    return rows, page.next_token, page.fingerprint


@given(document=documents, ascii_only=st.booleans())
@example(document={"imageIds": [{"imageDigest": "\ud800"}]}, ascii_only=True)
@example(document={"imageIds": [{"imageDigest": 1}]}, ascii_only=True)
@example(document={"imageIds": [{"imageTag": "t"}]}, ascii_only=True)
@example(document={"imageIds": [], "nextToken": ""}, ascii_only=True)
def test_equal(*, document: object, ascii_only: bool) -> None:
    body = json.dumps(document, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    assert read(columns.image_ids, body) == read(answers.image_ids, body)


@given(st.binary(max_size=40) | st.sampled_from([b"[" * 100_000, b'{"imageIds":' * 2000, b"\xff", b""]))
def test_equal_for_any_bytes(body: bytes) -> None:
    assert read(columns.image_ids, body) == read(answers.image_ids, body)


def test_a_member_without_meaning_is_held_against_the_alphabet_too() -> None:
    with pytest.raises(Transient):
        columns.image_ids(b'{"imageIds":[],"nextToke\xa5":""}')


@pytest.mark.parametrize("decode", [columns.image_ids, answers.image_ids])
def test_an_error_with_the_status_of_an_answer_is_no_empty_page(decode: answers.Decode[object]) -> None:
    with pytest.raises(Transient, match="ThrottlingException"):
        decode(b'{"__type":"ThrottlingException","imageIds":[]}')
    assert decode(b'{"__type":"ListImagesResponse","imageIds":[{"imageDigest":"sha256:a"}]}').items


def test_its_items_are_a_sequence_of_image_ids() -> None:
    rows = [{"imageDigest": "sha256:a", "imageTag": "t"}, {"imageDigest": "sha256:b", "imageTag": None}]
    items = columns.image_ids(orjson.dumps({"imageIds": rows})).items
    assert isinstance(items, Columnar)
    assert list(items) == rows
    assert list(items[1:]) == rows[1:]
    assert items[-1] == rows[-1]
    with pytest.raises(IndexError):
        items[2]
