"""AWS STS: AssumeRole and GetCallerIdentity.

https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from crawler.emulator.account import Account
from crawler.emulator.bodies import altered
from crawler.emulator.call import Call
from crawler.emulator.messages import REQUEST_ID, XML, Answer, Refusal, document
from crawler.emulator.refusals import access_denied
from crawler.emulator.world import World

_NAMESPACE = "https://sts.amazonaws.com/doc/2011-06-15/"
_ROLE = re.compile(r"arn:(?P<partition>aws[a-z-]*):iam::(?P<account>\d{12}):role/(?:.*/)?(?P<name>[^/]+)")
#: Longest session of a role that was assumed from a role, in seconds.
_CHAINED_SECONDS = 3600


def assume_role(world: World, call: Call) -> Answer:
    """Temporary keys for a role, if its account's trust lets the caller have them."""
    arn: str = call.params.get("RoleArn", "")
    role = _ROLE.fullmatch(arn)
    if role is None:
        raise Refusal("ValidationError", f"{arn} is invalid")
    rule = world.fault(call, arn, 1)
    account = world.account(role["account"])
    if account is None or role["partition"] != world.estate.partition or not _trusts(account, world, call):
        raise access_denied(call, arn, "")
    seconds: float = call.params.get("DurationSeconds") or _CHAINED_SECONDS
    if call.keys.expires is not None and seconds > _CHAINED_SECONDS:
        text = "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining"
        raise Refusal("ValidationError", text)
    expires = world.options.clock() + (world.options.session_seconds or seconds)
    session_name: str = call.params.get("RoleSessionName", "")
    keys = world.sessions.issue(account.id, role["name"], session_name, expires)
    world.counters.assumed.append(_record(call, arn, session_name))
    result = {
        "Credentials": {
            "AccessKeyId": keys.access_key,
            "SecretAccessKey": keys.secret_key,
            "SessionToken": keys.session_token,
            "Expiration": datetime.fromtimestamp(expires, UTC)
            .isoformat(timespec="milliseconds")
            .replace("+00:00", "Z"),
        },
        "AssumedRoleUser": {"AssumedRoleId": keys.user_id, "Arn": keys.arn},
        "PackedPolicySize": 0,
    }
    return altered(_answer("AssumeRole", result), rule)


def get_caller_identity(world: World, call: Call) -> Answer:
    """Who the keys belong to. Needs no permission."""
    rule = world.fault(call, "", 1)
    result = {"Arn": call.keys.arn, "UserId": call.keys.user_id, "Account": call.keys.account_id}
    return altered(_answer("GetCallerIdentity", result), rule)


def _trusts(account: Account, world: World, call: Call) -> bool:
    if not world.options.checks:
        return True
    if account.deny_role or account.state != "ACTIVE":
        return False
    if account.external_id is not None and call.params.get("ExternalId") != account.external_id:
        return False
    return not account.trusted or call.keys.account_id in account.trusted


def _record(call: Call, arn: str, session_name: str) -> dict[str, Any]:
    return {
        "role": arn,
        "session_name": session_name,
        "external_id": call.params.get("ExternalId"),
        "tags": {tag["Key"]: tag["Value"] for tag in call.params.get("Tags") or ()},
        "duration_seconds": call.params.get("DurationSeconds"),
        "caller": call.keys.arn,
        "region": call.region,
    }


def _answer(operation: str, result: dict[str, Any]) -> Answer:
    body = {f"{operation}Result": result, "ResponseMetadata": {"RequestId": REQUEST_ID}}
    return Answer(document(f"{operation}Response", body, namespace=_NAMESPACE), content_type=XML)
