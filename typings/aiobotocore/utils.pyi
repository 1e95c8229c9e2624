from contextlib import AbstractAsyncContextManager
from typing import Protocol

from aiobotocore.awsrequest import AioAWSResponse
from botocore.awsrequest import AWSPreparedRequest

class _Session(Protocol):
    async def send(self, request: AWSPreparedRequest) -> AioAWSResponse: ...

class _Sessions(Protocol):
    def acquire(self) -> AbstractAsyncContextManager[_Session]: ...

class AioContainerMetadataFetcher:
    def __init__(self, session: _Sessions) -> None: ...
