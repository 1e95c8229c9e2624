"""The endpoints of a container and of an instance that hand out keys, asked through our pool: no redirect is followed.

aiobotocore asks them through HTTP sessions of its own, which follow redirects, and would sign with the keys that it
finds there. Neither endpoint is AWS's API, so `hosts` does not judge them: botocore has its own list of hosts for the
container's, and the instance's is link-local by nature.
https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html
https://docs.aws.amazon.com/sdkref/latest/guide/feature-imds-credentials.html
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from aiobotocore.awsrequest import AioAWSResponse
from aiobotocore.credentials import AioContainerProvider, AioInstanceMetadataProvider
from aiobotocore.utils import AioContainerMetadataFetcher, AioInstanceMetadataFetcher
from botocore.awsrequest import AWSPreparedRequest
from botocore.exceptions import EndpointConnectionError, ReadTimeoutError
from botocore.utils import resolve_imds_endpoint_mode

from crawler.aws.exchange import Response
from crawler.aws.http import Pool, route
from crawler.errors import Transient

if TYPE_CHECKING:
    from aiobotocore.session import AioSession

#: Seconds before their end from which an instance's keys are looked for again, as botocore does.
_REFRESH_WINDOW = 900


@dataclass(frozen=True, slots=True)
class _Raw:
    """A body as AioAWSResponse wants it: to be read once."""

    body: bytes

    async def read(self) -> bytes:
        return self.body


def as_botocore(url: str, answer: Response) -> AioAWSResponse:
    """An answer of the pool as aiobotocore's own HTTP would give it."""
    lowered = {name.lower(): value for name, value in answer.headers.items()}
    return AioAWSResponse(url, answer.status, lowered, _Raw(answer.body))


def text(value: str | bytes) -> str:
    """A header's value: botocore makes bytes of some."""
    return value.decode() if isinstance(value, bytes) else value


class _Sender:
    """The pool, with the two methods that aiobotocore's fetchers want of an HTTP session."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    @asynccontextmanager
    async def acquire(self) -> AsyncGenerator[Self]:
        yield self

    async def send(self, request: AWSPreparedRequest) -> AioAWSResponse:
        return await self._sent(request, None)

    async def _sent(self, request: AWSPreparedRequest, seconds: float | None) -> AioAWSResponse:
        headers = {name: text(value) for name, value in request.headers.items()}
        headers.pop("Content-Length", None)
        answer = await self._pool.request(request.method, route(request.url), headers, None, seconds=seconds)
        return as_botocore(request.url, answer)


class _ImpatientSender(_Sender):
    """The same, with the short deadline of a service that most machines do not have.

    That it does not answer is botocore's to judge, by its own errors: the next attempt, the older protocol, or no keys.
    """

    def __init__(self, pool: Pool, seconds: float) -> None:
        super().__init__(pool)
        self._seconds = seconds

    async def send(self, request: AWSPreparedRequest) -> AioAWSResponse:
        try:
            return await self._sent(request, self._seconds)
        except Transient as error:
            kind = ReadTimeoutError if error.code == "Timeout" else EndpointConnectionError
            raise kind(endpoint_url=request.url, error=error) from error


def container_provider(pool: Pool) -> AioContainerProvider:
    """Keys from the endpoint that AWS_CONTAINER_CREDENTIALS_… name (ECS, EKS Pod Identity)."""
    return AioContainerProvider(fetcher=AioContainerMetadataFetcher(session=_Sender(pool)))


def instance_provider(session: AioSession, pool: Pool) -> AioInstanceMetadataProvider:
    """Keys from the metadata service of an EC2 instance, with the session's settings for it (1 s, one attempt)."""
    config = {
        "ec2_metadata_service_endpoint": session.get_config_variable("ec2_metadata_service_endpoint"),
        "ec2_metadata_service_endpoint_mode": resolve_imds_endpoint_mode(session),
        "ec2_credential_refresh_window": _REFRESH_WINDOW,
        "ec2_metadata_v1_disabled": session.get_config_variable("ec2_metadata_v1_disabled"),
    }
    seconds = float(session.get_config_variable("metadata_service_timeout") or 1)
    fetcher = AioInstanceMetadataFetcher(
        timeout=seconds,
        num_attempts=int(session.get_config_variable("metadata_service_num_attempts") or 1),
        user_agent=session.user_agent(),
        config=config,
        session=_ImpatientSender(pool, seconds),
    )
    return AioInstanceMetadataProvider(iam_role_fetcher=fetcher)
