"""A bucket of S3, as obstore is to reach it."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from html import unescape
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, cast
from urllib.parse import urlsplit

from obstore.store import S3Store

from crawler.wording import printable

if TYPE_CHECKING:
    from obstore.store import ClientConfig

_SAID = re.compile(r"<Code>([^<]*)</Code>\s*<Message>([^<]*)</Message>")

#: An answer's status, and what else obstore tells of it: its body, of whatever length.
_STATUS = re.compile(r"(status code: \d{3}[^:]*):.*")

#: A proxy that nobody can be: there is no port 0 to listen on.
_NOWHERE = "http://0.0.0.0:0"


class Credential(TypedDict):
    """Keys as obstore wants them; asked for again when `expires_at` is near."""

    access_key_id: str
    secret_access_key: str
    token: str | None
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Bucket:
    """How to reach a bucket. `credentials` are the keys of the moment; `proxy` is the one that stands before it."""

    name: str
    region: str
    endpoint: str
    credentials: Callable[[], Awaitable[Credential]] = field(repr=False)
    ca_bundle: str | None = None
    proxy: str | None = field(default=None, repr=False)

    def under(self, prefix: str) -> S3Store:
        """What lies under a prefix. Asks nothing yet."""
        # Path style: with the endpoint that botocore names, it is right in every partition and on every other server.
        return S3Store(
            self.name,
            prefix=prefix or None,
            region=self.region,
            endpoint=self.endpoint,
            virtual_hosted_style_request=False,
            conditional_put="etag",
            credential_provider=_provider(self.credentials),
            client_options=self._client_options(),
        )

    def way(self) -> dict[str, str]:
        """Options of obstore and of delta-rs by which no other host is reached, unless there is a `proxy`.

        Below both is a client that follows redirects, with the session token in its headers, that reads proxies from
        the environment, for plain HTTP on loopback too, and that has no switch for either. So all other hosts are
        behind a proxy that is not there.
        """
        if self.proxy:
            return {"proxy_url": self.proxy}
        return {"proxy_url": _NOWHERE, "proxy_excludes": urlsplit(self.endpoint).hostname or ""}

    def _client_options(self) -> ClientConfig:
        options = cast("ClientConfig", self.way())
        options["allow_http"] = self.endpoint.startswith("http://")
        options["timeout"] = timedelta(minutes=5)
        if self.ca_bundle:
            options["root_certificate"] = Path(self.ca_bundle).read_bytes()
        return options


def reason(error: Exception) -> str:
    """What a store's server says, else the first line of obstore's many; never what the request had in its headers."""
    return in_a_line(str(error)) or type(error).__name__


def in_a_line(text: str) -> str:
    """The same of an error's text. Only S3's own words are shown: the page of a proxy may repeat the request."""
    if said := _SAID.search(text):
        return printable(unescape(f"{said[1]}: {said[2]}"))
    return printable(_STATUS.sub(r"\1", text.strip().partition("\n")[0]))


def _provider(credentials: Callable[[], Awaitable[Credential]]) -> Any:  # noqa: ANN401  obstore types it by a protocol that is not importable at run time
    async def provide() -> Credential:
        return await credentials()

    return provide
