"""From a request to its answer: which service and operation, who asks, are they allowed, and what they get."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast
from urllib.parse import parse_qsl

import orjson

from crawler.emulator import ecr, organizations, regions, service_models, sts
from crawler.emulator.call import Call
from crawler.emulator.counters import Place
from crawler.emulator.messages import JSON, Answer, Refusal, Request
from crawler.emulator.remembered import Remembered
from crawler.emulator.sessions import Keys
from crawler.emulator.signatures import Signature
from crawler.emulator.world import World

Operation = Callable[[World, Call], Answer]

_TARGETS = {
    "AmazonEC2ContainerRegistry_V20150921": "ecr",
    "SpencerFrontendService": "ecr-public",
    "AWSOrganizationsV20161128": "organizations",
}
_OPERATIONS: dict[tuple[str, str], Operation] = {
    ("ecr", "DescribeRepositories"): ecr.describe_repositories,
    ("ecr", "ListImages"): ecr.list_images,
    ("ecr", "DescribeImages"): ecr.describe_images,
    ("ecr-public", "DescribeRepositories"): ecr.describe_repositories,
    ("ecr-public", "DescribeImages"): ecr.describe_images,
    ("sts", "AssumeRole"): sts.assume_role,
    ("sts", "GetCallerIdentity"): sts.get_caller_identity,
    ("organizations", "DescribeOrganization"): organizations.describe_organization,
    ("organizations", "ListAccounts"): organizations.list_accounts,
    ("organizations", "ListAccountsForParent"): organizations.list_accounts_for_parent,
    ("organizations", "ListOrganizationalUnitsForParent"): organizations.list_organizational_units_for_parent,
    ("organizations", "ListRoots"): organizations.list_roots,
    ("account", "ListRegions"): regions.list_regions,
    ("ec2", "DescribeRegions"): regions.describe_regions,
}
_QUERY_SERVICES = ("sts", "ec2")


class Services:
    """All services of one world, behind one door."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._remembered = Remembered() if world.repeats_itself else None

    def answer(self, request: Request) -> tuple[Answer, Place]:
        """The answer, and the place that it counts for. Refusals are answers too; only bugs raise."""
        if self._remembered is None:
            return self._made(request)
        return self._remembered.answer(request, self._made)

    def _made(self, request: Request) -> tuple[Answer, Place]:
        service, operation = _named(request)
        place = ("", "", f"{service}:{operation}")
        try:
            perform = _performer(request, service, operation)
            call = self._call(request, service, operation)
            place = call.place
            answer = perform(self.world, call)
        except Refusal as refusal:
            answer = refusal.answer(service)
            self.world.counters.errors[answer.error or ""] += 1
        return answer, place

    def _call(self, request: Request, service: str, operation: str) -> Call:
        if self.world.options.checks:
            keys, region = self._signer(request, service)
            params = _params(request, service, operation)
            service_models.validate(service, operation, params)
        else:
            keys, region = self._claimed(request)
            params = _params(request, service, operation)
        account: str = params.get("registryId") or keys.account_id
        return Call(service, operation, keys, region, params, account)

    def _signer(self, request: Request, service: str) -> tuple[Keys, str]:
        """Whose keys signed the request, and for which region. AWS checks in this order: key, token, signature."""
        signature = Signature.of(request)
        now = self.world.options.clock()
        keys = self.world.sessions.check(signature.access_key, request.header(b"x-amz-security-token"), now)
        signature.verify(request, keys.secret_key, service, now)
        return keys, signature.region

    def _claimed(self, request: Request) -> tuple[Keys, str]:
        """The same with checks off: taken at its word."""
        sessions = self.world.sessions
        scope = (request.header(b"authorization") or "").partition("Credential=")[2].split("/", 4)
        if len(scope) < 5:  # noqa: PLR2004 - key, date, region, service, the rest
            return sessions.hub, self.world.estate.regions[0]
        access_key, region = scope[0], scope[2]
        keys = sessions.named(access_key) or sessions.adopted(access_key, self.world.estate.accounts)
        return keys, region


def _named(request: Request) -> tuple[str, str]:
    """The service and operation that the request names, known here or not; empty if it names none."""
    target = request.header(b"x-amz-target")
    if target is not None:
        prefix, _, operation = target.partition(".")
        return _TARGETS.get(prefix, ""), operation
    if request.path == "/listRegions":
        return "account", "ListRegions"
    if (request.header(b"content-type") or "").startswith("application/x-www-form-urlencoded"):
        operation = _fields(request).get("Action", "")
        # The operations of the two have no name in common.
        return next((name for name in _QUERY_SERVICES if (name, operation) in _OPERATIONS), "sts"), operation
    return "", ""


def _performer(request: Request, service: str, operation: str) -> Operation:
    found = _OPERATIONS.get((service, operation))
    if found is None or request.method != b"POST":
        code = "InvalidAction" if service in _QUERY_SERVICES else "UnknownOperationException"
        raise Refusal(code, f"{request.method.decode()} {operation or request.path} is not emulated here.", 404)
    return found


def _params(request: Request, service: str, operation: str) -> dict[str, Any]:
    if service in _QUERY_SERVICES:
        return service_models.from_query(service, operation, _fields(request))
    content_type = (request.header(b"content-type") or "").partition(";")[0]
    if service != "account" and content_type not in (JSON, ""):
        raise Refusal("UnknownOperationException", f"Content-Type must be {JSON}.", 404)
    try:
        params: object = orjson.loads(request.body or b"{}")
    except ValueError:
        raise Refusal("SerializationException", "The request is not JSON.") from None
    if not isinstance(params, dict):
        raise Refusal("SerializationException", "The request is not a JSON object.")
    return cast("dict[str, Any]", params)


def _fields(request: Request) -> dict[str, str]:
    return dict(parse_qsl(request.body.decode("utf-8", "replace"), keep_blank_values=True))
