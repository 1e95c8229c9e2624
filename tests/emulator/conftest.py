from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials

from crawler.emulator import (
    MIXED,
    Account,
    Emulator,
    Estate,
    Image,
    Listed,
    Options,
    Repository,
    Series,
    Throttle,
    running,
)

ONE, TWO, LOCKED, POOR, SECRETIVE, CLOSED = (f"{n:012d}" for n in range(1, 7))
HOUR = 3600
#: One for all: a session reads the service models anew.
SESSION = boto3.Session()
BOTO = Config(retries={"mode": "legacy", "total_max_attempts": 1}, connect_timeout=5, read_timeout=5)


@pytest.fixture(scope="session")
def estate() -> Estate:
    odd = Listed(
        (
            Image("sha256:" + "a" * 64, ("latest", "1.0")),
            Image("sha256:" + "b" * 64),
            Image("sha256:" + "c" * 64, ("old",), "ARCHIVED"),
        )
    )
    repositories = {
        "team/api": Repository("team/api", Series("api", 2345, MIXED)),
        "team/odd": Repository("team/odd", odd),
        "team/none": Repository("team/none", Series("none", 0)),
        "secret/denied": Repository("secret/denied", Series("denied", 3), denied=True),
    }
    many = {f"bulk/r{n:03d}": Repository(f"bulk/r{n:03d}", Series(f"bulk{n}", n % 3)) for n in range(230)}
    return Estate(
        [
            Account(
                ONE,
                "one",
                ou="prod/eu",
                repositories={"us-east-1": repositories, "eu-west-1": many},
                readers={TWO: ("team/*",)},
            ),
            Account(TWO, "two", regions=("us-east-1",), throttle=Throttle(rate=1, burst=3, retry_after_ms=250)),
            Account(LOCKED, "locked", deny_role=True),
            Account(POOR, "poor", deny=("ecr:DescribeRepositories",), trusted=(TWO,)),
            Account(SECRETIVE, "secretive", external_id="abc-123", ou="dev"),
            Account(CLOSED, "closed", state="CLOSED"),
            *(Account(f"{n:012d}", f"filler-{n}") for n in range(100, 140)),
        ],
        regions=("us-east-1", "eu-west-1", "ap-east-1"),
    )


@pytest.fixture(scope="session")
def emulator(estate: Estate) -> Iterator[Emulator]:
    with running(estate) as emulator:
        yield emulator


@dataclass
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        return self.json["__type"]


@dataclass
class Caller:
    """Sends single requests to an emulator, signed by botocore's signer unless told otherwise."""

    emulator: Emulator
    keys: Credentials = field(init=False)

    def __post_init__(self) -> None:
        env = self.emulator.environment()
        self.keys = Credentials(env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"])

    def client(self, service: str, region: str = "us-east-1", keys: Credentials | None = None) -> Any:
        keys = keys or self.keys
        return SESSION.client(
            service,
            region_name=region,
            endpoint_url=self.emulator.url,
            config=BOTO,
            aws_access_key_id=keys.access_key,
            aws_secret_access_key=keys.secret_key,
            aws_session_token=keys.token,
        )

    def assume(self, account: str, keys: Credentials | None = None, **more: Any) -> Credentials:
        arn = f"arn:aws:iam::{account}:role/inventory"
        got = self.client("sts", keys=keys).assume_role(RoleArn=arn, RoleSessionName="test", **more)["Credentials"]
        return Credentials(got["AccessKeyId"], got["SecretAccessKey"], got["SessionToken"])

    def sign(
        self,
        operation: str,
        body: Any,
        *,
        keys: Credentials | None = None,
        region: str = "us-east-1",
        service: str = "ecr",
    ) -> AWSRequest:
        prefix = {"ecr": "AmazonEC2ContainerRegistry_V20150921", "organizations": "AWSOrganizationsV20161128"}[service]
        headers = {"X-Amz-Target": f"{prefix}.{operation}", "Content-Type": "application/x-amz-json-1.1"}
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        request = AWSRequest("POST", self.emulator.url + "/", headers=headers, data=data)
        SigV4Auth(keys or self.keys, service, region).add_auth(request)
        return request

    def send(self, request: AWSRequest) -> Answer:
        connection = http.client.HTTPConnection(urlsplit(self.emulator.url).netloc, timeout=5)
        try:
            connection.request("POST", "/", request.data, dict(request.headers))
            response = connection.getresponse()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()

    def call(self, operation: str, body: Any, **more: Any) -> Answer:
        return self.send(self.sign(operation, body, **more))


@pytest.fixture
def caller(emulator: Emulator) -> Caller:
    return Caller(emulator)


@pytest.fixture
def start() -> Iterator[Callable[..., Caller]]:
    """Starts emulators that end with the test."""
    with ExitStack() as stack:
        yield lambda *args: Caller(stack.enter_context(running(*args)))


@pytest.fixture(scope="session")
def twenty() -> Estate:
    return Estate.uniform(repositories=2, images=20)


@pytest.fixture
def struck(start: Callable[..., Any], twenty: Estate) -> Callable[..., Any]:
    """Starts an emulator with these faults; keys are those of the account."""

    def begin(*faults: Any, **options: Any) -> Any:
        caller = start(twenty, Options(faults=faults, **options))
        caller.keys = caller.assume(ONE)
        return caller

    return begin
