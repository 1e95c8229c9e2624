from typing import NamedTuple

class ReadOnlyCredentials(NamedTuple):
    access_key: str
    secret_key: str
    token: str | None

class AioCredentials:
    # Those that end included: all answer this.
    async def get_frozen_credentials(self) -> ReadOnlyCredentials: ...

class AioCredentialResolver:
    async def load_credentials(self) -> AioCredentials | None: ...
