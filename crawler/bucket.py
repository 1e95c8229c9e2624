"""A bucket of S3, as obstore is to reach it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from obstore.store import S3Store

if TYPE_CHECKING:
    from obstore.store import ClientConfig


class Credential(TypedDict):
    """Keys as obstore wants them; asked for again when `expires_at` is near."""

    access_key_id: str
    secret_access_key: str
    token: str | None
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Bucket:
    """How to reach a bucket. `credentials` are the keys of the moment."""

    name: str
    region: str
    endpoint: str
    credentials: Callable[[], Awaitable[Credential]] = field(repr=False)
    ca_bundle: str | None = None

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

    def _client_options(self) -> ClientConfig:
        options: ClientConfig = {"allow_http": self.endpoint.startswith("http://"), "timeout": timedelta(minutes=5)}
        if self.ca_bundle:
            options["root_certificate"] = Path(self.ca_bundle).read_bytes()
        return options


def _provider(credentials: Callable[[], Awaitable[Credential]]) -> Any:  # noqa: ANN401  obstore types it by a protocol that is not importable at run time
    async def provide() -> Credential:
        return await credentials()

    return provide
