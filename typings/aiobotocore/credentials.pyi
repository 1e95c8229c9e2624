from typing import NamedTuple

from aiobotocore.utils import AioContainerMetadataFetcher

class ReadOnlyCredentials(NamedTuple):
    access_key: str
    secret_key: str
    token: str | None

class AioCredentials:
    # Those that end included: all answer this.
    async def get_frozen_credentials(self) -> ReadOnlyCredentials: ...

class AioContainerProvider:
    def __init__(self, *, fetcher: AioContainerMetadataFetcher) -> None: ...

class AioCredentialResolver:
    def insert_after(self, name: str, credential_provider: AioContainerProvider) -> None: ...
    def remove(self, name: str) -> None: ...
    async def load_credentials(self) -> AioCredentials | None: ...
