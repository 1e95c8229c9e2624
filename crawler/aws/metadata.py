"""The container's credential endpoint, asked through our pool: with the deadline of every request, and no redirect.

aiobotocore asks it through an HTTP session of its own, which follows a redirect, and would sign with the keys that it
finds there. https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Self

from aiobotocore.awsrequest import AioAWSResponse
from aiobotocore.credentials import AioContainerProvider, AioCredentialResolver
from aiobotocore.utils import AioContainerMetadataFetcher
from botocore.awsrequest import AWSPreparedRequest

from crawler.aws.http import Pool, Response, route

_CONTAINER = "container-role"


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
    """The pool, with the two methods that aiobotocore's fetcher wants of an HTTP session."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    @asynccontextmanager
    async def acquire(self) -> AsyncGenerator[Self]:
        yield self

    async def send(self, request: AWSPreparedRequest) -> AioAWSResponse:
        headers = {name: text(value) for name, value in request.headers.items()}
        return as_botocore(request.url, await self._pool.request("GET", route(request.url), headers, None))


def through_pool(resolver: AioCredentialResolver, pool: Pool) -> None:
    """Put a container provider that sends through the pool in the place of aiobotocore's own."""
    fetcher = AioContainerMetadataFetcher(session=_Sender(pool))
    resolver.insert_after(_CONTAINER, AioContainerProvider(fetcher=fetcher))
    resolver.remove(_CONTAINER)  # the first of the two of that name
