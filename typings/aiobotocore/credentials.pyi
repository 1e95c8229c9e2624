from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, NamedTuple

from aiobotocore.client import AioBaseClient
from aiobotocore.session import AioSession
from aiobotocore.utils import AioContainerMetadataFetcher, AioInstanceMetadataFetcher
from botocore.credentials import CredentialProvider

class ReadOnlyCredentials(NamedTuple):
    access_key: str
    secret_key: str
    token: str | None

class AioCredentials:
    # Those that end included: all answer this.
    async def get_frozen_credentials(self) -> ReadOnlyCredentials: ...

class AioEnvProvider(CredentialProvider): ...
class AioOriginalEC2Provider(CredentialProvider): ...
class AioBotoProvider(CredentialProvider): ...

class AioContainerProvider(CredentialProvider):
    def __init__(self, *, fetcher: AioContainerMetadataFetcher) -> None: ...

class AioInstanceMetadataProvider(CredentialProvider):
    def __init__(self, *, iam_role_fetcher: AioInstanceMetadataFetcher) -> None: ...

class AioCanonicalNameCredentialSourcer:
    def __init__(self, providers: Sequence[CredentialProvider]) -> None: ...

class AioSharedCredentialProvider(CredentialProvider):
    def __init__(
        self, creds_filename: str, profile_name: str, *, ini_parser: Callable[[str], dict[str, Any]]
    ) -> None: ...

class AioConfigProvider(CredentialProvider):
    def __init__(
        self, config_filename: str, profile_name: str, *, config_parser: Callable[[str], dict[str, Any]]
    ) -> None: ...

class AioProfileProviderBuilder:
    def __init__(self, session: AioSession, *, cache: dict[str, object]) -> None: ...
    def _create_shared_credential_provider(self, profile_name: str) -> CredentialProvider: ...
    def _create_config_provider(self, profile_name: str) -> CredentialProvider: ...
    def providers(self, profile_name: str, disable_env_vars: bool = False) -> list[CredentialProvider]: ...

class AioAssumeRoleProvider(CredentialProvider):
    def __init__(
        self,
        *,
        load_config: Callable[[], dict[str, object]],
        client_creator: Callable[..., AbstractAsyncContextManager[AioBaseClient]],
        cache: dict[str, object],
        profile_name: str,
        prompter: Callable[[str], str],
        credential_sourcer: AioCanonicalNameCredentialSourcer,
        profile_provider_builder: AioProfileProviderBuilder,
    ) -> None: ...

class AioCredentialResolver:
    providers: list[CredentialProvider]
    def __init__(self, providers: Sequence[CredentialProvider]) -> None: ...
    async def load_credentials(self) -> AioCredentials | None: ...
