"""Calls that are few (STS, Organizations, Account, EC2), and the endpoints of all.

botocore serializes, resolves the endpoint and parses; its clients send nothing. A handler on `before-call`, which may
answer in the network's place, takes the finished request out. That way AWS_ENDPOINT_URL, FIPS, dualstack, `services`
sections and the rules of each service hold exactly as in the AWS CLI, and the request still leaves with our keys, our
signature and our pool. `client.meta.endpoint_url` would not do: for FIPS it differs from what the rules give.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self, cast

import anyio
from botocore import xform_name
from botocore.awsrequest import create_request_object, prepare_request_dict
from botocore.exceptions import BotoCoreError
from botocore.parsers import ResponseParserError, create_parser
from botocore.serialize import create_serializer

from crawler.aws.errors import malformed, printable, translate
from crawler.aws.exchange import Response
from crawler.aws.hosts import check_host
from crawler.aws.http import Pool, Route, route
from crawler.aws.metadata import text
from crawler.aws.rates import Rates
from crawler.aws.signing import Keys, Signer
from crawler.errors import Refused

if TYPE_CHECKING:
    from aiobotocore.client import AioBaseClient
    from aiobotocore.session import AioSession
    from botocore.model import OperationModel
    from botocore.signers import RequestSigner

    from crawler.aws.session import Sessions

#: Clients kept for their loaded rules, 0.25 MB each. Every region, and every way to reach AWS, has its own.
_CLIENTS = 32

_NO_KEY = "none"

#: Tells of one entry of an answer whether it is as AWS documents it.
Documented = Callable[[Mapping[str, Any]], bool]

#: Headers that are sent unsigned: what a proxy may change, and what the pool sets by itself.
_UNSIGNED = frozenset({"user-agent", "content-length", "expect"})


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a service answers in a region, and how its requests are signed and sent. `headers` are the operation's."""

    url: str
    region: str
    route: Route
    signer: Signer
    headers: Mapping[str, str]
    unsigned: Mapping[str, str]

    def signed(self, keys: Keys, headers: Mapping[str, str], body: bytes) -> dict[str, str]:
        """All headers of one POST, signed now."""
        signed = self.signer.sign(keys, headers, body, time.time())
        signed.update(self.unsigned)
        return signed


@dataclass(frozen=True, slots=True)
class _Prepared:
    endpoint: Endpoint
    body: bytes
    model: OperationModel


class Api:
    """Calls by service and operation name. One attempt each; `CrawlError` says what went wrong."""

    def __init__(self, pool: Pool, sessions: Sessions, rates: Rates | None = None) -> None:
        self._pool = pool
        self._sessions = sessions
        self._rates = rates or Rates()
        self._clients: dict[tuple[AioSession, str, str], AioBaseClient] = {}
        self._known: dict[tuple[AioSession, str, str, str], _Prepared] = {}
        self._lock = anyio.Lock(fast_acquire=True)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._clients:
            await self._clients.popitem()[1].close()

    async def call(
        self,
        service: str,
        operation: str,
        params: Mapping[str, Any],
        *,
        keys: Keys,
        region: str,
        profile: str | None,
        caller: Hashable,
        wanted: str,
        entries: Documented | None = None,
    ) -> dict[str, Any]:
        """The parsed answer of `operation` (in CamelCase), which must hold the member `wanted`: a list, with `entries`.

        `profile` gives the configuration (endpoints, CA bundle), `keys` sign, and `caller` names whose rate it uses up,
        whatever keys that account has at the time. An answer without `wanted`, or with an entry that is not as
        documented, is a fault of the server (a proxy's page, an empty document), never an empty result.
        """
        prepared = await self._prepare(profile, service, region, operation, params)
        endpoint = prepared.endpoint

        async def send() -> Response:
            headers = endpoint.signed(keys, endpoint.headers, prepared.body)
            answer = await self._pool.request("POST", endpoint.route, headers, prepared.body)
            if answer.status != 200:  # noqa: PLR2004 RFC 9110 §15.3.1
                what = f"{service}:{operation} in {region}"
                raise translate(answer.status, answer.headers, answer.body, doing=what)
            return answer

        # Signed when it is its turn: AWS refuses signatures that are minutes old.
        answer = await self._rates.of(service, operation, region, caller).run(send)
        return read(prepared.model, answer, wanted, entries)

    async def endpoint(
        self, profile: str | None, service: str, region: str, operation: str, params: Mapping[str, Any]
    ) -> Endpoint:
        """The endpoint of the operation; `params` need only be valid. Raises `CrawlError` for one we must not use."""
        return (await self._prepare(profile, service, region, operation, params)).endpoint

    async def _prepare(
        self, profile: str | None, service: str, region: str, operation: str, params: Mapping[str, Any]
    ) -> _Prepared:
        key = (self._sessions.of(profile), service, region, operation)
        known = self._known.get(key)
        try:
            if known:
                # Only the parameters differ: the rest of botocore's way takes ten times as long, for each account.
                serializer = create_serializer(known.model.service_model.resolved_protocol)
                serialized = serializer.serialize_to_request(params, known.model)
                prepare_request_dict(serialized, endpoint_url=known.endpoint.url)
                return _Prepared(known.endpoint, _bytes(create_request_object(serialized).prepare().body), known.model)
            client = await self._client(profile, service, region)
            taken: _Taken = await getattr(client, xform_name(operation))(**params)
            request = create_request_object(taken.request).prepare()
        except (BotoCoreError, ValueError) as error:
            # A region name that makes no host name, a parameter that botocore's own model refuses, a broken setting.
            raise Refused("BadRequest", printable(f"{service}:{operation} in {region}: {error}")) from error
        check_host(request.url, service=service)
        headers = {name: text(value) for name, value in request.headers.items()}
        endpoint = Endpoint(
            url=request.url,
            region=region,
            route=_route(request.url, self._sessions.ca_bundle(profile)),
            signer=Signer(request.url, region=taken.region, service=taken.signing_name),
            headers={name: value for name, value in headers.items() if name.lower() not in _UNSIGNED},
            unsigned={"User-Agent": headers.get("User-Agent", ""), "Accept-Encoding": "identity"},
        )
        prepared = self._known[key] = _Prepared(endpoint, _bytes(request.body), taken.model)
        if len(self._known) > _CLIENTS:
            del self._known[next(iter(self._known))]
        return prepared

    async def _client(self, profile: str | None, service: str, region: str) -> AioBaseClient:
        session = self._sessions.of(profile)
        key = (session, service, region)
        async with self._lock:
            client = self._clients.pop(key, None)
            if client is None:
                # Placeholder keys keep botocore from searching the credential chain for a client that signs nothing.
                creating = session.create_client(
                    service, region_name=region, aws_access_key_id=_NO_KEY, aws_secret_access_key=_NO_KEY
                )
                client = await creating.__aenter__()
                client.meta.events.register_last("before-call", _take)
            self._clients[key] = client  # now the newest
            if len(self._clients) > _CLIENTS:
                await self._clients.pop(next(iter(self._clients))).close()
        return client


def _bytes(body: str | bytes | None) -> bytes:
    return body.encode() if isinstance(body, str) else body or b""


def read(model: OperationModel, answer: Response, wanted: str, entries: Documented | None = None) -> dict[str, Any]:
    """The parsed result of an operation, which holds the member `wanted`; with `entries`, a list of such.

    Raises `Transient` for anything else.
    """
    protocol = model.service_model.resolved_protocol
    response = {"status_code": answer.status, "headers": answer.headers, "body": answer.body}
    try:
        parsed: dict[str, Any] = create_parser(protocol).parse(response, model.output_shape)
    except (ResponseParserError, ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise malformed(answer.body, f"a result of {model.name}") from error
    # botocore makes an empty list of a missing XML member; what we ask in XML is never empty.
    in_xml = protocol in ("query", "ec2")
    # And an error in JSON says its type, whatever its status is.
    nothing = in_xml or b'"__type"' in answer.body
    if parsed.get(wanted) is None or (nothing and not parsed[wanted]):
        raise malformed(answer.body, f"a result of {model.name} with {wanted}")
    if entries and not all(
        isinstance(entry, dict) and entries(cast("dict[str, Any]", entry)) for entry in parsed[wanted]
    ):
        raise malformed(answer.body, f"a result of {model.name} whose {wanted} are all as AWS documents them")
    return parsed


class _Answer(NamedTuple):
    """All that a botocore client looks at in a response which `before-call` gives it."""

    status_code: int


class _Taken(NamedTuple):
    request: Mapping[str, object]
    model: OperationModel
    region: str
    signing_name: str


def _take(
    params: Mapping[str, object],
    model: OperationModel,
    context: Mapping[str, dict[str, str]],
    request_signer: RequestSigner,
    **_: object,
) -> tuple[_Answer, _Taken]:
    """Answer in the network's place, with the request itself as the result."""
    signing = context.get("signing", {})
    region = signing.get("region") or request_signer.region_name
    name = signing.get("signing_name") or request_signer.signing_name
    return _Answer(200), _Taken(params, model, region, name)


@lru_cache(maxsize=256)
def _route(url: str, ca_bundle: str | None) -> Route:
    return route(url, ca_bundle)
