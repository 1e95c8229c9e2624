"""botocore's credential chain, put together anew: its providers in its order, with our pool where they would use HTTP.

Not aiobotocore's `create_credential_resolver` with some providers replaced: the container's and the instance's serve
`credential_source` too, from inside the one for roles, where only private names lead.
https://docs.aws.amazon.com/sdkref/latest/guide/standardized-credentials.html
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NoReturn

from aiobotocore.credentials import (
    AioAssumeRoleProvider,
    AioBotoProvider,
    AioCanonicalNameCredentialSourcer,
    AioConfigProvider,
    AioCredentialResolver,
    AioEnvProvider,
    AioOriginalEC2Provider,
    AioProfileProviderBuilder,
    AioSharedCredentialProvider,
)
from aiobotocore.utils import create_nested_client

from crawler.aws.metadata import container_provider, instance_provider
from crawler.errors import Denied

if TYPE_CHECKING:
    from aiobotocore.session import AioSession
    from botocore.credentials import CredentialProvider

    from crawler.aws.config_files import ConfigFiles
    from crawler.aws.http import Pool


class _Profiles(AioProfileProviderBuilder):
    """The providers of a profile, two of which would parse the config files for themselves."""

    def __init__(self, session: AioSession, files: ConfigFiles, cache: dict[str, object]) -> None:
        super().__init__(session, cache=cache)
        self._files = files

    def _create_shared_credential_provider(self, profile_name: str) -> CredentialProvider:
        path = self._files.paths[1]
        return AioSharedCredentialProvider(path, profile_name, ini_parser=lambda _: self._files.credentials)

    def _create_config_provider(self, profile_name: str) -> CredentialProvider:
        path = self._files.paths[0]
        return AioConfigProvider(path, profile_name, config_parser=lambda _: self._files.config)


def credential_chain(session: AioSession, profile: str | None, files: ConfigFiles, pool: Pool) -> AioCredentialResolver:
    """The chain of a profile; None is the ambient one, where the environment comes before AWS_PROFILE's profile.

    `session` says how its requests (to STS, SSO, …) reach AWS; it need not be of that very profile.
    """
    environment, container, instance = AioEnvProvider(), container_provider(pool), instance_provider(session, pool)
    name = profile or session.get_config_variable("profile") or "default"
    # Shared, so that a role assumed by one of the providers is not assumed again by the next.
    cache: dict[str, object] = {}
    profiles = _Profiles(session, files, cache)
    roles = AioAssumeRoleProvider(
        load_config=lambda: files.merged,
        client_creator=partial(create_nested_client, session),
        cache=cache,
        profile_name=name,
        # botocore's own asks on the terminal, and stops the event loop until somebody types the code.
        prompter=partial(_no_code, profile),
        credential_sourcer=AioCanonicalNameCredentialSourcer([environment, container, instance]),
        profile_provider_builder=profiles,
    )
    return AioCredentialResolver(
        [
            *([] if profile else [environment]),
            roles,
            *profiles.providers(name, disable_env_vars=profile is not None),
            AioOriginalEC2Provider(),
            AioBotoProvider(),
            container,
            instance,
        ]
    )


def _no_code(profile: str | None, prompt: str) -> NoReturn:
    """Refuse in place of the prompt ("Enter MFA code for arn:…: ")."""
    device = prompt.removeprefix("Enter MFA code for ").rstrip(": ")
    who = f"the AWS profile {profile!r}" if profile else "the ambient AWS profile"
    raise Denied(
        "MfaRequired",
        f"{who} wants a code of the MFA device {device}, and a crawl asks nobody: get a session beforehand "
        f"(aws sts get-session-token --serial-number {device} --token-code CODE) and use its keys, "
        "or a role that needs no MFA",
    )
