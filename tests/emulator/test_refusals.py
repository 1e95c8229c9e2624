"""A wrong request fails here as it would at AWS."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from crawler.emulator import Account, Estate, Options

ONE, TWO, _, POOR = (f"{n:012d}" for n in range(1, 5))
IMAGES = {"repositoryName": "team/api"}


@dataclass
class Clock:
    now: float = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("body", "code", "says"),
    [
        ({**IMAGES, "maxResults": 1001}, "InvalidParameterException", "'maxResults'.*less than or equal to 1000"),
        ({**IMAGES, "maxResults": 0}, "InvalidParameterException", "'maxResults'.*greater than or equal to 1"),
        ({**IMAGES, "maxresults": 10}, "InvalidParameterException", "'maxresults'"),
        ({**IMAGES, "maxResults": "10"}, "SerializationException", "maxResults: expected integer"),
        ({**IMAGES, "maxResults": True}, "SerializationException", "maxResults: expected integer"),
        ({**IMAGES, "filter": {"tagStatus": "SOME"}}, "InvalidParameterException", "filter.tagStatus.*enum"),
        ({**IMAGES, "filter": {"status": "ANY"}}, "InvalidParameterException", "filter.status"),
        ({**IMAGES, "registryId": "12"}, "InvalidParameterException", "'registryId'.*regular expression"),
        ({"repositoryName": "Team"}, "InvalidParameterException", "'repositoryName'.*regular expression"),
        ({}, "InvalidParameterException", "'repositoryName'.*null"),
        ({**IMAGES, "nextToken": "made-up"}, "InvalidParameterException", "nextToken"),
        ({**IMAGES, "nextToken": "x" * 32}, "InvalidParameterException", "nextToken"),
        ([], "SerializationException", "JSON object"),
        (b"{", "SerializationException", "not JSON"),
        ({"repositoryName": "team/unknown"}, "RepositoryNotFoundException", "'team/unknown' does not exist"),
        ({"repositoryName": "secret/denied"}, "AccessDeniedException", "explicit deny in a resource-based policy"),
    ],
)
def test_bad_parameters(caller: Any, body: Any, code: str, says: str) -> None:
    answer = caller.call("ListImages", body, keys=caller.assume(ONE))
    assert (answer.status, answer.code, answer.headers["x-amzn-errortype"]) == (400, code, code)
    assert answer.headers["content-type"] == "application/x-amz-json-1.1"
    assert answer.headers["x-amzn-requestid"]
    assert answer.headers["date"].endswith("GMT")
    with pytest.raises(AssertionError, match=says):
        raise AssertionError(answer.json.get("message", answer.json.get("Message")))


def test_names_exclude_pages(caller: Any) -> None:
    body = {"repositoryNames": ["team/api"], "maxResults": 10}
    assert caller.call("DescribeRepositories", body, keys=caller.assume(ONE)).code == "InvalidParameterException"


def test_other_services_have_their_own_codes(caller: Any) -> None:
    assert caller.call("ListAccounts", {"MaxResults": 21}, service="organizations").code == "InvalidInputException"
    with pytest.raises(ClientError, match="ValidationException"):
        caller.client("account").list_regions(MaxResults=51)
    with pytest.raises(ClientError, match="ValidationError"):
        caller.client("sts").assume_role(
            RoleArn=f"arn:aws:iam::{ONE}:role/x", RoleSessionName="no blanks", DurationSeconds=900
        )
    with pytest.raises(ClientError, match="ValidationError"):
        caller.client("sts").assume_role(RoleArn=f"arn:aws:iam::{ONE}:role/x", RoleSessionName="s" * 65)
    with pytest.raises(ClientError, match="UnknownOperationException"):
        caller.client("ecr").describe_registry()
    with pytest.raises(ClientError, match="InvalidAction"):
        caller.client("sts").get_session_token()


def test_a_tampered_request(caller: Any) -> None:
    for change in (
        lambda r: setattr(r, "data", r.data.replace(b"api", b"odd")),
        lambda r: r.headers.replace_header(
            "X-Amz-Target", r.headers["X-Amz-Target"].replace("List", "Describe").replace("Images", "Repositories")
        ),
        lambda r: r.headers.add_header("x-amz-extra", "unsigned"),
    ):
        request = caller.sign("ListImages", IMAGES, keys=caller.assume(ONE))
        change(request)
        assert caller.send(request).code == "InvalidSignatureException"


def test_wrong_secret_key(caller: Any) -> None:
    keys = Credentials(caller.keys.access_key, "wrong")
    assert caller.call("DescribeRepositories", {}, keys=keys).code == "InvalidSignatureException"
    with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
        caller.client("sts", keys=keys).get_caller_identity()


def test_wrong_service_in_the_scope(caller: Any) -> None:
    request = caller.sign("ListImages", IMAGES)
    request.headers.replace_header("Authorization", request.headers["Authorization"].replace("/ecr/", "/sts/"))
    assert caller.send(request).code == "InvalidSignatureException"


def test_unknown_keys(caller: Any) -> None:
    keys = Credentials("AKIAUNKNOWN000000000", "x")
    assert caller.call("DescribeRepositories", {}, keys=keys).code == "UnrecognizedClientException"
    with pytest.raises(ClientError, match="InvalidClientTokenId"):
        caller.client("sts", keys=keys).get_caller_identity()


def test_no_signature(caller: Any) -> None:
    request = caller.sign("ListImages", IMAGES)
    del request.headers["Authorization"]
    assert caller.send(request).code == "MissingAuthenticationTokenException"


def test_session_token_of_other_keys(caller: Any) -> None:
    one, two = caller.assume(ONE), caller.assume(TWO)
    for token in (two.token, None):
        keys = Credentials(one.access_key, one.secret_key, token)
        assert caller.call("DescribeRepositories", {}, keys=keys).code == "UnrecognizedClientException"


def test_region_that_is_not_enabled(caller: Any) -> None:
    keys = caller.assume(TWO)
    for region in ("eu-west-1", "xx-nowhere-1"):
        assert caller.call("DescribeRepositories", {}, keys=keys, region=region).code == "UnrecognizedClientException"


def test_rights_on_other_registries(caller: Any) -> None:
    two = caller.assume(TWO)
    assert caller.call("ListImages", {**IMAGES, "registryId": ONE}, keys=two).status == 200
    denied = caller.call("ListImages", {"repositoryName": "secret/denied", "registryId": ONE}, keys=two)
    assert "no resource-based policy allows the ecr:ListImages action" in denied.json["Message"]
    assert (
        caller.call("DescribeRepositories", {"registryId": TWO}, keys=caller.assume(ONE)).code
        == "AccessDeniedException"
    )
    poor = caller.call("DescribeRepositories", {}, keys=caller.assume(POOR, two))
    assert "no identity-based policy allows the ecr:DescribeRepositories action" in poor.json["Message"]


def test_expired_keys(start: Callable[..., Any], estate: Estate) -> None:
    clock = Clock(time.time())
    caller = start(estate, Options(session_seconds=60, clock=clock))
    keys = caller.assume(ONE)
    assert caller.call("DescribeRepositories", {}, keys=keys).status == 200
    clock.now += 61
    assert caller.call("DescribeRepositories", {}, keys=keys).code == "ExpiredTokenException"
    with pytest.raises(ClientError, match="ExpiredToken"):
        caller.client("sts", keys=keys).get_caller_identity()
    assert caller.call("DescribeRepositories", {}, keys=caller.assume(ONE)).status == 200


@pytest.mark.parametrize("minutes", [-6, 6])
def test_clocks_that_disagree(start: Callable[..., Any], estate: Estate, minutes: int) -> None:
    caller = start(estate, Options(clock=lambda: time.time() + minutes * 60))
    answer = caller.call("DescribeRepositories", {})
    assert answer.code == "InvalidSignatureException"
    assert ("Signature expired" if minutes > 0 else "Signature not yet current") in answer.json["message"]


@pytest.fixture(scope="module")
def twins() -> Estate:
    return Estate(
        Estate.uniform(repositories=20, images=20, accounts=2, regions=("us-east-1", "eu-west-1")).accounts.values()
    )


@pytest.mark.parametrize("change", ["repository", "page size", "filter", "registry", "region", "operation", "bits"])
def test_a_token_of_another_chain(start: Callable[..., Any], twins: Estate, change: str) -> None:
    caller = start(twins)
    first, second = list(twins.accounts[ONE].repositories["us-east-1"])[:2]
    one, two = caller.assume(ONE), caller.assume(TWO)
    body: dict[str, Any] = {"repositoryName": first, "maxResults": 5}
    body["nextToken"] = caller.call("ListImages", body, keys=one).json["nextToken"]
    assert caller.call("ListImages", body, keys=caller.assume(ONE)).status == 200, "renewed keys of the account go on"
    more: dict[str, Any] = {"keys": one}
    operation = "ListImages"
    match change:
        case "repository":
            body["repositoryName"] = second
        case "page size":
            body["maxResults"] = 6
        case "filter":
            body["filter"] = {"imageStatus": "ANY"}
        case "registry":
            more["keys"] = two
        case "region":
            more["region"] = "eu-west-1"
        case "operation":
            operation = "DescribeRepositories"
            del body["repositoryName"]
        case _:
            data = bytearray(base64.urlsafe_b64decode(body["nextToken"]))
            data[7] ^= 1
            body["nextToken"] = base64.urlsafe_b64encode(data).decode()
    answer = caller.call(operation, body, **more)
    assert (answer.status, answer.code) == (400, "InvalidParameterException")


def test_the_server_of_2016(start: Callable[..., Any], twins: Estate) -> None:
    caller = start(twins, Options(dialect="2016"))
    name = next(iter(twins.accounts[ONE].repositories["us-east-1"]))
    keys = caller.assume(ONE)
    for extra in ({"maxResults": 101}, {"filter": {"imageStatus": "ANY"}}, {"filter": {"tagStatus": "ANY"}}):
        assert (
            caller.call("ListImages", {"repositoryName": name, **extra}, keys=keys).code == "InvalidParameterException"
        )
    good = {"repositoryName": name, "maxResults": 100, "filter": {"tagStatus": "TAGGED"}}
    assert len(caller.call("ListImages", good, keys=keys).json["imageIds"]) == 20


def test_unknown_account_in_checks_off_mode_is_the_hub(start: Callable[..., Any]) -> None:
    caller = start(Estate([Account(ONE)]), Options(checks=False))
    assert (
        caller.client("sts", keys=Credentials("AKIAUNKNOWN000000000", "x")).get_caller_identity()["Account"]
        == "999999999999"
    )
    adopted = Credentials(f"ASIA{ONE}ABCD", "x")
    assert caller.client("sts", keys=adopted).get_caller_identity()["Account"] == ONE
