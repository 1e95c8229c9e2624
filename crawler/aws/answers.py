"""Bodies of answers as pages, each member held against its documented type: what is another is no answer.

https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_ImageDetail.html
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from operator import itemgetter
from typing import Any, TypeVar, cast

import orjson

from crawler.aws.errors import malformed
from crawler.errors import Transient
from crawler.model import Image, ImageId, Page, Verbatim

_STR = frozenset({str})
_STR_OR_NULL = frozenset({str, type(None)})
#: Bytes, exclusive: what a long of AWS's models can be, and a column.
_LONG = 2**63

T = TypeVar("T")

#: Makes a page of the body of an answer. Raises `Transient` where that is none.
Decode = Callable[[bytes], Page[T]]

_digest, _tag = itemgetter("imageDigest"), itemgetter("imageTag")


def image_ids(body: bytes) -> Page[ImageId]:
    """A page of ListImages, each image ID with both keys. Raises `Transient` for anything else."""
    document, rows = _rows(body, "imageIds")
    try:
        # Maps over C functions: a loop with its own checks takes as long as parsing the page.
        digests: set[object] = set(map(type, map(_digest, rows)))
        try:
            tags: set[object] = set(map(type, map(_tag, rows)))
        except KeyError:
            for row in rows:
                row.setdefault("imageTag", None)  # as the encoder of rows likes an untagged one
            tags = set(map(type, map(_tag, rows)))
    except (TypeError, KeyError, AttributeError) as error:
        raise _bad_row(body, "imageIds") from error
    if not (digests <= _STR and tags <= _STR_OR_NULL):
        raise _bad_row(body, "imageIds")
    # Where no escape and no other alphabet came in, none has to go out: JSON has no control characters as they are.
    plain = b"\\" not in body and body.isascii()
    return Page(Verbatim(rows) if plain else rows, _token(document, body), fingerprint(body))


def image_details(body: bytes) -> Page[Image]:
    """A page of DescribeImages, each image as its row has it. Raises `Transient` for anything else.

    Pages are alike if they have the same images with the same tags: when those were last pulled may differ.
    """
    document, rows = _rows(body, "imageDetails")
    try:
        images = [_detail(row) for row in rows]
    except (TypeError, KeyError, AttributeError, ValueError, OverflowError, OSError) as error:
        raise _bad_row(body, "imageDetails") from error
    named = hash(tuple((image["imageDigest"], *cast("list[str]", image["imageTags"])) for image in images))
    return Page(images, _token(document, body), named)


def _detail(image: dict[str, Any]) -> Image:
    # Tags come in no order that AWS documents. Sorted, equal images have equal rows.
    return {
        "imageDigest": _text(image["imageDigest"]),
        "imageTags": sorted(_tags(image.get("imageTags"))),
        "imageSizeInBytes": _size(image.get("imageSizeInBytes")),
        "imagePushedAt": _time(image.get("imagePushedAt")),
        "lastRecordedPullTime": _time(image.get("lastRecordedPullTime")),
        "imageManifestMediaType": _text_or_none(image.get("imageManifestMediaType")),
        "artifactMediaType": _text_or_none(image.get("artifactMediaType")),
        "subjectManifestDigest": _text_or_none(image.get("subjectManifestDigest")),
        "imageStatus": _text_or_none(image.get("imageStatus")),
        "lastArchivedAt": _time(image.get("lastArchivedAt")),
        "lastActivatedAt": _time(image.get("lastActivatedAt")),
    }


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value


def _text_or_none(value: object) -> str | None:
    return None if value is None else _text(value)


def _tags(value: object) -> list[str]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise TypeError(value)
    return [_text(tag) for tag in cast("list[object]", value)]


def _size(value: object) -> int | None:
    if value is None:
        return None
    if type(value) is not int or not 0 <= value < _LONG:
        raise TypeError(value)
    return value


def _time(value: object) -> str | None:
    """Seconds since 1970, whole or not, as ISO 8601 in UTC to the millisecond."""
    if value is None:
        return None
    if type(value) not in (int, float):
        raise TypeError(value)
    moment = datetime.fromtimestamp(cast("float", value), UTC)
    return f"{moment.isoformat(timespec='milliseconds')[:-6]}Z"


def repositories(body: bytes) -> Page[str]:
    """The names in a page of DescribeRepositories. Raises `Transient` for anything else."""
    document, rows = _rows(body, "repositories")
    try:
        names = [row["repositoryName"] for row in rows]
    except (TypeError, KeyError) as error:
        raise _bad_row(body, "repositories") from error
    if not {type(name) for name in names} <= _STR:
        raise _bad_row(body, "repositories")
    return Page(names, _token(document, body))


def fingerprint(body: bytes) -> int:
    """The same for two pages only if their lists are, give or take one in 2**64: the hash is SipHash with a random key.

    From the first bracket to the last, which holds the list whole, whatever the order of the members: the token beside
    it is another one each time. A token with a bracket in it may tell equal lists apart, and never makes different ones
    the same. Of the bytes as they came: to encode the list again, or hash each row, costs three to ten times as much.
    """
    return hash(memoryview(body)[body.find(b"[") : body.rfind(b"]") + 1])


def _rows(body: bytes, member: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    document = _decode(body)
    if not isinstance(document, dict):
        raise malformed(body, "a JSON object")
    fields = cast("dict[str, Any]", document)
    rows = fields.get(member)
    if not isinstance(rows, list):
        raise malformed(body, f"a page with a list of {member}")
    if not rows and "__type" in fields:  # an error, whatever its status says; no empty page
        raise malformed(body, f"a page of {member}")
    return fields, cast("list[dict[str, Any]]", rows)


def _token(document: dict[str, Any], body: bytes) -> str | None:
    token = document.get("nextToken")
    if token is None or token == "":  # of a page, no secret  # nosec B105
        return None
    if not isinstance(token, str):
        raise malformed(body, "a page with a nextToken that is a string")
    return token


def _decode(body: bytes) -> object:
    try:
        return orjson.loads(body)
    except ValueError:
        pass
    try:
        # What orjson refuses may still be JSON: "\ud800" alone is, and such names must not be lost.
        return json.loads(body)
    except (ValueError, RecursionError):  # brackets within brackets without end
        return None


def _bad_row(body: bytes, member: str) -> Transient:
    return malformed(body, f"a page whose {member} are all objects as ECR documents them")
