"""How things are told: numbers as a sentence has them, and what others say, without secrets."""

from __future__ import annotations

import re

_MESSAGE_LIMIT = 500

#: Of a token, also as URLs, JSON and HTML write it.
_CHARACTER = r"(?:[A-Za-z0-9/+]|%2[BbFf]|\\\\?/|&#(?:x2[BbFf]|4[37]);)"
_SECRETS = re.compile(
    r"(?:AWS4-HMAC-SHA256[^\n]*)"
    r"|(?:(?i:Signature|X-Amz-Security-Token|SessionToken|SecretAccessKey)\W{1,4}[A-Za-z0-9/+=%]{16,})"
    rf"|(?<![A-Za-z0-9/+]){_CHARACTER}{{100,}}={{0,2}}"  # session tokens; an ARN or a sentence never runs on so long
    r"|(?<![A-Za-z0-9/+:_-])(?=[A-Za-z0-9/+]*[+/A-Z])(?=[A-Za-z0-9/+]*[0-9])(?=[A-Za-z0-9/+]*[a-z])[A-Za-z0-9/+]{40}"
    r"(?![A-Za-z0-9/+=_-])"  # secret access keys: 40 of both cases and digits
)


def counted(number: int, one: str) -> str:
    """`1 target`, `2 targets`, `1,024 repositories`, `0 requests`; `one` is the noun of a single thing."""
    if number == 1:
        return f"1 {one}"
    return f"{number:,} {one[:-1]}ies" if one.endswith("ry") else f"{number:,} {one}s"


def printable(text: str, limit: int = _MESSAGE_LIMIT) -> str:
    """`text` for a person's screen: secrets masked, control characters escaped, and no longer than `limit`."""
    text = _SECRETS.sub("***", text[: limit * 8])
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
    return text if len(text) <= limit else text[: limit - 1] + "…"
