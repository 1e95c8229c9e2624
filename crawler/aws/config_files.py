"""AWS's two configuration files, read once for all profiles.

botocore parses both for every session, and again in every provider of a credential chain. With a profile for each of a
thousand accounts that is a tenth of a second each, on the event loop.
https://docs.aws.amazon.com/sdkref/latest/guide/file-format.html
"""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from botocore.configloader import load_config, raw_config_parse
from botocore.exceptions import BotoCoreError, ConfigNotFound

from crawler.errors import Denied

#: Settings that say who a profile is, and nothing of how AWS is reached. What is not known here counts as the latter.
_WHO = frozenset(
    {
        "aws_access_key_id",
        "aws_account_id",
        "aws_secret_access_key",
        "aws_security_token",
        "aws_session_token",
        "credential_process",
        "credential_source",
        "duration_seconds",
        "external_id",
        "login_session",
        "mfa_serial",
        "role_arn",
        "role_session_name",
        "source_profile",
        "sso_account_id",
        "sso_region",
        "sso_role_name",
        "sso_session",
        "sso_start_url",
        "web_identity_token_file",
    }
)

Section = dict[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class ConfigFiles:
    """What both files held when they were read.

    `config` and `credentials` are each file by itself, `profiles` has the settings of both, and `merged` is what
    botocore calls a session's full config.
    """

    paths: tuple[str, str]
    stamps: tuple[Hashable, Hashable]
    config: dict[str, Any]
    credentials: dict[str, Section]
    profiles: dict[str, Section]
    merged: dict[str, Any]

    @classmethod
    def read(cls) -> ConfigFiles:
        """Read the files that the environment names. One that is not there is empty; `Denied` for one that is broken.

        Blocks for as long as it takes to parse them: 0.1 s for a thousand profiles.
        """
        paths = (
            os.environ.get("AWS_CONFIG_FILE", "~/.aws/config"),
            os.environ.get("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"),
        )
        stamps = (_stamp(paths[0]), _stamp(paths[1]))
        try:
            config = _parsed(load_config, paths[0]) or {"profiles": {}}
            credentials = _parsed(raw_config_parse, paths[1])
        except BotoCoreError as error:
            raise Denied(
                "BadAwsConfig", f"{error}: correct the file, or name another one in AWS_CONFIG_FILE"
            ) from error
        profiles: dict[str, Section] = dict(config["profiles"])
        for name, section in credentials.items():
            profiles[name] = {**profiles.get(name, {}), **section}
        return cls(paths, stamps, config, credentials, profiles, {**config, "profiles": profiles})

    def current(self) -> ConfigFiles:
        """These, or what the files hold now if they have changed."""
        unchanged = self.stamps == (_stamp(self.paths[0]), _stamp(self.paths[1]))
        return self if unchanged else ConfigFiles.read()

    def settings(self, profile: str) -> Hashable:
        """Equal for profiles that reach AWS in the same way (region, endpoints, CA bundle, …), whoever they are."""
        section = self.profiles.get(profile, {})
        return frozenset((name, repr(value)) for name, value in section.items() if name not in _WHO)


def _parsed(parse: Callable[[str], dict[str, Any]], path: str) -> dict[str, Any]:
    try:
        return parse(path)
    except ConfigNotFound:
        return {}


def _stamp(path: str) -> Hashable:
    try:
        found = Path(os.path.expandvars(path)).expanduser().stat()
    except (OSError, RuntimeError):  # the latter for a home that is not known
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
