"""Each fault does at the socket what its name says, and strikes when its rule says."""

from __future__ import annotations

import gzip
import json
import socket
import urllib.request
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import pytest

ONE = "000000000001"
NAME = "team-00/service-00000"


def page(caller: Any, token: str | None = None, size: int = 5) -> Any:
    body = {"repositoryName": NAME, "maxResults": size} | ({} if token is None else {"nextToken": token})
    return caller.call("ListImages", body)


def raw(caller: Any) -> tuple[bytes, BaseException | None]:
    """All bytes that come until the server closes, or is silent for a moment, and how it ended."""
    request = caller.sign("ListImages", {"repositoryName": NAME})
    address = urlsplit(caller.emulator.url)
    head = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
    with socket.create_connection((address.hostname, address.port), timeout=0.4) as own:
        head = f"POST / HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Length: {len(request.data)}\r\n{head}\r\n"
        own.sendall(head.encode() + request.data)
        got = b""
        try:
            while data := own.recv(65536):
                got += data
        except (ConnectionResetError, TimeoutError) as error:
            return got, error
        return got, None


def framed(caller: Any) -> tuple[dict[str, str], bytes, BaseException | None]:
    got, error = raw(caller)
    head, _, body = got.partition(b"\r\n\r\n")
    fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
    return {name.lower(): value for name, value in fields.items()}, body, error


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        ("throttling", 400, "ThrottlingException"),
        ("throttling-429", 429, "ThrottleException"),
        ("limit-exceeded", 400, "LimitExceededException"),
        ("server-error", 500, "ServerException"),
        ("expired-token", 400, "ExpiredTokenException"),
        ("invalid-signature", 403, "InvalidSignatureException"),
        ("access-denied", 400, "AccessDeniedException"),
        ("access-denied-resource-policy", 400, "AccessDeniedException"),
        ("unrecognized-client", 400, "UnrecognizedClientException"),
        ("time-too-skewed", 403, "RequestTimeTooSkewed"),
    ],
)
def test_refusals_strike_once_in_each_chain(struck: Callable[..., Any], fault: str, status: int, code: str) -> None:
    caller = struck(fault)
    answer = page(caller)
    assert (answer.status, answer.code) == (status, code)
    assert page(caller).status == 200
    other = caller.call("ListImages", {"repositoryName": "team-01/service-00001"})
    assert other.status == status
    stats = caller.emulator.stats()
    assert stats["faults"] == {fault: 2}
    assert stats["errors"] == {code: 2}


def test_unavailable_is_not_json(struck: Callable[..., Any]) -> None:
    answer = page(struck("unavailable"))
    assert (answer.status, answer.headers["content-type"]) == (503, "text/html")


def test_time_too_skewed_has_a_date_ahead(struck: Callable[..., Any]) -> None:
    caller = struck("time-too-skewed")
    ahead = parsedate_to_datetime(page(caller).headers["date"]) - parsedate_to_datetime(page(caller).headers["date"])
    assert 1198 <= ahead.total_seconds() <= 1202


def test_retry_after(struck: Callable[..., Any]) -> None:
    assert page(struck("throttling:retry_after_ms=1500")).headers["x-amz-retry-after"] == "1500"


def test_wire_faults(struck: Callable[..., Any]) -> None:
    whole = page(struck()).body

    got, error = raw(struck("reset-before-response"))
    assert (got, type(error)) == (b"", ConnectionResetError)

    fields, body, error = framed(struck("short-fin"))
    assert error is None
    assert 0 < len(body) < int(fields["content-length"])

    fields, body, error = framed(struck("unterminated-chunk"))
    assert error is None
    assert fields["transfer-encoding"] == "chunked"
    assert not body.endswith(b"0\r\n\r\n")

    fields, body, error = framed(struck("content-length-too-large"))
    assert error is None
    assert len(json.loads(body)["imageIds"]) == 20
    assert len(body) < int(fields["content-length"])

    fields, body, error = framed(struck("content-length-too-small"))
    assert isinstance(error, TimeoutError), "the connection stays open"
    assert len(json.loads(body)["imageIds"]) == 20
    assert len(body) > int(fields["content-length"])

    assert len(json.loads(whole)["imageIds"]) == 5


def test_reset_mid_body(struck: Callable[..., Any]) -> None:
    fields, body, error = framed(struck("reset-mid-body"))
    assert isinstance(error, ConnectionResetError)
    assert 0 < len(body) < int(fields["content-length"])


def test_stall_and_slow_loris(struck: Callable[..., Any]) -> None:
    got, error = raw(struck("stall"))
    assert (got, type(error)) == (b"", TimeoutError)
    assert page(struck("stall:seconds=0.01")).status == 200
    assert page(struck("slow-loris:seconds=0.0001")).body == page(struck()).body
    caller = struck("slow-loris:seconds=60")
    fields, body, error = framed(caller)
    assert (body, type(error)) == (b"", TimeoutError)
    assert fields["content-length"]


@pytest.mark.parametrize(
    ("fault", "body"),
    [("empty-body", b""), ("null-body", b"null"), ("array-body", b"[]"), ("missing-image-ids", b"{}")],
)
def test_bodies(struck: Callable[..., Any], fault: str, body: bytes) -> None:
    caller = struck(fault)
    answer = page(caller)
    assert (answer.status, answer.body) == (200, body)
    assert len(page(caller).json["imageIds"]) == 5


def test_other_bodies(struck: Callable[..., Any]) -> None:
    with pytest.raises(json.JSONDecodeError):
        _ = page(struck("malformed-json")).json
    html = page(struck("html"))
    assert (html.status, html.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert not isinstance(page(struck("image-ids-not-a-list")).json["imageIds"], list)
    packed = page(struck("gzip-body"))
    assert packed.headers["content-encoding"] == "gzip"
    assert gzip.decompress(packed.body) == page(struck()).body
    assert page(struck("doubled-body")).body == 2 * page(struck()).body
    chunked = page(struck("chunked-body"))
    assert (chunked.headers["transfer-encoding"], chunked.body) == ("chunked", page(struck()).body)


def test_redirect_records_whether_credentials_came(struck: Callable[..., Any]) -> None:
    caller = struck("redirect")
    answer = page(caller)
    assert (answer.status, answer.headers["location"]) == (307, "/redirected")
    target = caller.emulator.url + answer.headers["location"]
    urllib.request.urlopen(urllib.request.Request(target, b"", {"X-Amz-Security-Token": "s"})).close()  # noqa: S310  (loopback)
    (seen,) = caller.emulator.stats()["redirected"]
    assert seen == {"path": "/redirected", "method": "POST", "credentials": ["x-amz-security-token"]}
    moved = page(struck("redirect:location=http://localhost:9/x,status=301"))
    assert (moved.status, moved.headers["location"]) == (301, "http://localhost:9/x")


def walk(caller: Any, most: int = 12) -> tuple[list[list[str]], list[str | None]]:
    """Rows and tokens of a chain that is followed without thinking, `most` pages far."""
    rows: list[list[str]] = []
    tokens: list[str | None] = [None]
    while len(rows) < most:
        answer = page(caller, tokens[-1]).json
        rows.append([each["imageTag"] for each in answer["imageIds"]])
        tokens.append(answer.get("nextToken"))
        if not tokens[-1]:
            break
    return rows, tokens[1:]


def test_token_faults(struck: Callable[..., Any]) -> None:
    rows, tokens = walk(struck())
    assert (len(rows), tokens[-1], len(set(tokens))) == (4, None, 4)

    _, tokens = walk(struck("same-token"))
    assert len(set(tokens)) == 1

    _, tokens = walk(struck("cycling-tokens"))
    assert len(tokens) == 12
    assert tokens[::2] == [tokens[0]] * 6
    assert tokens[1::2] == [tokens[1]] * 6
    assert tokens[0] != tokens[1]

    endless, tokens = walk(struck("endless-tokens"))
    assert len(set(tokens)) == 12
    assert all(endless)

    endless, tokens = walk(struck("endless-empty-pages"))
    assert (endless, len(set(tokens))) == ([[]] * 12, 12)

    late, tokens = walk(struck("empty-page:page=2"))
    assert late == [rows[0], [], *rows[1:]]
    assert len(set(tokens)) == 5

    same, tokens = walk(struck("empty-token"))
    assert (same, tokens[-1]) == (rows, "")


def test_token_rejected_stays_rejected(struck: Callable[..., Any]) -> None:
    caller = struck("token-rejected:page=3")
    second = page(caller).json["nextToken"]
    third = page(caller, second).json["nextToken"]
    for token in (third, third, second):
        assert page(caller, token).code == "InvalidParameterException"
    rows, tokens = walk(caller)
    assert sum(map(len, rows)) == 20
    assert not {second, third} & set(tokens)


def test_repository_deleted_is_gone_for_good(struck: Callable[..., Any]) -> None:
    caller = struck("repository-deleted:page=3")
    third = page(caller, page(caller).json["nextToken"]).json["nextToken"]
    assert page(caller, third).code == "RepositoryNotFoundException"
    assert page(caller).code == "RepositoryNotFoundException"
    assert caller.call("ListImages", {"repositoryName": "team-01/service-00001"}).status == 200


def test_session_ended_until_the_role_is_assumed_again(struck: Callable[..., Any]) -> None:
    caller = struck("session-ended:limit=1")
    assert [page(caller).code, page(caller).code] == ["ExpiredTokenException"] * 2
    caller.keys = caller.assume(ONE, type(caller)(caller.emulator).keys)
    assert page(caller).status == 200
