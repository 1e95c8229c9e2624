from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import anyio
import pytest

from crawler.errors import CrawlError, Denied, Gone, Refused, Throttled, Transient
from crawler.model import ImageStatus, Part, Split, TagStatus
from tests.aws.conftest import ACCESS_KEY
from tests.aws.fakes import ACCOUNT, ROLE, drained, registries_at, target
from tests.aws.server import Reply, Request, answer, assumed, refused

pytestmark = pytest.mark.anyio

DIGEST = "sha256:" + "a" * 64


async def test_repositories(monkeypatch: pytest.MonkeyPatch) -> None:
    def reply(request: Request) -> Reply:
        if "nextToken" in request.json:
            return answer({"repositories": [{"repositoryName": "c"}], "nextToken": ""})
        return answer({"repositories": [{"repositoryName": "a"}, {"repositoryName": "b"}], "nextToken": "t/1="})

    async with registries_at(reply, monkeypatch) as (registries, server):
        assert await drained((await registries.open(target())).repositories()) == ["a", "b", "c"]
    first, second = server.requests
    assert first.json == {"registryId": "123456789012", "maxResults": 1000}
    assert second.json == {**first.json, "nextToken": "t/1="}
    assert first.headers["x-amz-target"] == "AmazonEC2ContainerRegistry_V20150921.DescribeRepositories"
    assert first.headers["content-type"] == "application/x-amz-json-1.1"
    assert first.headers["accept-encoding"] == "identity"
    assert first.access_key == ACCESS_KEY


async def test_images_ask_for_every_status_and_a_thousand(monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[dict[str, Any]] = [{"imageDigest": DIGEST, "imageTag": "a"}, {"imageDigest": DIGEST}]
    async with registries_at(lambda _: answer({"imageIds": rows, "nextToken": None}), monkeypatch) as (
        registries,
        server,
    ):
        assert await drained((await registries.open(target())).images("team/app")) == [
            {"imageTag": None, **row} for row in rows
        ]
    assert server.requests[0].json == {
        "registryId": "123456789012",
        "repositoryName": "team/app",
        "maxResults": 1000,
        "filter": {"imageStatus": "ANY"},
    }


async def test_an_accounts_own_filters_win(monkeypatch: pytest.MonkeyPatch) -> None:
    account = replace(ACCOUNT, tag_status=TagStatus.UNTAGGED, image_status=ImageStatus.ARCHIVED)
    settings = {"tag_status": TagStatus.TAGGED, "page_size": 7}
    async with registries_at(lambda _: answer({"imageIds": []}), monkeypatch, **settings) as (registries, server):
        await drained((await registries.open(target(account))).images("a"))
        await drained((await registries.open(target())).images("a"))
    assert [request.json["filter"] for request in server.requests] == [
        {"tagStatus": "UNTAGGED", "imageStatus": "ARCHIVED"},
        {"tagStatus": "TAGGED", "imageStatus": "ANY"},
    ]
    assert server.requests[0].json["maxResults"] == 7


async def test_parts_are_what_is_asked_for_and_nothing_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    tagged, untagged, tag = TagStatus.TAGGED, TagStatus.UNTAGGED, TagStatus.ANY
    any_, active, archived, activating = (
        ImageStatus.ANY,
        ImageStatus.ACTIVE,
        ImageStatus.ARCHIVED,
        ImageStatus.ACTIVATING,
    )
    async with registries_at(lambda _: answer({"imageIds": []}), monkeypatch) as (registries, server):
        whole = await registries.open(target())
        assert whole.parts(Split.NO) == [Part(tag, any_)]
        assert whole.parts(Split.TAGS) == [Part(tagged, any_), Part(untagged, any_)]
        statuses = (active, archived, activating)
        assert whole.parts(Split.ALL) == [Part(tags, status) for tags in (tagged, untagged) for status in statuses]
        narrow = await registries.open(target(replace(ACCOUNT, tag_status=untagged, image_status=archived)))
        assert narrow.parts(Split.ALL) == [Part(untagged, archived)]
        for part in whole.parts(Split.TAGS):
            await drained(whole.images("a", part))
    assert [request.json["filter"] for request in server.requests] == [
        {"tagStatus": "TAGGED", "imageStatus": "ANY"},
        {"tagStatus": "UNTAGGED", "imageStatus": "ANY"},
    ]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"[" * 100_000,
        b'{"imageIds":' * 100_000,
        b"{}",
        b'"text"',
        b"<html></html>",
        b'{"imageIds": [{"imageDig',
        b'{"imageIds": null}',
        b'{"imageIds": {}}',
        b'{"imageIds": [1]}',
        b'{"imageIds": [null]}',
        b'{"imageIds": [[]]}',
        b'{"imageIds": ["imageDigest"]}',
        b'{"imageIds": [{}]}',
        b'{"imageIds": [{"imageDigest": 1}]}',
        b'{"imageIds": [{"imageDigest": null}]}',
        b'{"imageIds": [{"imageDigest": "sha256:a", "imageTag": 1}]}',
        b'{"imageIds": [], "nextToken": 1}',
        b'{"__type": "ThrottlingException", "imageIds": [], "repositories": []}',
        b'{"imageIds": [], "nextToken": {}}',
        b"\xff\xfe",
    ],
)
async def test_a_page_that_is_none_is_transient_never_empty(body: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    async with registries_at(lambda _: answer(body), monkeypatch) as (registries, _):
        registry = await registries.open(target())
        with pytest.raises(Transient) as caught:
            await registry.images("a")(None)
        assert caught.value.code == "MalformedResponse"
        with pytest.raises(Transient):
            await registry.repositories()(None)


@pytest.mark.parametrize("name", ["a\nb", "\u2028", "\ud800", "../../x", '"', "\x00"])
async def test_strange_names_survive_both_ways(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    body = json.dumps({"imageIds": [{"imageDigest": DIGEST, "imageTag": name}]}).encode("ascii")
    async with registries_at(lambda _: answer(body), monkeypatch) as (registries, server):
        page = await (await registries.open(target())).images(name)(None)
    assert page.items[0]["imageTag"] == name
    assert server.requests[0].json["repositoryName"] == name


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (refused("ThrottlingException"), Throttled),
        (answer(b"", 503), Transient),
        (refused("RepositoryNotFoundException"), Gone),
        (refused("AccessDeniedException"), Denied),
        (answer(b"", 307, Location="http://127.0.0.1:1/"), Refused),
    ],
)
async def test_a_fetch_makes_one_attempt(reply: Reply, kind: type[CrawlError], monkeypatch: pytest.MonkeyPatch) -> None:
    async with registries_at(lambda _: reply, monkeypatch) as (registries, server):
        with pytest.raises(kind):
            await (await registries.open(target())).images("a")(None)
        assert len(server.requests) == 1


def old_server(request: Request) -> Reply:
    """A server of the model of 2016: no imageStatus, at most 100 a page."""
    asked = request.json
    if "imageStatus" in asked.get("filter", {}) or asked["maxResults"] > 100:
        return refused("InvalidParameterException", message="Invalid parameter at 'filter'")
    if request.operation == "DescribeRepositories":
        return answer({"repositories": [{"repositoryName": "a"}]})
    return answer({"imageIds": [{"imageDigest": DIGEST}], "nextToken": None if "nextToken" in asked else "t"})


async def test_an_old_server_is_spoken_to_in_its_dialect(monkeypatch: pytest.MonkeyPatch) -> None:
    warnings: list[tuple[str, str]] = []
    async with registries_at(old_server, monkeypatch, warn=lambda *warned: warnings.append(warned)) as (
        registries,
        server,
    ):
        registry = await registries.open(target())
        assert await drained(registry.repositories()) == ["a"]
        assert len(await drained(registry.images("a"))) == 2
        before = len(server.requests)
        assert len(await drained((await registries.open(target())).images("b"))) == 2
        assert len(server.requests) == before + 2  # learned
    assert [request.json["maxResults"] for request in server.requests[-2:]] == [100, 100]
    assert "filter" not in server.requests[-1].json
    ((message, where),) = warnings
    assert "archived images are not listed" in message
    assert where.startswith(server.url)


async def test_one_stray_refusal_does_not_make_an_old_server(monkeypatch: pytest.MonkeyPatch) -> None:
    warnings: list[tuple[str, str]] = []

    def reply(_: Request) -> Reply:
        if len(server.requests) == 1:
            return refused("InvalidParameterException")
        return answer({"imageIds": [{"imageDigest": DIGEST}]})

    async with registries_at(reply, monkeypatch, warn=lambda *warned: warnings.append(warned)) as (registries, server):
        assert len(await drained((await registries.open(target())).images("a"))) == 1
    assert [request.json["filter"] for request in server.requests] == [{"imageStatus": "ANY"}] * 2
    assert not warnings


async def test_two_stray_refusals_do_not_make_an_old_server_either(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left out for the rest of the run has been refused once more, after the older request was understood."""
    warnings: list[tuple[str, str]] = []

    def reply(request: Request) -> Reply:
        if len(server.requests) <= 2:
            return refused("InvalidParameterException")
        archived = "filter" in request.json
        return answer({"imageIds": [{"imageDigest": DIGEST}] * (1 + archived)})

    async with registries_at(reply, monkeypatch, warn=lambda *warned: warnings.append(warned)) as (registries, server):
        registry = await registries.open(target())
        assert len(await drained(registry.images("a"))) == 2
        assert len(await drained(registry.images("b"))) == 2
        assert len(server.requests) == 5
    assert not warnings


async def test_what_was_asked_for_is_never_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"image_status": ImageStatus.ARCHIVED, "page_size": 100}
    async with registries_at(old_server, monkeypatch, **settings) as (registries, server):
        with pytest.raises(Refused, match="Invalid parameter at 'filter'"):
            await (await registries.open(target())).images("a")(None)
        assert len(server.requests) == 1


async def test_a_token_that_is_refused_is_not_tried_in_another_dialect(monkeypatch: pytest.MonkeyPatch) -> None:
    def reply(request: Request) -> Reply:
        if "nextToken" in request.json:
            return refused("InvalidParameterException")
        return answer({"imageIds": [{"imageDigest": DIGEST}], "nextToken": "t"})

    async with registries_at(reply, monkeypatch) as (registries, server):
        fetch = (await registries.open(target())).images("a")
        await fetch(None)
        with pytest.raises(Refused):
            await fetch("t")
        assert len(server.requests) == 2


async def test_a_region_that_is_no_name_is_refused_before_anything_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    async with registries_at(lambda _: None, monkeypatch) as (registries, server):
        with pytest.raises(Refused, match=r"evil\.example"):
            await registries.open(target(region="evil.example/"))
        assert server.connections == 0


STALL = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{"


async def test_a_request_that_stalls_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async with registries_at(lambda _: STALL, monkeypatch, attempt_timeout=0.05) as (registries, _):
        fetch = (await registries.open(target())).images("a")
        with anyio.fail_after(20), pytest.raises(Transient, match=r"within 0\.05 s"):
            await fetch(None)


async def test_a_renewal_of_keys_has_deadlines_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """The keys end, and AssumeRole stalls twice: longer than one request may take, and the page comes all the same."""
    roles = iter([assumed("ASIA0"), STALL, STALL, assumed("ASIA1")])

    def reply(request: Request) -> Reply:
        if request.operation == "AssumeRole":
            return next(roles)
        return refused("ExpiredTokenException") if request.access_key == "ASIA0" else answer({"imageIds": []})

    async with registries_at(reply, monkeypatch, attempt_timeout=1) as (registries, server):
        assert await drained((await registries.open(target(ROLE))).images("a")) == []
        assert (server.count("AssumeRole"), server.count("ListImages")) == (4, 2)


def body_of(*digests: str, token: str | None = None, token_first: bool = False) -> bytes:
    rows = json.dumps([{"imageDigest": digest, "imageTag": "v"} for digest in digests])
    members = [f'"imageIds": {rows}', *([f'"nextToken": "{token}"'] if token else [])]
    return f"{{{', '.join(members[::-1] if token_first else members)}}}".encode()


@pytest.mark.parametrize("token_first", [True, False])
async def test_a_page_is_known_again_by_its_list_and_not_by_its_token(
    monkeypatch: pytest.MonkeyPatch, *, token_first: bool
) -> None:
    lists = [("a", "b"), ("a", "b"), ("a", "b"), ("b", "a"), ("a",), ("a", "bc"), ("ab", "c")]
    tokens = ["t1", "t2", None, "t3", "t3", "t3", "t3"]
    bodies = iter(
        body_of(*rows, token=token, token_first=token_first) for rows, token in zip(lists, tokens, strict=True)
    )
    async with registries_at(lambda _: answer(next(bodies)), monkeypatch) as (registries, _):
        fetch = (await registries.open(target())).images("a")
        first, same, last, *others = [(await fetch(token)).fingerprint for token in [None, *tokens[:-1]]]
    assert first == same == last
    assert first is not None
    assert len({first, *others}) == 5
