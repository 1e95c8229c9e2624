"""Keys of identities: found through botocore's credential chain or by AssumeRole, once for all who wait."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Protocol, TypeVar

import anyio
import structlog
from botocore.exceptions import BotoCoreError, ClientError, CredentialRetrievalError, SSOError, TokenRetrievalError
from botocore.parsers import ResponseParserError

from crawler.aws.errors import classify, printable
from crawler.aws.signing import Keys
from crawler.errors import CrawlError, Denied, Fatal, KeysExpired, KeysUnknown, Refused, Throttled, Transient
from crawler.retry import RetryPolicy, persist

if TYPE_CHECKING:
    from aiobotocore.credentials import AioCredentials, ReadOnlyCredentials

    from crawler.aws.session import Sessions

T = TypeVar("T")

_log = structlog.get_logger("crawler.aws")

#: Seconds before the end: from the first on one caller renews while the others go on, from the second on all wait.
#: They are botocore's, shrunk for sessions so short (AssumeRole allows 900 s) that they would be renewed at each call.
_ADVISORY, _MANDATORY = 900.0, 600.0

#: Sessions that may end under one request. One that ended for a neighbour between its renewal and our turn says nothing
#: against us, and cannot be told from one that is never taken: so many in a row are enough for all in flight.
_SESSIONS = 8

#: What a credential chain that we do not own may raise: its own errors, and those of files, processes and JSON.
_CHAIN_ERRORS = (
    BotoCoreError,
    ClientError,
    ResponseParserError,
    OSError,
    ValueError,
    LookupError,
    RuntimeError,
    EOFError,
)


class Source(Protocol):
    """Where one identity's keys come from."""

    async def keys(self) -> Keys:
        """Keys that are good now. Raises a `CrawlError`, already retried where that could help."""
        ...

    async def renew(self, stale: Keys) -> None:
        """The service calls `stale` expired: forget them, unless somebody has done so already. Sends nothing."""
        ...


async def with_keys(source: Source, send: Callable[[Keys], Awaitable[T]]) -> T:
    """Await `send(keys)`; where AWS calls the keys expired, again with renewed ones, of `_SESSIONS` sessions at most.

    However many callers find out at the same time, the keys are renewed once.
    """
    keys = await source.keys()
    for _ in range(_SESSIONS - 1):
        try:
            return await send(keys)
        except KeysExpired:
            await source.renew(keys)
            renewed = await source.keys()
            if renewed == keys:
                raise  # keys of a file or the environment: nobody has put new ones there
            keys = renewed
    return await send(keys)


class ProfileKeys:
    """Keys of a profile, or the ambient ones (None): botocore's whole chain, which refreshes by itself."""

    def __init__(self, sessions: Sessions, profile: str | None, policy: RetryPolicy) -> None:
        self._sessions = sessions
        self._profile = profile
        self._policy = policy
        self._lock = anyio.Lock()
        self._credentials: AioCredentials | None = None
        self._frozen: ReadOnlyCredentials | None = None
        self._keys: Keys | None = None
        self._denied: CrawlError | None = None
        self._ended: Keys | None = None
        self._overdue = False

    def __repr__(self) -> str:
        return f"<ProfileKeys {self._profile or 'ambient'}>"

    async def keys(self) -> Keys:
        """See `Source`."""
        credentials = self._credentials or await self._load()
        try:
            frozen = await credentials.get_frozen_credentials()
        except Fatal:
            raise
        except (CrawlError, *_CHAIN_ERRORS) as error:
            failure = error if isinstance(error, CrawlError) else self._translate(error)
            if self._keys is None:
                raise failure from error
            # Not renewed in good time. They may be good for a while yet; once they are not, AWS says so.
            if not self._overdue:
                _log.warning("keys not renewed yet", profile=self._profile, code=failure.code, error=failure.message)
            self._overdue = True
            return self._keys
        self._overdue = False
        if frozen != self._frozen or self._keys is None:
            self._frozen = frozen
            self._keys = Keys(frozen.access_key, frozen.secret_key, frozen.token)
        return self._keys

    async def renew(self, stale: Keys) -> None:
        """See `Source`. The next call reads files and asks SSO, process or metadata service anew.

        Once for the same keys: where only a person can put new ones, a session for each who asks would be in vain.
        """
        if self._keys == stale and stale != self._ended:
            self._credentials, self._keys, self._ended = None, None, stale

    async def _load(self) -> AioCredentials:
        async with self._lock:
            if self._denied:
                raise type(self._denied)(self._denied.code, self._denied.message)
            if self._credentials is None:
                try:
                    self._credentials = await persist(self._resolve, self._policy)
                except CrawlError as error:
                    if error.retryable:
                        raise final(error) from error
                    self._denied = error
                    raise
            return self._credentials

    async def _resolve(self) -> AioCredentials:
        try:
            # A new chain each time: a used one answers from its caches, which hold the very keys that were called
            # expired.
            chain = self._sessions.chain(self._profile, fresh=self._ended is not None)
            credentials = await chain.load_credentials()
            if credentials is None:
                raise self._nothing_found()
            await credentials.get_frozen_credentials()
        except _CHAIN_ERRORS as error:
            raise self._translate(error) from error
        return credentials

    def _nothing_found(self) -> Denied:
        if self._profile:
            return Denied(
                "NoCredentials",
                f"the AWS profile {self._profile!r} holds no credentials: "
                f"give it some (aws configure --profile {self._profile}), or a role, process or SSO session",
            )
        return Denied(
            "NoCredentials",
            "no AWS credentials in the environment, the AWS config files, web identity, container or instance metadata:"
            " sign in (aws sso login), or set AWS_PROFILE or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        )

    def _translate(self, error: Exception) -> CrawlError:
        who = f"the AWS profile {self._profile!r}" if self._profile else "the ambient AWS credentials"
        if isinstance(error, ClientError):
            said, meta = error.response.get("Error", {}), error.response.get("ResponseMetadata", {})
            failure = classify(
                str(said.get("Code", "")),
                str(said.get("Message", "")),
                int(meta.get("HTTPStatusCode", 0)),
                meta.get("HTTPHeaders", {}),
                doing=f"{who}: {error.operation_name}",
            )
            return failure if failure.retryable else final(failure)
        if isinstance(error, CredentialRetrievalError):
            # Its text is what a program of the user's wrote to standard error: who knows what that holds.
            provider = error.kwargs.get("provider", "credential provider")
            return Denied("CredentialsUnusable", f"{who}: {provider} failed; run its command by hand to see why")
        message = printable(f"{who}: {type(error).__name__}: {error}")
        if isinstance(error, SSOError | TokenRetrievalError):
            option = f" --profile {self._profile}" if self._profile else ""
            return Denied("SsoSessionExpired", f"{message}; sign in again: aws sso login{option}")
        if isinstance(error, ResponseParserError):
            return Transient("MalformedResponse", message)
        return Denied("CredentialsUnusable", message)


class RoleKeys:
    """Keys of an assumed role, renewed before they end by whoever asks first; a refusal is remembered for the run.

    Not aiobotocore's `AioDeferredRefreshableCredentials`: there each of those who wait repeats a failed AssumeRole in
    turn, and each failure is logged with a traceback, while a denied role is an everyday line of our ledger.
    `assume` makes one attempt. `now` is the wall clock, since that is what expirations are given in.
    """

    def __init__(
        self,
        name: str,
        assume: Callable[[], Awaitable[Keys]],
        policy: RetryPolicy,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._name = name
        self._assume = assume
        self._policy = policy
        self._now = now
        self._lock = anyio.Lock()
        self._keys: Keys | None = None
        self._advisory = self._mandatory = 0.0
        self._tries = 0
        self._failure: CrawlError | None = None

    def __repr__(self) -> str:
        return f"<RoleKeys {self._name}>"

    async def keys(self) -> Keys:
        """See `Source`."""
        keys, now = self._keys, self._now()
        if keys is None or now >= self._mandatory:
            return await self._fetched(keys)
        if now >= self._advisory and not self._lock.locked():
            try:
                return await self._fetched(keys)
            except CrawlError as error:
                _log.warning("keys not renewed yet", role=self._name, code=error.code, seconds=self._mandatory - now)
        return keys

    async def renew(self, stale: Keys) -> None:
        """See `Source`."""
        if self._keys == stale:
            self._keys = None

    async def _fetched(self, known: Keys | None) -> Keys:
        tries = self._tries
        async with self._lock:
            if self._keys is not None and self._keys is not known:
                return self._keys
            if self._failure and (tries != self._tries or remembered(self._failure)):
                # Who waited for an attempt shares its failure; nobody repeats what AWS has denied.
                raise type(self._failure)(self._failure.code, self._failure.message)
            self._tries += 1
            try:
                keys = await persist(self._assume, self._policy)
            except CrawlError as error:
                self._failure = final(error)
                raise self._failure from error
            self._failure = None
            self._keep(keys)
            _log.info("role assumed", role=self._name)
            return keys

    def _keep(self, keys: Keys) -> None:
        now = self._now()
        left = max(keys.expires - now, 0.0) if keys.expires is not None else 3600.0
        end = now + left
        self._keys = keys
        self._advisory = end - min(_ADVISORY, left / 4)
        self._mandatory = end - min(_MANDATORY, left / 6)


def remembered(error: CrawlError) -> bool:
    """Whether asking again in this run is useless: AWS said no, rather than nothing."""
    return isinstance(error, Denied | Refused) and not isinstance(error, KeysExpired)


def final(error: CrawlError) -> CrawlError:
    """The error of who looked for keys, as who needs them is to see it.

    Not retryable: its attempts were made here, and the page that needs the keys would multiply them. And no
    `KeysUnknown`: that was said of the keys that ask for others, and is no word of the region that those are for.
    """
    if isinstance(error, KeysUnknown):
        return Denied("CredentialsUnusable", f"{error.message} ({error.code})")
    if not error.retryable:
        return error
    hint = ": AWS throttled STS" if isinstance(error, Throttled) else ""
    return CrawlError(error.code, f"no keys{hint}: {error.message}")
