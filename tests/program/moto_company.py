"""A company on moto's server, an AWS that we did not write, and what is in it by boto3's own paginators."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import IO, Any
from urllib.request import Request, urlopen

import boto3

from tests.program.conftest import Program, Row

REGIONS = ("us-east-1", "eu-west-1", "ap-southeast-2")
ACCOUNTS = ("111111111111", "222222222222", "333333333333")
HUB = "123456789012"  # moto's own account


@contextmanager
def served() -> Iterator[str]:
    """A real process on a port of its own choosing."""
    # A file, not a pipe: it has a line for each request, and would wait for whoever does not read them.
    with tempfile.TemporaryFile("w+") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"],
            stdout=subprocess.DEVNULL,
            stderr=log,
            env={**os.environ, "MOTO_IAM_LOAD_MANAGED_POLICIES": "false"},
        )
        try:
            yield _url_in(log, server)
        finally:
            server.terminate()
            server.wait()


def _url_in(log: IO[str], server: subprocess.Popen[bytes]) -> str:
    while server.poll() is None:
        time.sleep(0.05)  # until another process listens
        log.seek(0)
        for word in log.read().split():
            if word.startswith("http://127"):
                return word.rstrip("/")
    raise AssertionError("moto's server has ended")


def tell(url: str, path: str, data: bytes = b"") -> None:
    """Ask something of the server itself."""
    asked = Request(f"{url}/moto-api/{path}", data, {"Content-Type": "text/plain"})  # noqa: S310  (loopback)
    with urlopen(asked) as answer:  # noqa: S310  (loopback)
        assert answer.status == 200


def environment(url: str, access_key: str = "hub", secret_key: str = "hub") -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": access_key,
        "AWS_SECRET_ACCESS_KEY": secret_key,
        "AWS_REGION": "us-east-1",
    }


def client(url: str, service: str, region: str, account: str | None = None) -> Any:
    keys = {"aws_access_key_id": "hub", "aws_secret_access_key": "hub", "region_name": region, "endpoint_url": url}
    if account:
        assumed = boto3.client("sts", **keys).assume_role(
            RoleArn=f"arn:aws:iam::{account}:role/inventory", RoleSessionName="truth"
        )["Credentials"]
        keys |= {
            "aws_access_key_id": assumed["AccessKeyId"],
            "aws_secret_access_key": assumed["SecretAccessKey"],
            "aws_session_token": assumed["SessionToken"],
        }
    return boto3.client(service, **keys)


def fill(url: str) -> None:
    """Forget all, and put images in some repositories of each account and region: multi-tagged, untagged, none."""
    unguard(url)
    tell(url, "reset")
    for a, account in enumerate(ACCOUNTS):
        for r, region in enumerate(REGIONS):
            ecr = client(url, "ecr", region, account)
            for n in range((a + r) % 3):
                name = f"team-{a}/app-{n}"
                ecr.create_repository(repositoryName=name)
                for image in range(n * 3 + a):
                    put(ecr, name, f"{account}{region}{name}{image}", ["latest", f"v{image}"] if image % 2 else [])


def put(ecr: Any, name: str, content: str, tags: list[str]) -> None:
    digest = "sha256:" + hashlib.sha256(content.encode()).hexdigest()
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "config": {"mediaType": "application/vnd.docker.container.image.v1+json", "size": 1, "digest": digest},
            "layers": [{"mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip", "size": 1, "digest": digest}],
        }
    )
    for tag in tags or [None]:
        ecr.put_image(repositoryName=name, imageManifest=manifest, **({"imageTag": tag} if tag else {}))


def truth(url: str, tag_status: str = "ANY", regions: Sequence[str] = REGIONS) -> Counter[Row]:
    rows: Counter[Row] = Counter()
    for account in ACCOUNTS:
        for region in regions:
            ecr = client(url, "ecr", region, account)
            for page in ecr.get_paginator("describe_repositories").paginate():
                for name in (repository["repositoryName"] for repository in page["repositories"]):
                    listing = ecr.get_paginator("list_images").paginate(
                        repositoryName=name, filter={"tagStatus": tag_status}
                    )
                    for image_id in (image_id for images in listing for image_id in images["imageIds"]):
                        row = (account, region, name, image_id["imageDigest"], image_id.get("imageTag"))
                        rows[row] += 1
    return rows


def accounts_yaml(regions: str) -> str:
    return "accounts:\n" + "".join(
        f"- {{account_id: {account}, role: inventory, regions: {regions}}}\n" for account in ACCOUNTS
    )


def guard(
    url: str, program: Program, accounts: str, members: Sequence[str], without: Collection[tuple[str, str]] = ()
) -> None:
    """Give the hub and the role `inventory` of each member what `crawler policy` prints, and let nothing else pass.

    Of `without`, pairs of a member and an action, nothing is given. Signatures are verified from here on, too.
    """
    (program.folder / "accounts.yaml").write_text(accounts)
    printed = program.run("policy", "--accounts", "accounts.yaml", "--hub", f"arn:aws:iam::{HUB}:user/nightly")
    assert printed.returncode == 0, printed.stderr
    hub, role = json.loads(printed.stdout)
    for statement in hub["policy"]["Statement"]:
        if "sts:AssumeRole" in statement["Action"]:
            denied = [
                f"arn:aws:iam::{member}:role/inventory" for member, action in without if action == "sts:AssumeRole"
            ]
            statement["Resource"] = [arn for arn in statement["Resource"] if arn not in denied]
    for member in members:
        iam = client(url, "iam", "us-east-1", member)
        iam.create_role(RoleName="inventory", AssumeRolePolicyDocument=json.dumps(role["trust"]))
        policy = json.loads(json.dumps(role["policy"]))
        for statement in policy["Statement"]:
            statement["Action"] = [action for action in statement["Action"] if (member, action) not in without]
        iam.put_role_policy(RoleName="inventory", PolicyName="ecr-inventory", PolicyDocument=json.dumps(policy))
    iam = client(url, "iam", "us-east-1")
    iam.create_user(UserName="nightly")
    iam.put_user_policy(UserName="nightly", PolicyName="ecr-inventory", PolicyDocument=json.dumps(hub["policy"]))
    key = iam.create_access_key(UserName="nightly")["AccessKey"]
    program.environment |= environment(url, key["AccessKeyId"], key["SecretAccessKey"])
    tell(url, "reset-auth", b"0")


def unguard(url: str) -> None:
    """Let everything pass, as moto does by itself."""
    tell(url, "reset-auth", b"inf")
