"""Lines of NDJSON that every reader can read, whatever is in a name."""

from __future__ import annotations

import json

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from crawler.model import ImageId
from crawler.rows import encode, encode_details, in_utf8, to_line

KEYS = ["registryId", "region", "repositoryName", "imageDigest", "imageTag"]

#: Surrogates too: JSON can say them, UTF-8 cannot hold them.
names = st.text(st.characters())
nasty = pytest.mark.parametrize(
    "name", ["\u2028", "a\nb", "a\r\nb", "\ud800", "\udc80x", "\0", "\x7f", "é", "😀", '"\\']
)


@given(
    registry_id=names,
    region=names,
    repository=names,
    image_ids=st.lists(st.fixed_dictionaries({"imageDigest": names}, optional={"imageTag": names}), max_size=4),
)
@example("1", "\u2028", "\n", [{"imageDigest": "\ud800", "imageTag": "\0"}])
def test_any_text_comes_back_as_it_was(
    registry_id: str, region: str, repository: str, image_ids: list[ImageId]
) -> None:
    encoded = encode(registry_id, region, repository, image_ids)
    assert encoded.isascii()
    assert encoded.count(b"\n") == len(image_ids)
    assert encoded.endswith(b"\n") or not image_ids
    # str.splitlines() splits where Unicode has a line separator too: there is none left.
    for text, image_id in zip(encoded.decode("ascii").splitlines(), image_ids, strict=True):
        row = json.loads(text)
        assert list(row) == KEYS
        assert list(row.values()) == [
            registry_id, region, repository, image_id["imageDigest"], image_id.get("imageTag"),
        ]  # fmt: skip


@given(names, names, names, st.lists(st.fixed_dictionaries({"imageDigest": names, "imageTags": st.lists(names)})))
def test_details_of_any_text_come_back_as_they_were(
    registry_id: str, region: str, repository: str, images: list[dict[str, object]]
) -> None:
    encoded = encode_details(registry_id, region, repository, images)
    assert encoded.isascii()
    head = {"registryId": registry_id, "region": region, "repositoryName": repository}
    rows = [json.loads(text) for text in encoded.decode("ascii").splitlines()]
    assert [list(row.items()) for row in rows] == [[*head.items(), *image.items()] for image in images]


#: Values that look like what the encoder of whole pages counts and replaces.
traps = (
    st.sampled_from(
        [
            '{"imageDigest":',
            '"},{"imageDigest":"',
            ',"imageTag":',
            '":',
            "\\",
            '"',
            "null},{",
            "}\n",
            "[{",
            "v1",
            "\u2028",
        ]
    )
    | names
)
#: As no server should send them, too: keys in another order, missing, or more of them.
odd_image_ids = st.permutations(["imageDigest", "imageTag", "imageStatus"]).flatmap(
    lambda keys: st.fixed_dictionaries({}, optional={key: traps | st.none() for key in keys})
)


@given(names | traps, st.lists(odd_image_ids, max_size=5))
@example("a", [{"imageTag": "v1", "imageDigest": "d"}, {"imageDigest": "d", "imageTag": None}])
@example("a", [{"imageDigest": '{"imageDigest":', "imageTag": ',"imageTag":'}, {"imageDigest": "d"}])
@example("a", [{"imageDigest": "d", "imageTag": "t", "imageStatus": "s"}, {}])
def test_a_page_in_one_go_is_the_same_as_row_by_row(repository: str, image_ids: list[ImageId]) -> None:
    row_by_row = [
        to_line(
            {
                "registryId": "1",
                "region": "r",
                "repositoryName": repository,
                "imageDigest": image_id.get("imageDigest"),
                "imageTag": image_id.get("imageTag"),
            }
        )
        for image_id in image_ids
    ]
    assert encode("1", "r", repository, image_ids) == b"".join(row_by_row)


@given(st.lists(st.one_of(names, traps, st.sampled_from(["\\ud800", "\\\ud800", "\ud83d\ude00", "\udc00\udc00"]))))
@example(["\ud800\\", "\\ud800"])
def test_what_utf8_cannot_hold_becomes_a_question_mark_and_nothing_else_changes(texts: list[str]) -> None:
    lines = b"".join(to_line({"name": text}) for text in texts)
    # As JSON reads them: halves that stand beside each other are a pair.
    expected = [json.loads(line)["name"].encode("utf-8", "replace").decode() for line in lines.splitlines()]
    assert [orjson.loads(line)["name"] for line in in_utf8(lines).splitlines()] == expected


@nasty
def test_nasty_names_one_by_one(name: str) -> None:
    encoded = encode("1", "r", name, [{"imageDigest": name, "imageTag": name}])
    assert encoded.isascii()
    assert encoded.count(b"\n") == 1
    assert json.loads(encoded)["repositoryName"] == json.loads(encoded)["imageTag"] == name
    if name.isprintable():
        assert orjson.loads(encoded)["repositoryName"] == name


def test_a_row_is_exactly_this() -> None:
    assert encode("123456789012", "eu-west-1", "team/app", [{"imageDigest": "sha256:ab", "imageTag": "v1"}]) == (
        b'{"registryId":"123456789012","region":"eu-west-1","repositoryName":"team/app",'
        b'"imageDigest":"sha256:ab","imageTag":"v1"}\n'
    )
    assert encode("1", "r", "a", [{"imageDigest": "d"}]).endswith(b',"imageTag":null}\n')
    assert encode("1", "r", "a", [{"imageDigest": "d", "imageTag": ""}]).endswith(b',"imageTag":""}\n')
    assert encode("1", "r", "a", []) == b""


@given(st.dictionaries(names, names | st.integers() | st.none() | st.booleans()))
def test_any_record_is_one_line_in_its_own_order(record: dict[str, object]) -> None:
    encoded = to_line(record)
    assert encoded.isascii()
    assert encoded.count(b"\n") == 1
    assert list(json.loads(encoded).items()) == list(record.items())
