"""What a bucket's server, and whoever answers in its place, gets to see of the keys; and what is told of them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path

import anyio
import pytest
from anyio import to_thread
from anyio.abc import SocketAttribute, SocketStream
from deltalake import DeltaTable

from crawler.aws.buckets import Buckets, buckets
from crawler.bucket import Bucket, Credential
from crawler.errors import CrawlError, Fatal, UsageError
from crawler.publication import delta_options
from crawler.retry import RetryPolicy
from crawler.store import Store
from tests.aws.server import Handler, Reply, Request, answer, serving
from tests.certificates import certify

pytestmark = pytest.mark.anyio

TOKEN = "CanaryToken" + "x1Y/" * 60
SIGNATURE = "Signature="

Use = Callable[[Store], Awaitable[object]]
USES: list[Use] = [
    lambda store: store.read("file"),
    lambda store: store.exists("file"),
    lambda store: store.names("folder/"),
    lambda store: store.folders("folder/"),
    lambda store: store.put("file", b"small"),
    lambda store: store.put("file", b"large" * (2 << 20)),
    lambda store: store.create("file", b"new"),
    lambda store: store.delete("file"),
]


@pytest.fixture(autouse=True)
def session_token(aws_environment: object, monkeypatch: pytest.MonkeyPatch) -> None:
    del aws_environment  # after it
    monkeypatch.setenv("AWS_SESSION_TOKEN", TOKEN)


def signed(request: Request) -> bool:
    return "authorization" in request.headers or "x-amz-security-token" in request.headers


def to_the_signed(reply: Callable[[Request], Reply]) -> Handler:
    return lambda request: reply(request) if signed(request) else answer(b"")


@asynccontextmanager
async def opened(monkeypatch: pytest.MonkeyPatch, url: str) -> AsyncGenerator[Buckets]:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", url)
    async with buckets(RetryPolicy(attempts=1, seconds=1.0)) as s3:
        yield s3


def page(request: Request) -> bytes:
    told = "\n".join(f"{name}: {value}" for name, value in request.headers.items())
    return f"<html>Blocked: {request.line} {told}</html>".replace("\n", " ").encode()


def xml(request: Request) -> bytes:
    headers = request.headers
    said = f"you sent {headers['x-amz-security-token'].replace('/', '&#x2F;')}\x1b[31m and {headers['authorization']}"
    return f"<Error><Code>AccessDenied</Code><Message>{said}</Message></Error>".encode()


@pytest.mark.parametrize("status", [400, 401, 403, 409, 411])
@pytest.mark.parametrize("body", [page, xml])
async def test_no_answer_has_a_secret_told(
    status: int, body: Callable[[Request], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = to_the_signed(lambda request: answer(body(request), status))
    async with serving(handler) as server, opened(monkeypatch, server.url) as s3:
        bucket = await s3.find("lake")
        store = Store.s3(bucket, "nightly/")
        for use in USES:
            with pytest.raises(Fatal, match="s3://lake/nightly/") as caught:
                await use(store)
            check_told(caught.value)
        with pytest.raises(Fatal) as listing:
            await s3.abort_stale_uploads(bucket, "nightly/", timedelta(0))
        check_told(listing.value)


def check_told(error: CrawlError) -> None:
    assert "CanaryToken" not in error.message
    assert "x1Y" not in error.message
    assert SIGNATURE not in error.message
    assert error.message.isprintable()
    assert len(error.message) < 700


async def redirected(monkeypatch: pytest.MonkeyPatch, use: Callable[[Buckets], Awaitable[None]]) -> list[Request]:
    """What another host sees when signed requests are redirected there, by each status in turn."""

    def redirect(request: Request) -> bytes:
        statuses.append(statuses.pop(0))
        return answer(b"", statuses[0], Location=f"http://localhost:{thief.port}{request.line.split()[1]}")

    statuses = [301, 302, 303, 307, 308]
    async with serving(lambda _: answer(b"", 404)) as thief, serving(to_the_signed(redirect)) as server:
        async with opened(monkeypatch, server.url) as s3:
            await use(s3)
        assert any(signed(request) for request in server.requests)
        return thief.requests


async def test_no_signed_request_follows_a_redirect_to_another_host(monkeypatch: pytest.MonkeyPatch) -> None:
    async def every_use(s3: Buckets) -> None:
        async def one(use: Use) -> None:
            with pytest.raises(Fatal):
                await use(store)

        bucket = await s3.find("lake")
        store = Store.s3(bucket, "nightly/")
        async with anyio.create_task_group() as tasks:
            for use in USES * 5:
                tasks.start_soon(one, use)
        with pytest.raises(CrawlError, match="redirect"):
            await s3.abort_stale_uploads(bucket, "nightly/", timedelta(0))

    assert await redirected(monkeypatch, every_use) == []


async def test_nor_does_that_of_a_delta_table(monkeypatch: pytest.MonkeyPatch) -> None:
    async def open_table(_: Buckets) -> None:
        options = await delta_options("s3://lake/table")

        def opened() -> None:
            with pytest.raises(OSError, match="HTTP error"):
                DeltaTable("s3://lake/table", storage_options=options)

        await to_thread.run_sync(opened)

    assert await redirected(monkeypatch, open_table) == []


async def test_a_bucket_that_redirects_from_the_first_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    away = answer(b"", 307, Location="http://localhost:1/")
    async with serving(lambda _: away) as server, opened(monkeypatch, server.url) as s3:
        with pytest.raises(UsageError, match=r"answers 307, a redirect.*AWS_ENDPOINT_URL_S3"):
            await s3.find("lake")
    assert not [request for request in server.requests if signed(request)]


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("AWS_REGION", "us east"),
        ("AWS_REGION", "us\x1b[31m"),
        ("AWS_ENDPOINT_URL_S3", "http://127.0.0.1%25.evil.example/"),
        ("AWS_ENDPOINT_URL_S3", "no URL"),
        ("AWS_ENDPOINT_URL_S3", "https://[::1"),
        ("AWS_ENDPOINT_URL_S3", "https://host:port/"),
    ],
)
async def test_what_is_no_region_or_endpoint_is_told_in_a_line(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises((UsageError, Fatal), match=variable) as caught:
        async with buckets(RetryPolicy(attempts=1, seconds=1.0)) as s3:
            await s3.find("lake")
    assert str(caught.value).isprintable()


async def test_stale_uploads_are_asked_for_where_files_are_put(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the path: a name below localhost may be anyone's."""
    none = answer(b"<ListMultipartUploadsResult><IsTruncated>false</IsTruncated></ListMultipartUploadsResult>")
    async with serving(lambda _: none) as server, opened(monkeypatch, f"http://localhost:{server.port}") as s3:
        assert await s3.abort_stale_uploads(await s3.find("lake"), "nightly/", timedelta(0)) == 0
    assert server.requests[-1].line.split()[1].startswith("/lake?uploads")


async def test_a_redirect_that_names_the_buckets_region_is_how_s3_tells_it(monkeypatch: pytest.MonkeyPatch) -> None:
    told = answer(b"", 301, x_amz_bucket_region="eu-central-1")
    async with serving(lambda _: told) as server, opened(monkeypatch, server.url) as s3:
        assert (await s3.find("lake")).region == "eu-central-1"


async def test_plain_http_never_leaves_by_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(lambda _: answer(b"")) as proxy, serving(lambda _: answer(b"", ETag='"1"')) as server:
        for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        for host in ("127.0.0.1", "localhost"):
            async with opened(monkeypatch, f"http://{host}:{server.port}") as s3:
                await Store.s3(await s3.find("lake"), "").put("file", b"rows")
    assert proxy.connections == 0
    assert [request.body for request in server.requests if signed(request)] == [b"rows"] * 2


def bucket_at(endpoint: str, proxy: str | None = None) -> Bucket:
    async def keys() -> Credential:
        raise NotImplementedError

    return Bucket("lake", "us-east-1", endpoint, keys, proxy=proxy)


def test_the_way_to_a_bucket() -> None:
    """Behind a proxy that is one for all hosts, it is the server's word that decides: see SECURITY.md."""
    assert bucket_at("https://s3.example").way() == {"proxy_url": "http://0.0.0.0:0", "proxy_excludes": "s3.example"}
    assert bucket_at("http://[::1]:9000").way()["proxy_excludes"] == "::1"
    behind = bucket_at("https://s3.example", "http://user:canary@proxy:3128")
    assert behind.way() == {"proxy_url": "http://user:canary@proxy:3128"}
    assert "canary" not in repr(behind)


@asynccontextmanager
async def tunnels() -> AsyncGenerator[tuple[str, list[str]]]:
    """A proxy that opens the way to localhost alone; its URL, and the hosts that it was asked for."""
    asked: list[str] = []

    async def serve(client: SocketStream) -> None:
        async with client:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += await client.receive()
            host, _, port = head.split()[1].decode().rpartition(":")
            asked.append(host)
            if host != "localhost":
                await client.send(b"HTTP/1.1 502 No\r\nContent-Length: 0\r\n\r\n")
                return
            async with await anyio.connect_tcp("127.0.0.1", int(port)) as server, anyio.create_task_group() as tasks:
                await client.send(b"HTTP/1.1 200 Yes\r\n\r\n")
                tasks.start_soon(copy, client, server)
                tasks.start_soon(copy, server, client)

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, serve)
        port = listener.extra(SocketAttribute.local_port)  # noqa: S610  (anyio's, not Django's)
        yield f"http://127.0.0.1:{port}", asked
        tasks.cancel_scope.cancel()


async def copy(source: SocketStream, target: SocketStream) -> None:
    with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream):
        while True:
            await target.send(await source.receive())
    await target.aclose()


async def test_behind_a_proxy_it_is_asked_for_the_host_of_a_redirect(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The limit that SECURITY.md names: a proxy for all hosts stands before the other one, too."""
    certificate = certify(tmp_path)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate.bundle))
    away = answer(b"", 307, Location="https://other.example/")
    handler = to_the_signed(lambda request: away if request.line.startswith("GET") else answer(b"", ETag='"1"'))
    async with serving(handler, certificate.server) as server, tunnels() as (proxy, asked):
        monkeypatch.setenv("HTTPS_PROXY", proxy)
        async with opened(monkeypatch, server.url) as s3:
            store = Store.s3(await s3.find("lake"), "")
            await store.put("file", b"rows")
            assert set(asked) == {"localhost"}
            with pytest.raises(Fatal):
                await store.read("file")
    assert set(asked) == {"localhost", "other.example"}
