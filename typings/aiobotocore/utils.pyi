from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from aiobotocore.awsrequest import AioAWSResponse
from aiobotocore.client import AioBaseClient
from aiobotocore.session import AioSession
from botocore.awsrequest import AWSPreparedRequest

class _Session(Protocol):
    async def send(self, request: AWSPreparedRequest) -> AioAWSResponse: ...

class _Sessions(Protocol):
    def acquire(self) -> AbstractAsyncContextManager[_Session]: ...

class AioContainerMetadataFetcher:
    def __init__(self, session: _Sessions) -> None: ...

class AioInstanceMetadataFetcher:
    def __init__(
        self, *, timeout: float, num_attempts: int, user_agent: str, config: Mapping[str, object], session: _Sessions
    ) -> None: ...

def create_nested_client(
    session: AioSession, service_name: str, **kwargs: object
) -> AbstractAsyncContextManager[AioBaseClient]: ...
