from __future__ import annotations

import datetime as dt
from unittest import mock

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials
from hypothesis import given
from hypothesis import strategies as st

from crawler.aws.signing import Keys, Signer, host_header

_TEXT = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=60)
_HOSTS = st.sampled_from([
    "api.ecr.eu-west-1.amazonaws.com", "127.0.0.1:4566", "localhost:80", "api.ecr.cn-north-1.amazonaws.com.cn:443",
    "[::1]:9000", "[::1]",
])  # fmt: skip
_PATHS = st.sampled_from(["", "/", "/listRegions", "/a//b/../c/./", "/a b/é", "/~x/%41"])
_REGIONS = st.sampled_from(["eu-west-1", "cn-north-1", "us-gov-west-1", "xx-foo-1"])


@given(
    host=_HOSTS,
    path=_PATHS,
    scheme=st.sampled_from(["http", "https"]),
    region=_REGIONS,
    service=st.sampled_from(["ecr", "sts", "organizations"]),
    access_key=st.text("ABCDEFGHIJ0123456789", min_size=16, max_size=20),
    secret_key=_TEXT,
    token=st.none() | _TEXT,
    body=st.binary(max_size=300),
    target=_TEXT,
    now=st.datetimes(dt.datetime(2020, 1, 1), dt.datetime(2099, 1, 1)),  # noqa: DTZ001 UTC added below
)
def test_signature_is_botocores(  # noqa: PLR0917  (what a property draws)
    host: str,
    path: str,
    scheme: str,
    region: str,
    service: str,
    access_key: str,
    secret_key: str,
    token: str | None,
    body: bytes,
    target: str,
    now: dt.datetime,
) -> None:
    now = now.replace(tzinfo=dt.UTC)
    url = f"{scheme}://{host}{path}"
    headers = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": target}

    theirs = AWSRequest("POST", url, dict(headers), body)
    with mock.patch("botocore.auth.get_current_datetime", return_value=now):
        SigV4Auth(ReadOnlyCredentials(access_key, secret_key, token), service, region).add_auth(theirs)
    signer = Signer(url, region=region, service=service)
    ours = signer.sign(Keys(access_key, secret_key, token), headers, body, now.timestamp())

    assert ours["Authorization"] == theirs.headers["Authorization"]
    assert ours["X-Amz-Date"] == theirs.headers["X-Amz-Date"]
    assert ours.get("X-Amz-Security-Token") == token


def test_everything_that_matters_is_signed() -> None:
    signer = Signer("https://api.ecr.eu-west-1.amazonaws.com/", region="eu-west-1", service="ecr")
    signed = signer.sign(Keys("AKIA", "secret", "token"), {"Content-Type": "x", "X-Amz-Target": "y"}, b"", 0.0)
    names = "content-type;host;x-amz-date;x-amz-security-token;x-amz-target"
    assert f"SignedHeaders={names}," in signed["Authorization"]


def test_host_header() -> None:
    assert host_header("https://user:password@example.com:443/x") == "example.com"
    assert host_header("http://[::1]:4566/") == "[::1]:4566"


def test_repr_shows_no_secret() -> None:
    shown = repr(Keys("AKIA", "canarySecret", "canaryToken"))
    assert shown == "Keys(access_key='AKIA', expires=None)"
    assert repr(Signer("https://x/", region="r", service="s")) == "<Signer s r x>"
