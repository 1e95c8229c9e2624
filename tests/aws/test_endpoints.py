"""Endpoints equal those of boto3, whatever the environment and the config file say; and only safe ones are used."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import ClassVar

import boto3
import botocore.session
import pytest
from botocore.awsrequest import AWSPreparedRequest
from botocore.loaders import Loader
from hypothesis import example, given
from hypothesis import strategies as st

from crawler.aws.api import Api
from crawler.aws.hosts import check_host
from crawler.aws.http import Pool
from crawler.aws.session import Sessions
from crawler.errors import CrawlError, Denied
from tests.aws.conftest import Config

pytestmark = pytest.mark.anyio

SERVICES: list[tuple[str, str, dict[str, str]]] = [
    ("ecr", "ListImages", {"repositoryName": "any"}),
    ("sts", "AssumeRole", {"RoleArn": "arn:aws:iam::123456789012:role/x", "RoleSessionName": "any"}),
    ("organizations", "ListAccounts", {}),
    ("account", "ListRegions", {}),
    ("ec2", "DescribeRegions", {}),
]
SETTINGS: list[dict[str, str]] = [
    {},
    {"AWS_USE_FIPS_ENDPOINT": "true"},
    {"AWS_USE_DUALSTACK_ENDPOINT": "true"},
    {"AWS_ENDPOINT_URL": "http://localhost:4566"},
    {"AWS_ENDPOINT_URL": "https://proxy.example/path/", "AWS_ENDPOINT_URL_ECR": "http://127.0.0.1:5000"},
    {"AWS_ENDPOINT_URL_STS": "https://sts.example"},
    {"AWS_ENDPOINT_URL": "http://localhost:1", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"},
    {"AWS_STS_REGIONAL_ENDPOINTS": "regional"},
]
REGIONS = ["us-east-1", "eu-west-1", "cn-north-1", "us-gov-west-1", "eusc-de-east-1", "xx-foo-1"]


class Boto3:
    """Tells which request boto3 would send."""

    _loader: ClassVar[Loader] = Loader()  # models are read once for all tests

    def __init__(self, profile: str | None = None) -> None:
        session = botocore.session.Session(profile=profile)
        session.register_component("data_loader", self._loader)
        session.set_credentials("AKIAOTHER", "secret")
        self._session = boto3.Session(botocore_session=session)

    def request(self, service: str, region: str, operation: str, params: dict[str, str]) -> AWSPreparedRequest:
        client = self._session.client(service, region_name=region)
        sent: list[AWSPreparedRequest] = []

        def send(request: AWSPreparedRequest, **_: object) -> None:
            sent.append(request)
            raise InterruptedError

        client.meta.events.register("before-send", send)
        with pytest.raises(InterruptedError):
            client._make_api_call(operation, params)
        return sent[0]


@asynccontextmanager
async def opened() -> AsyncIterator[Api]:
    async with Pool(connections=1, timeout=1) as pool, Api(pool, Sessions(pool)) as api:
        yield api


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service[0])
async def test_same_as_boto3(
    service: tuple[str, str, dict[str, str]], settings: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    name, operation, params = service
    theirs = Boto3()
    async with opened() as api:
        for region in REGIONS:
            request = theirs.request(name, region, operation, params)
            endpoint = await api.endpoint(None, name, region, operation, params)
            assert endpoint.url == request.url
            scope = request.headers["Authorization"].decode().partition("Credential=")[2].split("/")[2:4]
            assert f"<Signer {scope[1]} {scope[0]} " in repr(endpoint.signer)


@pytest.mark.parametrize("config", ["", "[profile old]\nsts_regional_endpoints = legacy\n"])
async def test_roles_are_assumed_in_a_region_whatever_is_set(
    config: str, aws_environment: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the global endpoint gives is not known in regions that have to be enabled: they would look disabled."""
    aws_environment.write(config)
    if not config:
        monkeypatch.setenv("AWS_STS_REGIONAL_ENDPOINTS", "legacy")
    service, operation, params = SERVICES[1]
    async with opened() as api:
        endpoint = await api.endpoint("old" if config else None, service, "us-east-1", operation, params)
    assert endpoint.url == "https://sts.us-east-1.amazonaws.com/"


CONFIG = """
[profile plain]
endpoint_url = http://127.0.0.1:1111
[profile own]
services = mine
[services mine]
ecr =
  endpoint_url = http://127.0.0.1:2222
[profile fips]
use_fips_endpoint = true
[profile bundle]
ca_bundle = /no/such/file
"""


async def test_config_file(aws_environment: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    aws_environment.write(CONFIG)
    found: dict[tuple[str, str], str] = {}
    async with opened() as api:
        for profile in ("plain", "own", "fips"):
            theirs = Boto3(profile)
            for service, operation, params in SERVICES[:2]:
                endpoint = await api.endpoint(profile, service, "us-east-1", operation, params)
                assert endpoint.url == theirs.request(service, "us-east-1", operation, params).url
                found[profile, service] = endpoint.url
        with pytest.raises(CrawlError, match="/no/such/file"):
            await api.endpoint("bundle", "ecr", "us-east-1", *SERVICES[0][1:])
    assert found["own", "ecr"] == "http://127.0.0.1:2222/"
    monkeypatch.setenv("AWS_PROFILE", "plain")
    async with opened() as api:
        assert (await api.endpoint(None, "ecr", "us-east-1", *SERVICES[0][1:])).url == "http://127.0.0.1:1111/"


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/",
        "http://10.0.0.1/",
        "http://169.254.169.254/",
        "https://169.254.170.2/",
        "https://[fe80::1]/",
        "https://[fe80::1%25eth0]/",
        "https://[::ffff:169.254.169.254]/",
        "ftp://localhost/",
        "https:///",
        "https://user:canary@example.com/",
        "http://localhost.evil.example/",
        "http://x.localhost/",
        "http://localhost./",
        "http://127.0.0.1./",
        "http://127.0.0.1%25.evil.example/",
        "http://127.0.0.1%.evil.example/",
        "http://127.0.0.1\\@evil.example/",
        "http://[::ffff:10.0.0.1]/",
        "https://[::1",
        "https://[::1]evil.example/",
        "https://evil.example[::1]/",
        "https://[::1]@evil.example/",
        "https://evil\n.example/",
        "https://host:port/",
        "https://host:99999/",
        "https://a\x1b[31m/",
        "https://169。254。169。254/",
        "https://①69.254.169.254/",
        "https://instance-data/",
        "https://instance-data.ec2.internal/",
        "https://Instance-Data.ec2.internal./",
        "https://[fd00:ec2::254]/",
        "https://[fd00:0ec2:0::23]/",
    ],
)
def test_unsafe_endpoints_are_refused(url: str) -> None:
    with pytest.raises(CrawlError, match="AWS_ENDPOINT_URL_ECR") as caught:
        check_host(url, service="ecr")
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/",
        "https://example.com./",
        "https://vpce-0a-1b.api.ecr.eu-west-1.vpce.amazonaws.com/",
        "https://_odd_.169-254.2.example/",
        "https://10.0.0.1:8443/",
        "https://[fd00:db8::254]/",
        "http://127.0.0.1:1/",
        "http://127.9.9.9/",
        "http://[::1]:1/",
        "http://localhost:4566/",
    ],
)
def test_safe_endpoints_pass(url: str) -> None:
    check_host(url, service="ecr")


def spellings(address: int) -> Iterator[str]:
    """An address of IPv4 in every way that some resolver, or some network, takes for it."""
    octets = address.to_bytes(4, "big")
    a, b, c, d = octets
    dotted = ".".join(map(str, octets))
    yield from (dotted, f"{dotted}.", str(address), hex(address), hex(address).upper(), f"0{address:o}")
    yield from (
        f"{a}.{address & 0xFFFFFF}",
        f"{a}.{b}.{address & 0xFFFF}",
        f"0{a:o}.{b}.{c}.{d}",
        f"{a}.{b}.{c}.0x{d:x}",
    )
    high, low = f"{address >> 16:x}", f"{address & 0xFFFF:x}"
    for prefix in ("::", "::ffff:", "::ffff:0:", "64:ff9b::", "64:ff9b:1::"):
        yield from (f"[{prefix}{high}:{low}]", f"[{prefix}{dotted}]", f"[{prefix}{high}:{low}%25eth0]")
    yield from (f"[2002:{high}:{low}::1]", f"[2001:0:{high}:{low}::]")
    yield f"[2001::{int(high, 16) ^ 0xFFFF:x}:{int(low, 16) ^ 0xFFFF:x}]"


@given(st.integers(0xA9FE0000, 0xA9FEFFFF), st.sampled_from(["http", "https"]))
@example(0xA9FEA9FE, "https")
def test_no_spelling_of_a_link_local_address_passes(address: int, scheme: str) -> None:
    for host in spellings(address):
        with pytest.raises(CrawlError):
            check_host(f"{scheme}://{host}/", service=None)
        with pytest.raises(CrawlError):
            check_host(f"{scheme}://{host}:443/", service=None)


@given(st.text())
def test_whatever_is_no_endpoint_is_refused_in_a_line(host: str) -> None:
    try:
        check_host(f"https://{host}", service="ecr")
    except CrawlError as error:
        assert error.message.isprintable()  # noqa: PT017  (it need not be raised)


async def test_unsafe_endpoint_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_ECR", "http://evil.example")
    async with opened() as api:
        with pytest.raises(CrawlError, match="AWS_ENDPOINT_URL_ECR"):
            await api.endpoint(None, "ecr", "us-east-1", *SERVICES[0][1:])


def sessions() -> Sessions:
    return Sessions(Pool(connections=1, timeout=1))


def test_region_from_either_variable(monkeypatch: pytest.MonkeyPatch, aws_environment: Config) -> None:
    aws_environment.write("[profile china]\nregion = cn-north-1\n")
    assert sessions().region(None) == "us-east-1"
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    assert sessions().region(None) == "eu-west-1"
    monkeypatch.setenv("AWS_REGION", "eu-west-3")
    assert sessions().region(None) == "eu-west-3"


@pytest.mark.parametrize(
    ("own", "patterns", "partition", "home"),
    [
        ("eu-west-1", ("all",), "aws", "eu-west-1"),
        ("eu-west-1", ("cn-north-1",), "aws-cn", "cn-north-1"),
        ("eu-west-1", ("cn-*",), "aws-cn", "cn-north-1"),
        ("eu-west-1", ("us-gov-*",), "aws-us-gov", "us-gov-west-1"),
        ("eu-west-1", ("us-*",), "aws", "eu-west-1"),
        ("cn-northwest-1", ("all",), "aws-cn", "cn-northwest-1"),
        ("cn-northwest-1", ("*",), "aws-cn", "cn-northwest-1"),
        ("cn-northwest-1", ("us-east-1",), "aws", "us-east-1"),
        ("us-east-1", ("eusc-*",), "aws-eusc", "eusc-de-east-1"),
        ("us-east-1", ("us-iso-*",), "aws-iso", "us-iso-east-1"),
        ("us-east-1", ("xx-foo-1",), "aws", "us-east-1"),
    ],
)
async def test_partitions(
    own: str, patterns: tuple[str, ...], partition: str, home: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_REGION", own)
    known = sessions()
    assert await known.partition(None, patterns) == partition
    assert await known.home(None, partition) == home


def test_unknown_profile_and_broken_file(aws_environment: Config) -> None:
    with pytest.raises(Denied, match="'nobody'") as caught:
        sessions().of("nobody")
    assert str(aws_environment.path) in caught.value.message
    aws_environment.write("no [ini at all\n")
    with pytest.raises(Denied, match="AWS_CONFIG_FILE"):
        sessions().of("nobody")
