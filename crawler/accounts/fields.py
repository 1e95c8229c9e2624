"""Values of single keys: what AWS allows in them, and what to tell who wrote something else.

All input is text, as written in the file. Validators raise ValueError with the words that the user reads. The JSON
Schemas beside them are wider where an editor has other types than we do: it takes an unquoted id for a number.
"""

from __future__ import annotations

import math
import re
import unicodedata
from difflib import get_close_matches
from enum import StrEnum
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from crawler.accounts.problems import quoted
from crawler.accounts.roles import hub_role, member_role, role
from crawler.model import ImageStatus, TagStatus
from crawler.wording import counted

_ACCOUNT_ID = re.compile(r"[0-9]{12}")
_DIGITS = re.compile(r"[0-9]+")
_REGION = re.compile(r"[a-z]{2,}(-[a-z]+)+-[0-9]+")
_REGION_GLOB = re.compile(r"(?=.*[*?\[])[a-z0-9*?\[\]!-]+")
_EXTERNAL_ID = re.compile(r"[\w+=,.@:/-]{2,1224}", re.ASCII)
_SESSION_NAME = re.compile(r"[\w+=,.@-]{2,64}", re.ASCII)
_OU = re.compile(r"ou-[0-9a-z]{4,32}-[a-z0-9]{8,32}|r-[0-9a-z]{4,32}")
_NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")

_ID_LENGTH = 12
#: As many leading zeros as ids of real accounts are likely to have.
_LOST_ZEROS = 4
_TAG_KEY_LENGTH, _TAG_VALUE_LENGTH = 128, 256
_SHORTEST_DURATION, _LONGEST_DURATION = 900, 43_200

#: What an editor may take plain text for.
_ANY_SCALAR = ["string", "number", "boolean"]

StatusT = TypeVar("StatusT", bound=StrEnum)


def _account_id(text: str) -> str:
    if _ACCOUNT_ID.fullmatch(text):
        return text
    if not _DIGITS.fullmatch(text):
        bare = text.replace("-", "").replace(" ", "")
        example = bare if _ACCOUNT_ID.fullmatch(bare) else "123456789012"
        raise ValueError(f"{quoted(text)} is not an account id; write its 12 digits alone: '{example}'")
    digits = f"has {counted(len(text), 'digit')}"
    if not _ID_LENGTH - _LOST_ZEROS <= len(text) <= _ID_LENGTH:
        raise ValueError(f"{digits}; an account id has {_ID_LENGTH}")
    lost = "a leading zero was" if len(text) == _ID_LENGTH - 1 else "leading zeros were"
    raise ValueError(
        f"{digits}: {lost} probably lost; write all {_ID_LENGTH} between quotes: '{text.zfill(_ID_LENGTH)}'"
    )


def _some(text: str) -> str:
    if not text:
        raise ValueError("is empty; write a value or remove it")
    return text


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _region(text: str) -> str:
    """Region names and globs, several between commas as c7n-org allows it; `split_regions` takes them apart."""
    for part in split_regions(text):
        if part != "all" and not is_region(part) and not _REGION_GLOB.fullmatch(part):
            hint = "write a name such as us-east-1, a glob such as 'eu-*', or all"
            raise ValueError(f"{quoted(part)} is not a region; {hint}")
    return text


def is_region(text: str) -> bool:
    """Whether this is the name of one region; `all` and globs are not."""
    return _REGION.fullmatch(text) is not None


def split_regions(text: str) -> list[str]:
    """`us-east-1,us-west-2` is two regions to c7n-org."""
    return [part.strip() for part in text.split(",")]


def _matching(pattern: re.Pattern[str], expected: str) -> AfterValidator:
    def check(text: str) -> str:
        if not pattern.fullmatch(text):
            raise ValueError(f"{quoted(text)} {expected}")
        return text

    return AfterValidator(check)


def _external_id(text: str) -> str:
    if not _EXTERNAL_ID.fullmatch(text):  # not quoted in the message: some treat it as a secret
        raise ValueError("an external id has 2 to 1224 letters, digits or _+=,.@:/-, and no spaces")
    return text


def _excluded(text: str) -> str:
    # A shorter number may well be the name of an account.
    if _DIGITS.fullmatch(text) and len(text) >= _ID_LENGTH - _LOST_ZEROS:
        return _account_id(text)
    return _some(text)


def _status(kind: type[StatusT]) -> BeforeValidator:
    names = [status.value.lower() for status in kind]

    def parse(value: object) -> object:
        if not isinstance(value, str):
            return value
        if value.upper() in kind.__members__:
            return kind(value.upper())
        hint = "".join(f"; did you mean {name}?" for name in get_close_matches(value.lower()[:40], names, 1))
        raise ValueError(f"{quoted(value)} is none of {', '.join(names)}{hint}")

    return BeforeValidator(parse)


def _status_schema(kind: type[StrEnum]) -> WithJsonSchema:
    # Names for an editor to offer, and a pattern for the mixed case that is accepted too.
    folded = ["".join(f"[{letter}{letter.lower()}]" for letter in status) for status in kind]
    names = [name for status in kind for name in (status.value.lower(), status.value)]
    return WithJsonSchema({"anyOf": [{"enum": names}, {"type": "string", "pattern": f"^({'|'.join(folded)})$"}]})


def _rate(value: object) -> object:
    if not isinstance(value, str):
        return value
    rate = float(value) if _NUMBER.fullmatch(value) else math.nan
    if not 0 < rate < math.inf:
        raise ValueError(f"{quoted(value)} is not a number above 0; write requests a second, such as 20")
    return rate


def _duration(value: object) -> object:
    if not isinstance(value, str):
        return value
    seconds = int(value) if re.fullmatch("[0-9]{1,9}", value) else 0
    if not _SHORTEST_DURATION <= seconds <= _LONGEST_DURATION:
        limits = f"from {_SHORTEST_DURATION} to {_LONGEST_DURATION}"
        raise ValueError(f"{quoted(value)} is not a number of seconds {limits}; write 3600 for an hour")
    return seconds


def _session_tags(tags: dict[str, str]) -> dict[str, str]:
    """https://docs.aws.amazon.com/IAM/latest/UserGuide/id_session-tags.html."""
    folded: dict[str, str] = {}
    for key, value in tags.items():
        if not 1 <= len(key) <= _TAG_KEY_LENGTH or not _tag_text(key):
            raise ValueError(f"the key {quoted(key)} must be 1 to 128 letters, digits, spaces or _.:/=+-@")
        if len(value) > _TAG_VALUE_LENGTH or not _tag_text(value):
            raise ValueError(f"the value of {key} must be up to 256 letters, digits, spaces or _.:/=+-@")
        if key.lower().startswith("aws:"):
            raise ValueError(f"{quoted(key)}: keys that start with aws: are AWS's own; choose another")
        if key.lower() in folded:
            raise ValueError(f"{quoted(folded[key.lower()])} and {quoted(key)} are one key to AWS; keep one of the two")
        folded[key.lower()] = key
    return tags


def _tag_text(text: str) -> bool:
    return all(char in "_.:/=+-@" or unicodedata.category(char)[0] in "LNZ" for char in text)


def _string(**schema: object) -> WithJsonSchema:
    return WithJsonSchema({"type": _ANY_SCALAR, **schema})


_ID_SCHEMA: dict[str, Any] = {
    "anyOf": [{"type": "string", "pattern": "^[0-9]{12}$"}, {"type": "integer", "minimum": 0, "maximum": 999999999999}]
}
_ROLE_SCHEMA: dict[str, Any] = {"type": "string", "pattern": "^(arn:aws[a-z-]*:iam::[^:]+:role/)?[\\w+=,.@/{}-]+$"}
_ARN_SCHEMA: dict[str, Any] = {"type": "string", "pattern": "^arn:aws[a-z-]*:iam::[0-9]{12}:role/[\\w+=,.@/-]+$"}


def _one_or_many(schema: dict[str, Any]) -> WithJsonSchema:
    return WithJsonSchema({"anyOf": [schema, {"type": "array", "items": schema, "minItems": 1}]})


def _flag(value: object) -> object:
    if not isinstance(value, str):
        return value
    if value.lower() not in ("true", "false"):
        raise ValueError(f"{quoted(value)} is neither true nor false")
    return value.lower() == "true"


Text = Annotated[str, _string()]
Flag = Annotated[
    bool,
    BeforeValidator(_flag),
    WithJsonSchema(
        {"anyOf": [{"type": "boolean"}, {"type": "string", "pattern": "^([Tt][Rr][Uu][Ee]|[Ff][Aa][Ll][Ss][Ee])$"}]}
    ),
]
AccountId = Annotated[str, AfterValidator(_account_id), WithJsonSchema(_ID_SCHEMA)]
Glob = Annotated[str, AfterValidator(_some), _string()]
Excluded = Annotated[str, AfterValidator(_excluded), _string()]
Roles = Annotated[
    list[Annotated[str, AfterValidator(role)]],
    BeforeValidator(_listed),
    Field(min_length=1),
    _one_or_many(_ROLE_SCHEMA | {"type": _ANY_SCALAR}),
]
HubRoles = Annotated[
    list[Annotated[str, AfterValidator(hub_role)]],
    BeforeValidator(_listed),
    Field(min_length=1),
    _one_or_many(_ARN_SCHEMA),
]
MemberRole = Annotated[str, AfterValidator(member_role), WithJsonSchema(_ROLE_SCHEMA | {"type": _ANY_SCALAR})]
Profile = Annotated[str, AfterValidator(_some), _string()]
ExternalId = Annotated[str, AfterValidator(_external_id), _string(minLength=2, maxLength=1224)]
Region = Annotated[
    str, AfterValidator(_region), WithJsonSchema({"type": "string", "pattern": "^[a-z0-9*?\\[\\]!, -]+$"})
]
OrganizationalUnit = Annotated[
    str,
    _matching(_OU, "is not the id of an OU (ou-…) or of the root (r-…)"),
    WithJsonSchema({"type": "string", "pattern": f"^({_OU.pattern})$"}),
]
TagStatusName = Annotated[TagStatus, _status(TagStatus), _status_schema(TagStatus)]
ImageStatusName = Annotated[ImageStatus, _status(ImageStatus), _status_schema(ImageStatus)]
Rate = Annotated[
    float,
    BeforeValidator(_rate),
    WithJsonSchema(
        {"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "string", "pattern": "^[0-9.eE+-]+$"}]}
    ),
]
Duration = Annotated[
    int,
    BeforeValidator(_duration),
    WithJsonSchema(
        {"anyOf": [{"type": "integer", "minimum": 900, "maximum": 43200}, {"type": "string", "pattern": "^[0-9]+$"}]}
    ),
]
SessionName = Annotated[
    str,
    _matching(_SESSION_NAME, "is not a session name: 2 to 64 letters, digits or _+=,.@-"),
    _string(pattern="^[\\w+=,.@-]{2,64}$"),
]
SessionTags = Annotated[dict[str, Text], Field(max_length=50), AfterValidator(_session_tags)]
