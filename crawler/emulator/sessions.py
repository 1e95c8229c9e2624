"""Keys: the hub's fixed pair, and the temporary ones that AssumeRole issues."""

from __future__ import annotations

import base64
import hmac
from collections.abc import Container
from dataclasses import dataclass

from crawler.emulator.messages import Refusal

#: The hub's key pair, as public as the rest of this file.
HUB_ACCESS_KEY = "AKIAEMULATOREXAMPLE1"
HUB_SECRET_KEY = "hub/secret/key/of/the/local/emulator/000"  # noqa: S105 - made up, and printed  # nosec B105


@dataclass(slots=True)
class Keys:
    """A key pair and whose it is. `expires` is in seconds since 1970, None for the hub's own."""

    access_key: str
    secret_key: str
    session_token: str | None
    account_id: str
    arn: str
    user_id: str
    expires: float | None = None


class Sessions:
    """Every key that is good here. The same seed issues the same keys in the same order."""

    def __init__(self, hub: str, partition: str, seed: int) -> None:
        self._seed = str(seed).encode()
        self._partition = partition
        self._issued = 0
        arn = f"arn:{partition}:iam::{hub}:user/hub"
        self.hub = Keys(HUB_ACCESS_KEY, HUB_SECRET_KEY, None, hub, arn, "AIDAEMULATOREXAMPLE1")
        self._keys = {HUB_ACCESS_KEY: self.hub}

    def issue(self, account_id: str, role: str, session_name: str, expires: float) -> Keys:
        """New keys for a role of an account. The account's id can be read in the access key."""
        self._issued += 1
        access_key = f"ASIA{account_id}{_base36(self._issued):0>4}"
        keys = Keys(
            access_key,
            self._derived("secret", access_key)[:40],
            "IQoJb3JpZ2luX2Vj" + self._derived("token", access_key) * 4,
            account_id,
            f"arn:{self._partition}:sts::{account_id}:assumed-role/{role}/{session_name}",
            f"AROA{self._derived('role', account_id + role)[:17].upper()}:{session_name}",
            expires,
        )
        self._keys[access_key] = keys
        return keys

    def named(self, access_key: str) -> Keys | None:
        """The keys of that name, whether or not they are still good."""
        return self._keys.get(access_key)

    def adopted(self, access_key: str, accounts: Container[str]) -> Keys:
        """Keys that were not issued here: those of the account whose id the name holds, else the hub's."""
        if access_key[4:16] not in accounts:
            return self.hub
        keys = Keys(access_key, "", None, access_key[4:16], "", "")
        self._keys[access_key] = keys
        return keys

    def check(self, access_key: str, session_token: str | None, now: float) -> Keys:
        """The keys of a request. Raises `Refusal` if unknown, with another's token, or past their time."""
        keys = self._keys.get(access_key)
        if keys is None or keys.session_token != session_token:
            raise Refusal("UnrecognizedClientException", "The security token included in the request is invalid.")
        if keys.expires is not None and keys.expires <= now:
            raise Refusal("ExpiredTokenException", "The security token included in the request is expired")
        return keys

    def end(self, keys: Keys) -> None:
        """Refuse these keys as expired from now on; the hub's have no session to end."""
        if keys.expires is not None:
            keys.expires = 0.0

    def _derived(self, purpose: str, name: str) -> str:
        digest = hmac.digest(self._seed, f"{purpose}/{name}".encode(), "sha256")
        # Letters and digits only, so that the value passes every shell and URL unquoted.
        return base64.b32encode(digest).decode().rstrip("=")


def _base36(number: int) -> str:
    digits = ""
    while number:
        number, digit = divmod(number, 36)
        digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"[digit] + digits
    return digits
