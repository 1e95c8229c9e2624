"""Where the first keys come from: environment, profiles, processes, containers, instances; and nobody else."""

from __future__ import annotations

import configparser
import json
import sys
from collections.abc import Callable
from dataclasses import replace

import anyio
import pytest
from aiobotocore.credentials import create_credential_resolver
from aiobotocore.session import AioSession

from crawler.aws.chain import credential_chain
from crawler.aws.config_files import ConfigFiles
from crawler.aws.http import Pool
from crawler.aws.session import Sessions
from crawler.errors import CrawlError, Denied
from crawler.model import Account
from tests.aws.conftest import ACCESS_KEY, SECRET_KEY, Config
from tests.aws.fakes import ACCOUNT, ROLE, cooperative, registries_at, target
from tests.aws.server import Reply, Request, answer, assumed, refused, serving

pytestmark = pytest.mark.anyio

MFA = """
[profile p]
role_arn = arn:aws:iam::1:role/x
source_profile = q
mfa_serial = arn:aws:iam::1:mfa/me
[profile q]
aws_access_key_id = AKIA
aws_secret_access_key = s
"""

SSO = """
[profile p]
sso_session = s
sso_account_id = 1
sso_role_name = r
[sso-session s]
sso_region = eu-west-1
sso_start_url = https://x.example/start
"""


async def profile_access_key(profile: str, monkeypatch: pytest.MonkeyPatch) -> str:
    async with registries_at(cooperative, monkeypatch) as (registries, server):
        await (await registries.open(target(replace(ACCOUNT, profile=profile)))).images("a")(None)
    return server.asked("ListImages")[0].access_key


async def test_profiles(aws_environment: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"Version": 1, "AccessKeyId": "ASIAPROCESS", "SecretAccessKey": "s", "SessionToken": "t"}
    script = aws_environment.beside("process.py", f"print({json.dumps(json.dumps(given))})")
    token = aws_environment.beside("token", "web.identity.token")
    aws_environment.write(f"""
[profile static]
aws_access_key_id = AKIASTATIC
aws_secret_access_key = s
[profile process]
credential_process = {sys.executable} {script}
[profile assumed]
role_arn = arn:aws:iam::123456789012:role/named
source_profile = static
[profile web]
role_arn = arn:aws:iam::123456789012:role/web
web_identity_token_file = {token}
""")
    assert await profile_access_key("static", monkeypatch) == "AKIASTATIC"
    assert await profile_access_key("process", monkeypatch) == "ASIAPROCESS"
    assert await profile_access_key("assumed", monkeypatch) == "ASIAnamed"

    assert await profile_access_key("web", monkeypatch) == "ASIAweb"


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Paths of config files, as they are parsed."""
    paths: list[str] = []
    read = configparser.RawConfigParser.read

    def spy(self: configparser.RawConfigParser, filenames: list[str]) -> list[str]:
        paths.extend(filenames)
        return read(self, filenames)

    monkeypatch.setattr(configparser.RawConfigParser, "read", spy)
    return paths


def many_profiles(source_key: str = "AKIASTATIC") -> str:
    kinds = (
        "role_arn = arn:aws:iam::123456789012:role/r{n}\nsource_profile = source\nexternal_id = e{n}",
        "aws_access_key_id = AKIA{n}\naws_secret_access_key = s",
        "credential_process = false {n}",
    )
    lines = [f"[profile source]\naws_access_key_id = {source_key}\naws_secret_access_key = s\n"]
    lines += [f"[profile p{n}]\nregion = eu-west-1\n{kinds[n % 3].format(n=n)}\n" for n in range(21)]
    return "".join(lines)


async def test_a_thousand_profiles_cost_one_parse_and_one_session(
    aws_environment: Config, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    aws_environment.write(many_profiles())
    shared = aws_environment.beside("credentials", "[p2]\naws_access_key_id = AKIASHARED\naws_secret_access_key = s\n")
    async with registries_at(cooperative, monkeypatch) as (registries, server):
        for number in range(21):
            opening = registries.open(target(replace(ACCOUNT, profile=f"p{number}")))
            if number % 3 == 2 and number != 2:
                with pytest.raises(Denied, match=f"'p{number}'"):
                    await opening
            else:
                await (await opening).images("a")(None)
    assert server.asked("ListImages")[2].access_key == "AKIASHARED"
    assert [request.access_key for request in server.asked("ListImages")][3:5] == ["ASIAr3", "AKIA4"]
    assert [request.form["ExternalId"] for request in server.asked("AssumeRole")] == [f"e{n}" for n in range(0, 21, 3)]
    assert sorted(read) == sorted([str(aws_environment.path), str(shared)])
    sessions = Sessions(Pool(connections=1, timeout=1))
    assert len({sessions.of(f"p{number}") for number in range(21)}) == 1


def test_profiles_that_reach_aws_differently_share_nothing(aws_environment: Config) -> None:
    aws_environment.write("""
[profile plain]
region = eu-west-1
[profile same]
region = eu-west-1
role_arn = arn:aws:iam::123456789012:role/r
credential_source = Environment
[profile elsewhere]
region = eu-west-2
[profile fips]
region = eu-west-1
use_fips_endpoint = true
[profile nested]
region = eu-west-1
sts =
  endpoint_url = https://sts.example
""")
    sessions = Sessions(Pool(connections=1, timeout=1))
    assert sessions.of("plain") is sessions.of("same")
    apart = {sessions.of(name) for name in (None, "plain", "elsewhere", "fips", "nested")}
    assert len(apart) == 5


async def test_keys_that_have_ended_are_looked_for_in_files_as_they_are_now(
    aws_environment: Config, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    aws_environment.write(many_profiles("AKIAOLD"))

    def reply(request: Request) -> Reply:
        if request.access_key == "AKIAOLD":
            aws_environment.write(many_profiles("AKIARENEWED"))  # as if a person had done so meanwhile
            return refused("ExpiredTokenException")
        return cooperative(request)

    async with registries_at(reply, monkeypatch) as (registries, server):
        registry = await registries.open(target(replace(ACCOUNT, profile="source")))
        await registry.images("a")(None)
        await registry.images("b")(None)
    assert [request.access_key for request in server.requests] == ["AKIAOLD", "AKIARENEWED", "AKIARENEWED"]
    assert len(read) == 2


@pytest.mark.parametrize("variable", ["AWS_METADATA_SERVICE_TIMEOUT", "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE"])
async def test_a_setting_that_makes_no_sense_is_told(
    variable: str, instance_at: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    instance_at("http://127.0.0.1:9")
    monkeypatch.setenv(variable, "soon")
    async with registries_at(cooperative, monkeypatch) as (registries, _):
        with pytest.raises(Denied, match="soon"):
            await registries.open(target())


def container_keys(access_key: str) -> bytes:
    keys = {"AccessKeyId": access_key, "SecretAccessKey": "s", "Token": "t", "Expiration": "2999-01-01T00:00:00Z"}
    return answer(keys)


#: Two ways to the container's or the instance's keys: the ambient chain, and a profile that names them as its source.
AMBIENT = replace(ACCOUNT)
SOURCED = replace(ACCOUNT, profile="p")


def sourced(source: str) -> str:
    return f"[profile p]\nrole_arn = arn:aws:iam::123456789012:role/named\ncredential_source = {source}\n"


@pytest.fixture
def instance_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts the instance metadata service at a URL; nothing else has keys."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_EC2_METADATA_DISABLED"):
        monkeypatch.delenv(name)
    return lambda url: monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", url)


def instance(request: Request) -> Reply:
    """The metadata service of an instance with a role."""
    method, path, _ = request.line.split()
    if method == "PUT":
        assert path == "/latest/api/token"
        assert request.headers["x-aws-ec2-metadata-token-ttl-seconds"] == "21600"
        return answer(b"canaryImds")
    assert request.headers["x-aws-ec2-metadata-token"] == "canaryImds"
    return container_keys("ASIAINSTANCE") if path.endswith("/inventory") else answer(b"inventory")


async def test_keys_of_a_container(aws_environment: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    aws_environment.write(sourced("EcsContainer"))
    async with serving(lambda _: container_keys("ASIACONTAINER")) as container:
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{container.url}/keys")
        monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "canaryBearer")
        async with registries_at(cooperative, monkeypatch) as (registries, server):
            await (await registries.open(target(AMBIENT))).images("a")(None)
            await (await registries.open(target(SOURCED))).images("a")(None)
        assert [request.access_key for request in server.requests] == ["ASIACONTAINER", "ASIACONTAINER", "ASIAnamed"]
        assert container.requests[0].headers["authorization"] == "canaryBearer"


async def test_keys_of_an_instance(
    instance_at: Callable[[str], None], aws_environment: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    aws_environment.write(sourced("Ec2InstanceMetadata"))
    async with serving(instance) as metadata:
        instance_at(metadata.url)
        async with registries_at(cooperative, monkeypatch) as (registries, server):
            await (await registries.open(target(AMBIENT))).images("a")(None)
            await (await registries.open(target(SOURCED))).images("a")(None)
        assert [request.access_key for request in server.requests] == ["ASIAINSTANCE", "ASIAINSTANCE", "ASIAnamed"]


@pytest.mark.parametrize("account", [AMBIENT, SOURCED], ids=["ambient", "credential_source"])
@pytest.mark.parametrize("source", ["EcsContainer", "Ec2InstanceMetadata"])
async def test_keys_of_a_container_or_an_instance_are_not_fetched_elsewhere(
    source: str,
    account: Account,
    instance_at: Callable[[str], None],
    aws_environment: Config,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    aws_environment.write(sourced(source))
    async with serving(lambda _: container_keys("ASIATHIEF")) as thief:
        moved = answer(b"", 302, Location=f"{thief.url}/keys")
        async with serving(lambda _: moved) as metadata:
            instance_at(metadata.url)
            if source == "EcsContainer":
                monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{metadata.url}/keys")
            async with registries_at(cooperative, monkeypatch) as (registries, server):
                with pytest.raises(Denied):
                    await registries.open(target(account))
            assert server.requests == []
        assert metadata.requests
        assert thief.connections == 0


async def test_a_metadata_service_that_never_answers_holds_nobody_up(
    instance_at: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(lambda _: b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n") as metadata:
        instance_at(metadata.url)
        async with registries_at(cooperative, monkeypatch) as (registries, _):
            with anyio.fail_after(10), pytest.raises(Denied, match="no AWS credentials"):
                await registries.open(target())
        assert [request.line.split()[0] for request in metadata.requests] == ["PUT", "GET"]  # 1 s and one attempt each


async def test_defaults_mode_asks_no_metadata_service(
    instance_at: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    monkeypatch.setenv("AWS_DEFAULTS_MODE", "auto")
    async with serving(instance) as metadata:
        instance_at(metadata.url)
        async with registries_at(cooperative, monkeypatch) as (registries, _):
            await registries.open(target())
        assert metadata.connections == 0


@pytest.mark.parametrize("profile", [None, "p"])
async def test_the_chain_is_that_of_aiobotocore(profile: str | None, aws_environment: Config) -> None:
    aws_environment.write("[profile p]\n")
    session = AioSession(profile=profile)
    ours = credential_chain(session, profile, ConfigFiles.read(), Pool(connections=1, timeout=1))
    theirs = create_credential_resolver(session)
    assert [type(one) for one in ours.providers] == [type(one) for one in theirs.providers]


async def test_nested_sts_never_follows_a_redirect(aws_environment: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    aws_environment.write("""
[profile source]
aws_access_key_id = AKIASTATIC
aws_secret_access_key = s
aws_session_token = canaryToken
[profile assumed]
role_arn = arn:aws:iam::123456789012:role/named
source_profile = source
""")
    async with serving(lambda _: assumed()) as thief:
        moved = answer(b"", 307, Location=f"{thief.url}/")
        async with registries_at(lambda _: moved, monkeypatch) as (registries, server):
            for account in (replace(ACCOUNT, profile="assumed"), ROLE):
                with pytest.raises(CrawlError):
                    await (await registries.open(target(account))).images("a")(None)
            assert server.count("AssumeRole") == 2
        assert thief.connections == 0


@pytest.mark.parametrize(
    ("config", "code", "hint"),
    [
        ("[profile p]\nregion = eu-west-1\n", "NoCredentials", "aws configure --profile p"),
        ("[profile p]\naws_access_key_id = AKIA\n", "CredentialsUnusable", "aws_secret_access_key"),
        ("[profile p]\ncredential_process = /no/such/program\n", "CredentialsUnusable", "/no/such/program"),
        ("[profile p]\ncredential_process = echo garbage\n", "CredentialsUnusable", "'p'"),
        ("[profile p]\nrole_arn = arn:aws:iam::1:role/x\nsource_profile = gone\n", "CredentialsUnusable", "gone"),
        ("[profile p]\nrole_arn = arn:aws:iam::1:role/x\nsource_profile = p\n", "CredentialsUnusable", "'p'"),
        (
            MFA,
            "MfaRequired",
            "aws sts get-session-token --serial-number arn:aws:iam::1:mfa/me --token-code",
        ),
        (
            SSO,
            "SsoSessionExpired",
            "aws sso login --profile p",
        ),
    ],
)
async def test_unusable_profiles_say_what_to_do(
    config: str, code: str, hint: str, aws_environment: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(aws_environment.path.parent))
    aws_environment.write(config)
    async with registries_at(cooperative, monkeypatch) as (registries, _):
        for _ in range(2):
            with pytest.raises(Denied) as caught:
                await registries.open(target(replace(ACCOUNT, profile="p")))
            assert caught.value.code == code
            assert hint in caught.value.message


async def test_no_ambient_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    async with registries_at(cooperative, monkeypatch) as (registries, server):
        with pytest.raises(Denied, match="aws sso login"):
            await (await registries.open(target())).images("a")(None)
        assert server.requests == []
