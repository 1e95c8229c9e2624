"""The one table that translates what AWS answers into our errors (`crawler.errors`).

Codes are matched as strings: ECR's service model has no shape for throttling, denial or expiry. Sources: botocore's
service models, https://docs.aws.amazon.com/AmazonECR/latest/userguide/common-errors.html and
https://docs.aws.amazon.com/STS/latest/APIReference/CommonErrors.html
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any, cast
from xml.sax.saxutils import unescape

from crawler import wording
from crawler.errors import (
    KEYS_UNKNOWN,
    CrawlError,
    Denied,
    Fatal,
    Gone,
    KeysExpired,
    KeysUnknown,
    Refused,
    Throttled,
    Transient,
)

_THROTTLED = frozenset({
    "BandwidthLimitExceeded",
    "EC2ThrottledException",
    "LimitExceededException",
    "PriorRequestNotComplete",
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "RequestThrottled",
    "RequestThrottledException",
    "SlowDown",
    "ThrottleException",
    "ThrottledException",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
    "TransactionInProgressException",
})  # fmt: skip

_TABLE: dict[str, type[CrawlError]] = {
    **dict.fromkeys(_THROTTLED, Throttled),
    **dict.fromkeys(
        (
            "IDPCommunicationError",
            "InternalError",
            "InternalErrorException",
            "InternalException",
            "InternalFailure",
            "InternalServerException",
            "RequestTimeout",
            "RequestTimeoutException",
            "ServerException",
            "ServiceException",
            "ServiceUnavailable",
            "ServiceUnavailableException",
            "Unavailable",
        ),
        Transient,
    ),
    **dict.fromkeys(("ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"), KeysExpired),
    **dict.fromkeys(KEYS_UNKNOWN, KeysUnknown),
    **dict.fromkeys(
        (
            "AWSOrganizationsNotInUseException",
            "AccessDenied",
            "AccessDeniedException",
            "Blocked",
            "IncompleteSignature",
            "IncompleteSignatureException",
            "InvalidSignatureException",
            "MissingAuthenticationToken",
            "MissingAuthenticationTokenException",
            "NotAuthorized",
            "RequestExpired",
            "RequestTimeTooSkewed",
            "SignatureDoesNotMatch",
            "UnauthorizedException",
            "UnauthorizedOperation",
        ),
        Denied,
    ),
    "RepositoryNotFoundException": Gone,
    "RegistryNotFoundException": Gone,
}

#: Codes that a wrong clock brings about, beside a wrong secret key.
_CLOCK = frozenset({"RequestTimeTooSkewed", "InvalidSignatureException", "SignatureDoesNotMatch", "RequestExpired"})

#: Codes of a request that an older server does not understand (it validates against a smaller model).
DIALECT = frozenset({
    "InvalidParameterException",
    "InvalidParameterValue",
    "SerializationException",
    "UnknownParameterException",
    "ValidationError",
    "ValidationException",
})  # fmt: skip

#: Seconds. AWS refuses signatures that are five minutes off; local and server clock are never read at once.
_SKEW_LIMIT = 240.0

_XML_CODE = re.compile(rb"<Code>\s*([^<]{1,200}?)\s*</Code>")
_XML_MESSAGE = re.compile(rb"<Message>\s*([^<]*?)\s*</Message>")

#: What AWS says, for a person's screen: see there.
printable = wording.printable


def malformed(body: bytes, wanted: str) -> Transient:
    """A 200 that is no answer: never to be read as an empty page."""
    shown = printable(body[:80].decode("utf-8", "backslashreplace"))
    return Transient("MalformedResponse", f"the answer is not {wanted}; it begins {shown!r} ({len(body)} bytes)")


def translate(
    status: int, headers: Mapping[str, str], body: bytes, *, doing: str, now: float | None = None
) -> CrawlError:
    """The error that an answer with `status` (never 200) stands for.

    `headers` are found in any case (a CIMultiDict does); `doing` says for the message what was asked of whom; `now` is
    the local clock, in seconds since the epoch.
    """
    if 300 <= status < 400:  # noqa: PLR2004 RFC 9110 §15.4
        return Refused("RedirectRefused", f"{doing}: answered {status}, a redirect; following it would show our keys")
    code, message = _code_and_message(headers, body)
    if not code and body.startswith((b"{", b"<Err", b"<Resp", b"<?xml")) and not _complete(body):
        # Cut short on its way: it may have been a throttle, so it is not final.
        return Transient(f"HTTP{status}", printable(f"{doing}: an error without a code, {body[:80]!r}"))
    return classify(code, message, status, headers, doing=doing, now=now)


def classify(
    code: str, message: str, status: int, headers: Mapping[str, str], *, doing: str, now: float | None = None
) -> CrawlError:
    """The error for an AWS error code that is already known; `code` is "" where the answer had none."""
    text = printable(f"{doing}: {message or f'answered {status}'}")
    if code in _CLOCK:
        skew = _skew(headers, time.time() if now is None else now)
        if abs(skew) > _SKEW_LIMIT:
            return _wrong_clock(skew, code)
    if status == 429 or code in _THROTTLED:  # noqa: PLR2004 RFC 6585 §4
        return Throttled(code or "HTTP429", text, retry_after(headers))
    unknown = Transient if status >= 500 or status == 408 else Refused  # noqa: PLR2004 RFC 9110 §15.6, §15.5.9
    return _TABLE.get(code, unknown)(code or f"HTTP{status}", text)


def _code_and_message(headers: Mapping[str, str], body: bytes) -> tuple[str, str]:
    code, message = headers.get("x-amzn-errortype", ""), ""
    if body[:1] == b"<" or b"<Code>" in body[:2000]:
        found, said = _XML_CODE.search(body), _XML_MESSAGE.search(body)
        code = code or (found[1].decode("utf-8", "replace") if found else "")
        message = unescape(said[1].decode("utf-8", "replace"), {"&quot;": '"', "&apos;": "'"}) if said else ""
    else:
        try:
            document: object = json.loads(body)
        except (ValueError, RecursionError):  # brackets within brackets without end
            document = None
        if isinstance(document, dict):
            fields = cast("dict[str, Any]", document)
            code = code or str(fields.get("__type") or fields.get("code") or "")
            message = str(fields.get("message") or fields.get("Message") or "")
    # "com.amazonaws.ecr#ThrottlingException" in bodies, "ThrottlingException:http://…" in headers.
    return printable(code.rsplit("#", 1)[-1].split(":", 1)[0].strip(), 100), message


def _complete(body: bytes) -> bool:
    return body.rstrip().endswith((b"}", b">"))


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the service asks us to wait: x-amz-retry-after (milliseconds), or Retry-After (RFC 9110 §10.2.3)."""
    for name, unit in (("x-amz-retry-after", 1000.0), ("retry-after", 1.0)):
        text = headers.get(name, "").strip()
        if text.isascii() and text.isdecimal() and len(text) < 10:  # noqa: PLR2004 more digits are no wish, but an error
            return int(text) / unit
    return None


def _skew(headers: Mapping[str, str], now: float) -> float:
    """Local minus server time in seconds; 0 where the server does not say."""
    try:
        return now - parsedate_to_datetime(headers.get("date", "")).timestamp()
    except (ValueError, OverflowError):  # a year of twenty digits
        return 0.0


def _wrong_clock(skew: float, code: str) -> Fatal:
    ahead = "ahead of" if skew > 0 else "behind"
    return Fatal(
        "ClockSkew",
        f"this machine's clock is {abs(skew):.0f} s {ahead} AWS's, which therefore refuses every signature ({code}); "
        "set the clock (NTP), then start again",
    )
