"""Faults of the connection (`faults.md`): each an error of ours, none an empty page, and no secret sent elsewhere."""

from __future__ import annotations

import gzip
from contextlib import suppress
from pathlib import Path

import anyio
import pytest
from anyio.lowlevel import checkpoint

from crawler.aws import exchange as exchanging
from crawler.aws import http
from crawler.aws.exchange import Response, serialize
from crawler.aws.http import Pool, route, tls_context
from crawler.errors import CrawlError, Transient
from tests.aws.server import CLOSE, Reply, Request, answer, serving
from tests.certificates import certify

pytestmark = pytest.mark.anyio


async def exchange(url: str, *, timeout: float = 20.0) -> Response:  # noqa: ASYNC109  (the pool's own)
    async with Pool(connections=4, timeout=timeout) as pool:
        return await pool.request("POST", route(url), {"Authorization": "canary"}, b"{}")


@pytest.mark.parametrize(
    "reply",
    [
        None,
        CLOSE,
        b"HTTP/1.1 200 OK\r\nContent-Le" + CLOSE,
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}" + CLOSE,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{" + CLOSE,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n" + CLOSE,
        b"no HTTP at all\r\n\r\n" + CLOSE,
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nabcd" + CLOSE,
    ],
)
async def test_broken_connections_are_transient(reply: Reply) -> None:
    async with serving(lambda _: reply) as server:
        with pytest.raises(Transient) as caught:
            await exchange(server.url)
    assert caught.value.code == "ConnectionBroken"
    assert "127.0.0.1" in caught.value.message
    assert "canary" not in str(caught.value)


async def test_content_length_too_small_cuts_the_body_and_spoils_no_other_answer() -> None:
    """What is left over is on the connection when the next request is: that one has an answer of its own."""
    short = b'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{"imageIds": []}'
    replies = iter([short, *[answer(b"whole")] * 9])
    async with serving(lambda _: next(replies)) as server, Pool(connections=1, timeout=20) as pool:
        with suppress(Transient):  # where what is left over comes along with it
            assert (await pool.request("POST", route(server.url), {}, b"")).body == b'{"ima'
        for _ in range(3):
            assert (await pool.request("POST", route(server.url), {}, b"")).body == b"whole"
    assert server.connections == 2, "it spoils one connection, and no more"


async def test_an_answer_nobody_asked_for_is_given_to_nobody() -> None:
    """It comes late, on a connection that waits for its next request: whose rows would those be?"""
    replies = iter([b"first", b"second"])
    async with serving(lambda _: answer(next(replies))) as server, Pool(connections=1, timeout=20) as pool:
        assert (await pool.request("POST", route(server.url), {}, b"")).body == b"first"
        server.writers[0].write(answer(b"stray"))
        (kept,) = [protocol for waiting in pool._connector._conns.values() for protocol, _ in waiting]
        while not kept.should_close:
            await checkpoint()
        assert (await pool.request("POST", route(server.url), {}, b"")).body == b"second"


async def test_slow_body_ends_at_the_deadline() -> None:
    async with serving(lambda _: b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{") as server:
        with pytest.raises(Transient, match=r"no complete answer from 127.0.0.1 within 0.05 s"):
            await exchange(server.url, timeout=0.05)


async def test_waiting_for_a_slot_is_not_part_of_the_deadline() -> None:
    def reply(request: Request) -> bytes:
        return answer(b"ok") if request.body else b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"

    async with serving(reply) as server, Pool(connections=1, timeout=0.5) as pool:

        async def hold_the_slot() -> None:
            with pytest.raises(Transient):
                await pool.request("POST", route(server.url), {}, b"", seconds=0.6)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(hold_the_slot)
            await anyio.wait_all_tasks_blocked()
            assert (await pool.request("POST", route(server.url), {}, b"{}")).status == 200


async def test_connections_are_bounded_and_kept() -> None:
    async with serving(lambda _: answer(b"ok")) as server, Pool(connections=1, timeout=20) as pool:
        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(pool.request, "POST", route(server.url), {}, b"")
        assert (len(server.requests), server.connections) == (20, 1)


async def test_compressed_unasked_is_decoded() -> None:
    body = gzip.compress(b'{"imageIds": []}')
    async with serving(lambda _: answer(body, Content_Encoding="gzip")) as server:
        assert (await exchange(server.url)).body == b'{"imageIds": []}'


async def test_endless_body_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchanging, "BODY_LIMIT", 1000)
    async with serving(lambda _: answer(b"x" * 1001)) as server:
        with pytest.raises(CrawlError) as caught:
            await exchange(server.url)
    assert (caught.value.code, caught.value.retryable) == ("BodyTooLarge", False)


async def test_refused_connection_and_unknown_host_are_transient() -> None:
    async with serving(lambda _: None) as server:
        url = server.url
    with pytest.raises(Transient) as caught:
        await exchange(url)
    assert caught.value.code == "ConnectionBroken"
    with pytest.raises(Transient) as caught:
        await exchange("https://no-such-region.invalid/")
    assert caught.value.code == "UnknownHost"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_answers_and_nobody_else_hears_of_it(status: int) -> None:
    async with serving(lambda _: answer(b"stolen")) as thief:
        async with serving(lambda _: answer(b"", status, Location=f"{thief.url}/")) as server:
            assert (await exchange(server.url)).status == status
        assert thief.connections == 0


async def test_proxy_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(lambda _: answer(b"", 407)) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://user:canary@127.0.0.1:{proxy.port}")
        with pytest.raises(CrawlError, match="Proxy407"):
            await exchange("https://example.invalid/")
        monkeypatch.setenv("NO_PROXY", "example.invalid")
        with pytest.raises(Transient, match="UnknownHost"):
            await exchange("https://example.invalid/")


async def test_plain_http_never_leaves_by_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(lambda _: answer(b"by proxy")) as proxy, serving(lambda _: answer(b"straight")) as server:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
        assert (await exchange(server.url)).body == b"straight"
        assert proxy.connections == 0


async def test_bad_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(lambda _: answer(b"", 407)) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://user:canary@127.0.0.1:{proxy.port}")
        with pytest.raises(CrawlError) as caught:
            await exchange("https://example.invalid/")
        assert (caught.value.code, caught.value.retryable) == ("Proxy407", False)
        assert "canary" not in caught.value.message
    with pytest.raises(Transient) as gone:
        await exchange("https://example.invalid/")
    assert gone.value.code == "ProxyUnreachable"
    monkeypatch.setenv("HTTPS_PROXY", "socks5://127.0.0.1:1")
    with pytest.raises(CrawlError, match="HTTPS_PROXY"):
        await exchange("https://example.invalid/")


async def test_tls(tmp_path: Path) -> None:
    certificate = await anyio.to_thread.run_sync(certify, tmp_path)

    def reply(_: Request) -> Reply:
        return answer(b"safe")

    async with serving(reply, certificate.server) as server:
        with pytest.raises(CrawlError) as caught:
            await exchange(server.url)
        assert (caught.value.code, caught.value.retryable) == ("CertificateRefused", False)
        assert "AWS_CA_BUNDLE" in caught.value.message
        assert server.requests == []
        async with Pool(connections=1, timeout=20) as pool:
            assert (await pool.request("POST", route(server.url, str(certificate.bundle)), {}, b"")).body == b"safe"


def test_requests_as_http_has_them() -> None:
    assert serialize("POST", "/a?b=c", {"Host": "h", "X-Amz-Target": "é"}, b"{}") == (
        "POST /a?b=c HTTP/1.1\r\nHost: h\r\nX-Amz-Target: é\r\nContent-Length: 2\r\n\r\n{}".encode()
    )
    assert serialize("GET", "/", {"Host": "h"}, None) == b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"


@pytest.mark.parametrize("value", ["a\nX-Evil: b", "a\rb", "a\r\nb", "\n"])
def test_a_header_never_becomes_two(value: str) -> None:
    with pytest.raises(CrawlError, match=r"line break in X-Amz-Security-Token") as caught:
        serialize("POST", "/", {"Host": "h", "X-Amz-Security-Token": value}, b"")
    assert "Evil" not in str(caught.value)


def test_ca_bundle_that_is_not_there() -> None:
    with pytest.raises(CrawlError, match="AWS_CA_BUNDLE"):
        tls_context("/no/such/bundle.pem")
    assert tls_context(None).minimum_version is http.ssl.TLSVersion.TLSv1_2
