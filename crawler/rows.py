r"""Lines of NDJSON: a page of image IDs as rows, and any flat record as one line.

All lines are ASCII: what ECR allows in a name or tag is, and anything else is written as ``\uXXXX``. So a line
separator of Unicode (U+2028) splits no line for any reader, and a lone surrogate, which UTF-8 cannot hold, survives.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import orjson

from crawler.model import ImageId

#: How a row of image IDs begins and goes on. No value can hold these: in JSON a quote in a string follows a backslash.
_BEGINNING, _MIDDLE = b'{"imageDigest":', b',"imageTag":'


def encode(registry_id: str, region: str, repository: str, image_ids: Sequence[ImageId]) -> bytes:
    """Rows of one page: five keys each, in this order; imageTag is null for an untagged image.

    Fastest where every image ID has both keys, imageDigest first (an untagged one with None).
    """
    if not image_ids:
        return b""
    head = {"registryId": registry_id, "region": region, "repositoryName": repository}
    if rows := _whole(head, image_ids):
        return rows
    in_order = [
        {"imageDigest": image_id.get("imageDigest"), "imageTag": image_id.get("imageTag")} for image_id in image_ids
    ]
    return _whole(head, in_order) or b"".join([to_line({**head, **image_id}) for image_id in in_order])


def _whole(head: Mapping[str, str], image_ids: Sequence[Mapping[str, str | None]]) -> bytes | None:
    """Encode all rows in one go: one list of JSON, taken apart between rows and joined anew; None where not exact.

    It is exact if each image ID has just the two keys in this order, and nothing is outside of ASCII. Values are
    strings or null, so what looks like the beginning of a row is one: as many of those as rows, each with two keys and
    a tag in the second place, leave no room for anything else. (Not a set of each row's keys: that takes as long as
    all the rest.)
    """
    if set(map(len, image_ids)) != {2}:
        return None
    try:
        encoded = orjson.dumps(image_ids)
        prefix = orjson.dumps(head)[:-1] + b","
    except orjson.JSONEncodeError:  # a lone surrogate
        return None
    if not (encoded.isascii() and prefix.isascii()):
        return None
    rows = encoded[1:-1].split(b"}," + _BEGINNING)
    if len(rows) != len(image_ids) or not rows[0].startswith(_BEGINNING) or encoded.count(_MIDDLE) != len(rows):
        return None
    rows[0] = rows[0][len(_BEGINNING) :]
    beginning = prefix + _BEGINNING[1:]
    return b"%b%b\n" % (beginning, (b"}\n" + beginning).join(rows))


def to_line(record: Mapping[str, object]) -> bytes:
    """One JSON object, its keys in the order given, ended by a newline."""
    try:
        encoded = orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE)
    except orjson.JSONEncodeError:  # a lone surrogate
        return _escaped(record)
    return encoded if encoded.isascii() else _escaped(record)


def _escaped(record: Mapping[str, object]) -> bytes:
    return json.dumps(record, separators=(",", ":")).encode("ascii") + b"\n"
