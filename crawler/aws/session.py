"""botocore sessions: one for all AWS profiles that reach AWS alike. All share the loaded models, and send by our pool.

What a session knows is the user's own configuration: region, credential chain, endpoint overrides, CA bundle,
partitions. What we use of botocore and aiobotocore is written down in `typings/`, since they ship no types.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from fnmatch import fnmatchcase
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from aiobotocore.awsrequest import AioAWSResponse
from aiobotocore.config import AioConfig
from aiobotocore.credentials import AioCredentialResolver
from aiobotocore.session import AioSession
from botocore.awsrequest import AWSPreparedRequest
from botocore.exceptions import UnknownRegionError

from crawler.aws.chain import credential_chain
from crawler.aws.config_files import ConfigFiles
from crawler.aws.errors import translate
from crawler.aws.hosts import check_host
from crawler.aws.http import Pool, route
from crawler.aws.metadata import as_botocore, text
from crawler.errors import Denied

if TYPE_CHECKING:
    from botocore.loaders import Loader

#: Where a partition's global matters are settled: the region that is always enabled, for STS among others.
_HOME = {"aws": "us-east-1", "aws-cn": "cn-north-1", "aws-us-gov": "us-gov-west-1"}

# botocore reads AWS_DEFAULT_REGION alone; every other SDK, and version 2 of the CLI, prefers AWS_REGION.
_SESSION_VARIABLES = {"region": ("region", ["AWS_REGION", "AWS_DEFAULT_REGION"], None, None)}


class _Session(AioSession):
    """A session that knows its config files already."""

    def __init__(self, *, profile: str | None, files: ConfigFiles) -> None:
        super().__init__(session_vars=_SESSION_VARIABLES, profile=profile)
        self._files = files

    @property
    def full_config(self) -> dict[str, object]:
        return self._files.merged


class Sessions:
    """The sessions of all profiles (None: the ambient one). Raises `Denied` for a profile that is not configured.

    Profiles that differ only in who they are share one (0.1 MB and 10 ms each, and as much for each of its clients),
    and each has a credential chain of its own.
    """

    def __init__(self, pool: Pool) -> None:
        self._partitions: dict[str, str] = {}
        self._pool = pool
        self._of: dict[str | None, AioSession] = {}
        self._alike: dict[Hashable, AioSession] = {}
        self._loader: Loader | None = None
        self._files: ConfigFiles | None = None
        self._newest: ConfigFiles | None = None

    def of(self, profile: str | None) -> AioSession:
        """The session that reaches AWS as the profile says, settings as they were when the run began."""
        session = self._of.get(profile)
        if session is None:
            session = self._of[profile] = self._session(profile, self._as_found())
        return session

    def chain(self, profile: str | None, *, fresh: bool = False) -> AioCredentialResolver:
        """A new credential chain of the profile; a `fresh` one looks whether its files have changed."""
        files = self._newest or self._as_found()
        if fresh:
            files = self._newest = files.current()
        return credential_chain(self._session(profile, files), profile, files, self._pool)

    def _as_found(self) -> ConfigFiles:
        # Not when this object is made: a broken file is an outcome, not the end of the program.
        self._files = self._files or ConfigFiles.read()
        return self._files

    def _any(self) -> AioSession:
        # For what botocore ships and no profile changes. Not always the ambient session: AWS_PROFILE may name one that
        # is not there, while every account has its own.
        return next(iter(self._of.values()), None) or self.of(None)

    def _session(self, profile: str | None, files: ConfigFiles) -> AioSession:
        if profile:
            _require_profile(profile, files)
        key = (files, files.settings(profile) if profile else None)
        session = self._alike.get(key)
        if session is None:
            session = self._alike[key] = self._made(profile, files)
        return session

    def _made(self, profile: str | None, files: ConfigFiles) -> AioSession:
        session = _Session(profile=profile, files=files)
        named = session.get_config_variable("profile")
        if named:
            _require_profile(named, files)
        if self._loader is None:
            # Service models are parsed once a process, not once a session (8 MB and 80 ms each).
            self._loader = session.get_component("data_loader")
        session.register_component("data_loader", self._loader)
        session.user_agent_name = "ecr-inventory-crawler"
        if not session.get_config_variable("region"):
            # Without any region botocore refuses to make even the STS client of a profile's own role.
            session.set_config_variable("region", _HOME["aws"])
        # What STS's global endpoint gives is unknown in regions that have to be enabled: they would look disabled.
        session.set_config_variable("sts_regional_endpoints", "regional")
        # Its "auto" asks the metadata service for a region, through HTTP of its own; all it tells are timeouts and
        # retries of clients that send nothing.
        session.set_config_variable("defaults_mode", "legacy")
        # One attempt: who waits for these keys tries again by our policy, and two policies would multiply.
        session.set_default_client_config(AioConfig(retries={"total_max_attempts": 1, "mode": "standard"}))
        # It has no keys itself: they are those of a profile, and it may stand for many (`chain`).
        session.register_component("credential_provider", AioCredentialResolver([]))
        session.register("before-send", partial(self._send, session.get_config_variable("ca_bundle")))
        return session

    async def _send(self, ca_bundle: str | None, request: AWSPreparedRequest, **_: object) -> AioAWSResponse:
        """What botocore's own clients (STS, SSO and OIDC of the credential chain) send goes through our pool.

        Left to itself aiobotocore would open a pool and a TLS context for each client, and follow redirects with the
        session token in the headers. Returning a response from `before-send` is botocore's way to replace its HTTP.
        """
        check_host(request.url, service=None)
        headers = {name: text(value) for name, value in request.headers.items()}
        headers.pop("Content-Length", None)
        headers["Accept-Encoding"] = "identity"
        body = request.body.encode() if isinstance(request.body, str) else request.body
        answer = await self._pool.request(request.method, route(request.url, ca_bundle), headers, body or None)
        if answer.status != 200:  # noqa: PLR2004 RFC 9110 §15.3.1
            error = translate(answer.status, answer.headers, answer.body, doing=urlsplit(request.url).hostname or "")
            # What is final is left to botocore: it knows an ended SSO session by its own error.
            if error.retryable or error.code == "RedirectRefused":
                raise error
        return as_botocore(request.url, answer)

    def region(self, profile: str | None) -> str:
        """The profile's own region, else us-east-1."""
        return self.of(profile).get_config_variable("region") or _HOME["aws"]

    def ca_bundle(self, profile: str | None) -> str | None:
        """The CA file that AWS_CA_BUNDLE or the profile names."""
        return self.of(profile).get_config_variable("ca_bundle")

    def partition_of(self, region: str) -> str:
        """`aws`, `aws-cn`, … A region newer than botocore's list is told by its shape, else taken for `aws`."""
        found = self._partitions.get(region)
        if found is None:
            try:
                found = self._any().get_partition_for_region(region)
            except UnknownRegionError:
                found = "aws"
            self._partitions[region] = found
        return found

    async def available(self, service: str, partition: str, *, with_global: bool = False) -> tuple[str, ...]:
        """The regions in which botocore's endpoints.json knows the service. That list lags behind AWS."""
        found = await self._any().get_available_regions(service, partition, allow_non_regional=with_global)
        return tuple(sorted(found))

    async def partition(self, profile: str | None, patterns: Iterable[str]) -> str:
        """The partition that region names and globs point to; the profile's own where it matches them too."""
        own = self.partition_of(self.region(profile))
        patterns = tuple(pattern for pattern in patterns if pattern != "all")
        for pattern in patterns:
            if not is_glob(pattern):
                return self.partition_of(pattern)
        names = self._any().get_available_partitions()
        for name in (own, *names):
            regions = await self.available("ecr", name)
            if any(fnmatchcase(region, pattern) for region in regions for pattern in patterns):
                return name
        return own

    async def home(self, profile: str | None, partition: str) -> str:
        """A region of the partition that is sure to be enabled: the profile's own if it lies there."""
        region = self.region(profile)
        if self.partition_of(region) == partition:
            return region
        return _HOME.get(partition) or (await self.available("sts", partition))[0]


def is_glob(pattern: str) -> bool:
    """Whether the pattern can stand for more than itself."""
    return pattern == "all" or any(c in pattern for c in "*?[")


def _require_profile(name: str, files: ConfigFiles) -> None:
    if name != "default" and name not in files.profiles:
        config, shared = files.paths
        raise Denied(
            "UnknownProfile",
            f"the AWS profile {name!r} is neither in {config} nor in {shared}: "
            f"add it there, or point AWS_CONFIG_FILE at the file that has it",
        )
