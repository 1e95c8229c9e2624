from __future__ import annotations

import json
import time
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawler.aws.errors import malformed, printable, retry_after, translate
from crawler.errors import CrawlError, Denied, Fatal, Gone, KeysExpired, KeysUnknown, Refused, Throttled, Transient

NOON = 1_795_435_200.0  # Mon, 23 Nov 2026 12:00:00 GMT
AT_NOON = {"date": "Mon, 23 Nov 2026 12:00:00 GMT"}

TABLE: list[tuple[int, str, type[CrawlError]]] = [
    (400, "ThrottlingException", Throttled),
    (429, "ThrottleException", Throttled),
    (400, "Throttling", Throttled),
    (400, "TooManyRequestsException", Throttled),
    (400, "LimitExceededException", Throttled),
    (503, "RequestLimitExceeded", Throttled),
    (503, "SlowDown", Throttled),
    (429, "WhoKnowsException", Throttled),
    (500, "ServerException", Transient),
    (400, "RequestTimeout", Transient),
    (400, "RequestTimeoutException", Transient),
    (503, "ServiceUnavailable", Transient),
    (500, "InternalFailure", Transient),
    (502, "NeverHeardOf", Transient),
    (403, "ExpiredTokenException", KeysExpired),
    (400, "ExpiredTokenException", KeysExpired),
    (403, "ExpiredToken", KeysExpired),
    (400, "InvalidParameterException", Refused),
    (400, "ValidationException", Refused),
    (400, "SerializationException", Refused),
    (400, "UnknownOperationException", Refused),
    (400, "RepositoryNotFoundException", Gone),
    (400, "AccessDeniedException", Denied),
    (403, "AccessDeniedException", Denied),
    (403, "UnauthorizedOperation", Denied),
    (400, "AWSOrganizationsNotInUseException", Denied),
    (400, "UnrecognizedClientException", KeysUnknown),
    (403, "InvalidClientTokenId", KeysUnknown),
    (401, "AuthFailure", KeysUnknown),
    (403, "InvalidSignatureException", Denied),
    (403, "SignatureDoesNotMatch", Denied),
]


@pytest.mark.parametrize(("status", "code", "kind"), TABLE)
def test_table_json_xml_and_header(status: int, code: str, kind: type[CrawlError]) -> None:
    bodies: list[tuple[dict[str, str], bytes]] = [
        ({}, json.dumps({"__type": code, "message": "said"}).encode()),
        ({}, json.dumps({"__type": f"com.amazonaws.ecr#{code}", "Message": "said"}).encode()),
        ({}, json.dumps({"code": code, "message": "said"}).encode()),
        ({"x-amzn-errortype": f"{code}:http://internal.amazon.com/"}, b'{"message": "said"}'),
        ({}, f"<ErrorResponse><Error><Code>{code}</Code><Message>said</Message></Error></ErrorResponse>".encode()),
        (
            {},
            f"<Response><Errors><Error><Code>{code}</Code><Message>said</Message></Error></Errors></Response>".encode(),
        ),
    ]
    for headers, body in bodies:
        error = translate(status, headers | AT_NOON, body, doing="ecr:ListImages", now=NOON)
        assert type(error) is kind
        assert error.code == code
        assert error.message == "ecr:ListImages: said"


@pytest.mark.parametrize(
    ("status", "body", "kind", "code"),
    [
        (503, b"<html>busy</html>", Transient, "HTTP503"),
        (502, b"", Transient, "HTTP502"),
        (500, b"null", Transient, "HTTP500"),
        (408, b"", Transient, "HTTP408"),
        (429, b"", Throttled, "HTTP429"),
        (404, b"<!doctype html>", Refused, "HTTP404"),
        (407, b"", Refused, "HTTP407"),
        (409, b"", Refused, "HTTP409"),
        (428, b"", Refused, "HTTP428"),
        (499, b"", Refused, "HTTP499"),
        (299, b"", Refused, "HTTP299"),
        (400, b"{}", Refused, "HTTP400"),
        (400, b"[]", Refused, "HTTP400"),
        (400, b'{"message":"a"}\n', Refused, "HTTP400"),
        (400, b"<Error></Error>", Refused, "HTTP400"),
        # Cut short: it may have been a throttle.
        (400, b'{"__type":"Throttl', Transient, "HTTP400"),
        (400, b"<Error><Code>Thr", Transient, "HTTP400"),
        (400, b"<Response><Err", Transient, "HTTP400"),
        (400, b'<?xml version="1.0"', Transient, "HTTP400"),
        (400, b"Sorry", Refused, "HTTP400"),  # nothing that AWS would begin with
        (300, b"", Refused, "RedirectRefused"),
        (301, b"", Refused, "RedirectRefused"),
        (307, b"", Refused, "RedirectRefused"),
        (399, b"", Refused, "RedirectRefused"),
    ],
)
def test_answers_without_a_code(status: int, body: bytes, kind: type[CrawlError], code: str) -> None:
    error = translate(status, {}, body, doing="x")
    assert (type(error), error.code) == (kind, code)


def test_answers_that_are_none_say_what_came() -> None:
    redirect = translate(301, {"location": "https://elsewhere/"}, b"", doing="ecr:ListImages")
    assert redirect.message == "ecr:ListImages: answered 301, a redirect; following it would show our keys"
    cut = translate(400, {}, b'{"__type":"Throttl', doing="ecr:ListImages")
    assert cut.message == """ecr:ListImages: an error without a code, b'{"__type":"Throttl'"""
    long = translate(400, {}, b"{" + b"x" * 200, doing="y")
    assert long.message == f"y: an error without a code, b'{{{'x' * 79}'"
    empty = translate(502, {}, b"", doing="ecr:ListImages")
    assert empty.message == "ecr:ListImages: answered 502"
    error = malformed(b"<html>\xff" + b"x" * 100, "a page")
    assert (error.code, error.message) == (
        "MalformedResponse",
        f"the answer is not a page; it begins '<html>\\\\xff{'x' * 73}' (107 bytes)",
    )


@pytest.mark.parametrize(
    ("headers", "body", "code", "message"),
    [
        ({"x-amzn-errortype": "A"}, b'{"__type": "B", "code": "C"}', "A", "answered 400"),
        ({}, b'{"__type": "B", "code": "C", "message": "m", "Message": "n"}', "B", "m"),
        ({}, b'{"__type": null, "code": "C", "message": null, "Message": "n"}', "C", "n"),
        ({}, b'{"code": "a#b#c:d:e "}', "c", "answered 400"),
        ({}, b'{"code": " c : d"}', "c", "answered 400"),
        ({"x-amzn-errortype": "A"}, b"<Code>B</Code><Message>m</Message>", "A", "m"),
        ({}, b"<Code>\n B\n</Code><Message>\n m n\n</Message>", "B", "m n"),
        ({}, b"  <Code>B</Code>", "B", "answered 400"),
        ({}, b" " * 1990 + b"<Code>B</Code>", "B", "answered 400"),
        ({}, b"<Message>m</Message>", "HTTP400", "m"),
        ({}, b"<Code>B\xff</Code><Message>m\xff</Message>", "B\N{REPLACEMENT CHARACTER}", "m\N{REPLACEMENT CHARACTER}"),
        ({}, b"<Code>B</Code><Message>&lt;&quot;&apos;&amp;</Message>", "B", "<\"'&"),
        ({}, b'{"code": "%b", "message": "m"}' % (b"B-" * 51), "B-" * 49 + "B…", "m"),
        ({}, b'{"code": 7, "message": ["m"]}', "7", "['m']"),
    ],
)
def test_where_code_and_message_are_found(headers: dict[str, str], body: bytes, code: str, message: str) -> None:
    error = translate(400, headers, body, doing="x")
    assert (error.code, error.message) == (code, f"x: {message}")


def test_what_botocore_would_try_again_is_tried_again() -> None:
    from botocore.retries.standard import (  # noqa: PLC0415  (heavy)
        ThrottledRetryableChecker,
        TransientRetryableChecker,
    )

    def kinds(codes: list[str]) -> set[type[CrawlError]]:
        return {type(translate(400, {}, json.dumps({"__type": code}).encode(), doing="x")) for code in codes}

    assert kinds(ThrottledRetryableChecker._THROTTLED_ERROR_CODES) == {Throttled}
    # One of them (PriorRequestNotComplete) is in both lists: the slower way is the safer one.
    assert kinds(TransientRetryableChecker._TRANSIENT_ERROR_CODES) == {Transient, Throttled}


@pytest.mark.parametrize("code", ["RequestTimeTooSkewed", "InvalidSignatureException", "SignatureDoesNotMatch"])
def test_a_wrong_clock_stops_the_run_and_says_by_how_much(code: str) -> None:
    body = json.dumps({"__type": code}).encode()
    error = translate(403, AT_NOON, body, doing="x", now=NOON + 1201)
    assert isinstance(error, Fatal)
    assert "1201 s ahead of" in error.message
    assert "NTP" in error.message
    behind = translate(403, AT_NOON, body, doing="x", now=NOON - 400)
    assert isinstance(behind, Fatal)
    assert "400 s behind" in behind.message
    assert behind.message == (
        "this machine's clock is 400 s behind AWS's, which therefore refuses every signature "
        f"({code}); set the clock (NTP), then start again"
    )
    assert (behind.code, error.code) == ("ClockSkew", "ClockSkew")
    for late in (-240, 0, 240):
        assert type(translate(403, AT_NOON, body, doing="x", now=NOON + late)) is Denied
    for late in (-241, 241):
        assert type(translate(403, AT_NOON, body, doing="x", now=NOON + late)) is Fatal
    assert type(translate(403, {}, body, doing="x", now=NOON)) is Denied
    assert type(translate(403, {"date": "garbage"}, body, doing="x", now=NOON)) is Denied


def test_the_clock_is_this_machines_and_now() -> None:
    body = b'{"__type":"SignatureDoesNotMatch"}'
    assert type(translate(403, {"date": formatdate(time.time(), usegmt=True)}, body, doing="x")) is Denied
    assert type(translate(403, {"date": formatdate(time.time() - 999, usegmt=True)}, body, doing="x")) is Fatal


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"x-amz-retry-after": "1500"}, 1.5),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": " 7 "}, 7.0),
        ({"retry-after": "999999999"}, 999_999_999.0),
        ({"retry-after": "1000000000"}, None),
        ({"x-amz-retry-after": "soon", "retry-after": "7"}, 7.0),
        ({"x-amz-retry-after": "250", "retry-after": "7"}, 0.25),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "9" * 40}, None),
        ({"retry-after": "²"}, None),
        ({}, None),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers) == seconds
    error = translate(400, headers, b'{"__type":"ThrottlingException"}', doing="x")
    assert isinstance(error, Throttled)
    assert error.retry_after == seconds


@given(
    st.integers(300, 599), st.binary(max_size=200), st.dictionaries(st.sampled_from(["date", "retry-after"]), st.text())
)
def test_any_answer_becomes_one_of_our_errors(status: int, body: bytes, headers: dict[str, str]) -> None:
    error = translate(status, headers, body, doing="x")
    assert isinstance(error, CrawlError)
    assert error.message.isprintable()
    assert len(error.message) <= 500


@given(st.binary(max_size=300))
def test_malformed_shows_a_printable_beginning(body: bytes) -> None:
    assert malformed(body, "a page").message.isprintable()


def test_messages_hold_no_secrets() -> None:
    secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
    token = "IQoJb3JpZ2luX2VjE" + "x/9+A" * 60
    signature = "AWS4-HMAC-SHA256 Credential=AKIA/x, SignedHeaders=host, Signature=" + "a" * 64
    for text in (f"key {secret} is bad", f"token={token}", f"Authorization: {signature}"):
        shown = printable(text)
        assert "***" in shown
        assert not any(part in shown for part in (secret, token, "a" * 64))
    for written in (
        token.replace("/", "%2F").replace("+", "%2b"),
        token.replace("/", "\\/"),
        token.replace("/", "&#x2F;"),
    ):
        assert printable(f"you sent {written}, which is bad") == "you sent ***, which is bad"
    assert printable(f"key {secret} is bad") == "key *** is bad"
    arn = "User: arn:aws:sts::123456789012:assumed-role/OrganizationInventory/ecr-inventory-crawler is not authorized"
    assert printable(arn) == arn
    digest = "sha256:" + "0a" * 32
    assert printable(digest) == digest


def test_long_and_odd_messages() -> None:
    assert printable("a\nb\x1b[31m\u2028") == "a\\nb\\x1b[31m\\u2028"
    assert len(printable("word " * 5000)) == 500
    assert printable("-" * 500) == "-" * 500
    assert printable("-" * 501) == "-" * 499 + "…"
    assert printable("-" * 12, 12) == "-" * 12
    assert printable("-" * 13, 12) == "-" * 11 + "…"


@pytest.mark.parametrize(
    "body", [b"[" * 100_000, b'{"message":' * 100_000, b'{"__type":"ThrottlingException","x":' + b"[" * 9000]
)
def test_an_error_nested_without_end_is_one_of_ours(body: bytes) -> None:
    assert isinstance(translate(400, {}, body, doing="x"), CrawlError)


@pytest.mark.parametrize(
    "date",
    [
        "Mon, 1 Jan 99999999999999999999 00:00:00 GMT",
        "Mon, 1 Jan 2020 00:00:00 +99999999999999",
        "Mon, 1 Jan 0001 00:00:00 -0000",
    ],
)
def test_a_date_that_no_clock_knows_is_one_of_ours(date: str) -> None:
    answer = {"x-amzn-errortype": "RequestTimeTooSkewed", "date": date}
    assert isinstance(translate(403, answer, b"", doing="x"), CrawlError)
