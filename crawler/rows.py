r"""Lines of NDJSON: a page of images as rows, and any record as one line.

All lines are ASCII: what ECR allows in a name or tag is, and anything else is written as ``\uXXXX``. So a line
separator of Unicode (U+2028) splits no line for any reader, and a lone surrogate, which UTF-8 cannot hold, survives.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import orjson

from crawler.model import Image, ImageId, RowKind, Verbatim

#: An escape of JSON, of which a pair of surrogates is one. The group is half a pair.
_ESCAPE = re.compile(rb"\\(?:u[dD][89abAB]..\\u[dD][c-fC-F]..|(u[dD][89a-fA-F]..)|.)", re.DOTALL)


def encode(registry_id: str, region: str, repository: str, image_ids: Sequence[ImageId]) -> bytes:
    """Rows of one page: five keys each, in this order; imageTag is null for an untagged image.

    A page that is `Verbatim` is written by putting its values where they belong. (One `orjson.dumps` of the list, split
    between rows and joined anew, has to check each row to be exact: with that it cost an eighth of a crawl more.)
    """
    head = {"registryId": registry_id, "region": region, "repositoryName": repository}
    if not isinstance(image_ids, Verbatim):
        return b"".join(
            [
                to_line({**head, "imageDigest": image_id.get("imageDigest"), "imageTag": image_id.get("imageTag")})
                for image_id in image_ids
            ]
        )
    beginning = to_line(head).decode("ascii")[:-2] + ',"imageDigest":"'
    middle, end, untagged = '","imageTag":"', '"}\n', '","imageTag":null}\n'
    return "".join(
        [
            f"{beginning}{image_id['imageDigest']}{untagged}"
            if (tag := image_id["imageTag"]) is None
            else f"{beginning}{image_id['imageDigest']}{middle}{tag}{end}"
            for image_id in image_ids
        ]
    ).encode("ascii")


def encode_details(registry_id: str, region: str, repository: str, images: Sequence[Image]) -> bytes:
    """Rows of one page of details: the three keys of the repository, then those of each image as they stand."""
    head = {"registryId": registry_id, "region": region, "repositoryName": repository}
    return b"".join([to_line({**head, **image}) for image in images])


#: What makes rows of a page. Takes registry id, region and name of the repository, and the images.
ENCODERS: Mapping[RowKind, Callable[[str, str, str, Sequence[Any]], bytes]] = MappingProxyType(
    {RowKind.IDS: encode, RowKind.DETAILS: encode_details}
)


def to_line(record: Mapping[str, object]) -> bytes:
    """One JSON object, its keys in the order given, ended by a newline."""
    try:
        # Not its OPT_APPEND_NEWLINE: what orjson returns keeps all of the 1,024 bytes and more that it wrote into, and
        # the C library splits what is left of them: a kept line of 300 bytes took 4,000.
        encoded = orjson.dumps(record) + b"\n"
    except orjson.JSONEncodeError:  # a lone surrogate
        return _escaped(record)
    return encoded if encoded.isascii() else _escaped(record)


def _escaped(record: Mapping[str, object]) -> bytes:
    return json.dumps(record, separators=(",", ":")).encode("ascii") + b"\n"


def in_utf8(lines: bytes) -> bytes:
    """Lines of JSON with a question mark in the place of each half of a surrogate pair, for readers that take none."""
    if b"\\ud" not in lines and b"\\uD" not in lines:
        return lines
    return _ESCAPE.sub(lambda escape: b"?" if escape[1] else escape[0], lines)


def from_json(data: bytes) -> Any:  # noqa: ANN401  (whatever it holds)
    """What `to_line` has written, or any other JSON. Raises ValueError; RecursionError for brackets without end."""
    try:
        return orjson.loads(data)
    except ValueError:
        return json.loads(data)  # which knows lone surrogates
