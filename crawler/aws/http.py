"""The one HTTP pool of the process: one aiohttp connector, one TLS context for each CA bundle, no redirects, ever."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import aiohttp
import anyio
from aiohttp.http_exceptions import HttpProcessingError
from botocore.httpsession import ProxyConfiguration, create_urllib3_context, get_cert_path
from botocore.utils import get_environ_proxies
from yarl import URL

from crawler.aws.errors import printable
from crawler.aws.exchange import Response, destination, exchange, serialize
from crawler.aws.signing import host_header
from crawler.errors import CrawlError, Transient

_log = logging.getLogger("crawler.aws")

#: Seconds that an idle connection is kept. AWS's load balancers close theirs after 60 s at the earliest.
_KEEPALIVE = 30.0


@dataclass(frozen=True, slots=True)
class Route:
    """How to reach one URL: through which proxy, trusting whom. Worked out once for each endpoint."""

    url: URL
    proxy: URL | None
    tls: ssl.SSLContext


@lru_cache(maxsize=8)
def tls_context(ca_bundle: str | None) -> ssl.SSLContext:
    """TLS 1.2 or later, built as botocore builds it; `ca_bundle` None trusts the certificates that it ships.

    Raises `CrawlError` for a bundle that cannot be read.
    """
    context = create_urllib3_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = True  # urllib3 checks by itself and so leaves it off; aiohttp relies on the context
    bundle = get_cert_path(ca_bundle or True)
    try:
        context.load_verify_locations(bundle)
    except (OSError, ssl.SSLError) as error:
        raise CrawlError(
            "BadCaBundle",
            f"the CA bundle {bundle} cannot be read ({error.strerror or error}): "
            "correct AWS_CA_BUNDLE, or ca_bundle in the AWS config file",
        ) from error
    return context


def route(url: str, ca_bundle: str | None = None) -> Route:
    """The way to `url`, by the proxy that HTTPS_PROXY, HTTP_PROXY and NO_PROXY name for it, as botocore reads them.

    Raises `CrawlError` for a proxy or a CA bundle that cannot be used.
    """
    # Plain HTTP is for loopback alone (`hosts`), and must not leave the machine by a proxy.
    proxies = {} if url.startswith("http://") else get_environ_proxies(url)
    proxy = ProxyConfiguration(proxies=proxies).proxy_url_for(url)
    try:
        proxy_url = URL(proxy) if proxy else None
    except ValueError as error:
        raise _bad_proxy(url) from error
    # botocore puts http:// before what does not begin so, "socks5://…" included.
    if proxy and (proxy.count("://") != 1 or not proxy_url or not proxy_url.host):
        raise _bad_proxy(url)
    return Route(URL(url, encoded=True), proxy_url, tls_context(ca_bundle))


def _bad_proxy(url: str) -> CrawlError:
    host = urlsplit(url).hostname
    return CrawlError(
        "BadProxy", f"the proxy for {host} is not a URL like http://proxy:3128: look at HTTPS_PROXY and HTTP_PROXY"
    )


class Pool:
    """Keep-alive connections shared by all identities. Enter it, `request` as often as wanted, leave it.

    `connections` bounds the requests in flight; others wait in turn, and that wait is not part of `timeout` (seconds
    for one whole exchange, to the last byte of the body). Everything that can go wrong with a connection is raised as
    `Transient`, or as a final `CrawlError` where the same request must fail again (a certificate nobody vouches for).
    """

    def __init__(self, *, connections: int, timeout: float) -> None:
        self._slots = anyio.Semaphore(connections, fast_acquire=True)
        self._timeout = timeout
        self._connector: aiohttp.TCPConnector | None = None
        self._destinations: dict[tuple[URL, URL | None, ssl.SSLContext], aiohttp.ClientRequest] = {}

    async def __aenter__(self) -> Self:
        # limit=0: the semaphore bounds, so that waiting for a connection is not taken for a slow server.
        self._connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEPALIVE)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        connector, self._connector = self._connector, None
        self._destinations.clear()
        if connector:
            await connector.close()

    async def request(
        self, method: str, route: Route, headers: Mapping[str, str], body: bytes | None, *, seconds: float | None = None
    ) -> Response:
        """One exchange, whatever its status: 4xx and 5xx are answers, and so is a redirect, which is not followed.

        `seconds` replaces the pool's `timeout`.
        """
        if "Host" not in headers and not any(name.lower() == "host" for name in headers):
            headers = {"Host": host_header(str(route.url)), **headers}
        limit = self._timeout if seconds is None else seconds
        # Neither `async with`, nor fail_after, which is two generators around this scope: every request pays for it.
        try:
            self._slots.acquire_nowait()
        except anyio.WouldBlock:
            await self._slots.acquire()
        try:
            with anyio.CancelScope(deadline=anyio.current_time() + limit):
                return await self._send(method, route, headers, body)
        finally:
            self._slots.release()
        raise Transient("Timeout", f"no complete answer from {route.url.host} within {limit:g} s")

    async def _send(self, method: str, route: Route, headers: Mapping[str, str], body: bytes | None) -> Response:
        if self._connector is None:
            raise RuntimeError("the pool is not open: use it inside `async with`")
        key = (route.url.origin(), route.proxy, route.tls)
        to = self._destinations.get(key)
        if to is None:
            to = self._destinations[key] = destination(*key)
        try:
            answer = await exchange(self._connector, to, serialize(method, route.url.raw_path_qs, headers, body))
        except (aiohttp.ClientError, HttpProcessingError, OSError) as error:
            # Its traceback holds aiohttp's stream, which holds the error: a cycle, and with it what came of the page.
            raise _translate(error, route) from error.with_traceback(None)
        if _log.isEnabledFor(logging.DEBUG):
            _tell(route, headers, answer)
        return answer


def _tell(route: Route, headers: Mapping[str, str], answer: Response) -> None:
    # Never the headers as they are: they sign.
    operation = headers.get("X-Amz-Target", "").partition(".")[2] or None
    request_id = answer.headers.get("x-amzn-RequestId")
    told = {"host": route.url.host, "operation": operation, "status": answer.status, "requestId": request_id}
    _log.debug("answered", extra={**told, "bytes": len(answer.body)})


def _translate(error: Exception, route: Route) -> CrawlError:
    host = route.url.host
    if isinstance(error, aiohttp.ClientConnectorCertificateError | ssl.SSLCertVerificationError):
        return _untrusted(host, error)
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return _proxy_error(route, error.status)
    if isinstance(error, aiohttp.ClientProxyConnectionError | aiohttp.ClientConnectorDNSError) and route.proxy:
        return Transient("ProxyUnreachable", f"no connection to the proxy {_name(route.proxy)}")
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return Transient("UnknownHost", f"the name {host} does not resolve; does the region exist?")
    if isinstance(error, aiohttp.ClientConnectorError):
        why = printable(error.os_error.strerror or str(error.os_error))
        return Transient("ConnectionBroken", f"no connection to {host}:{route.url.port}: {why}")
    what = printable(str(error)) or "no more is known"
    return Transient("ConnectionBroken", f"{host}: {type(error).__name__}: {what}")


def _untrusted(host: str | None, error: Exception) -> CrawlError:
    return CrawlError(
        "CertificateRefused",
        f"the certificate of {host} is not trusted ({printable(str(error), 200)}); "
        "where a company proxy re-signs traffic, name its CA file in AWS_CA_BUNDLE",
    )


def _proxy_error(route: Route, status: int) -> CrawlError:
    kind = Transient if status >= 500 else CrawlError  # noqa: PLR2004 RFC 9110 §15.6
    return kind(f"Proxy{status}", f"the proxy {_name(route.proxy)} refuses the way to {route.url.host}: HTTP {status}")


def _name(proxy: URL | None) -> str:
    # Without userinfo: a proxy's password must not end up in a log.
    return f"{proxy.scheme}://{proxy.host}:{proxy.port}" if proxy else "(none)"
