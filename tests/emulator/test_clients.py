"""The checker, checked by clients that are not ours: boto3 with its paginators, and the AWS CLI."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.exceptions import ClientError

from crawler.emulator import Account, Estate, Mix, Options, Repository, Series
from crawler.emulator.details import PUBLIC_MEMBERS, detail
from crawler.emulator.images import EVERYTHING

ONE, TWO, LOCKED, POOR, SECRETIVE, CLOSED = (f"{n:012d}" for n in range(1, 7))


def names(ecr: Any, **asked: Any) -> list[str]:
    pages = ecr.get_paginator("describe_repositories").paginate(**asked)
    return [each["repositoryName"] for page in pages for each in page["repositories"]]


def images(ecr: Any, name: str, size: int | None = None, **asked: Any) -> Iterator[tuple[str, str | None]]:
    pages = ecr.get_paginator("list_images").paginate(repositoryName=name, PaginationConfig={"PageSize": size}, **asked)
    return ((i["imageDigest"], i.get("imageTag")) for page in pages for i in page["imageIds"])


@pytest.mark.parametrize("region", ["us-east-1", "eu-west-1"])
def test_boto3_lists_the_whole_truth(caller: Any, estate: Estate, region: str) -> None:
    ecr = caller.client("ecr", region, caller.assume(ONE))
    found = [
        (name, *image)
        for name in names(ecr)
        if name != "secret/denied"
        for image in images(ecr, name, filter={"imageStatus": "ANY"})
    ]
    truth = [row[2:] for row in estate.rows() if row[:2] == (ONE, region) and row.repository != "secret/denied"]
    assert sorted(found, key=str) == sorted(truth, key=str)
    assert len(found) == len(set(found))


@pytest.mark.parametrize("tag_status", ["ANY", "TAGGED", "UNTAGGED"])
@pytest.mark.parametrize("image_status", ["ANY", "ACTIVE", "ARCHIVED", "ACTIVATING"])
@pytest.mark.parametrize("size", [1000, 333])
def test_filters(caller: Any, estate: Estate, tag_status: str, image_status: str, size: int) -> None:
    ecr = caller.client("ecr", keys=caller.assume(ONE))
    found = list(images(ecr, "team/api", size, filter={"tagStatus": tag_status, "imageStatus": image_status}))
    truth = estate.rows(tag_status=tag_status, image_status=image_status)
    assert found == [(row.digest, row.tag) for row in truth if row.repository == "team/api"]


def test_without_image_status_archived_images_are_missing(caller: Any, estate: Estate) -> None:
    ecr = caller.client("ecr", keys=caller.assume(ONE))
    found = set(images(ecr, "team/api"))
    assert found == {(r.digest, r.tag) for r in estate.rows(image_status="ACTIVE") if r.repository == "team/api"}
    assert len(found) < len(set(images(ecr, "team/api", filter={"imageStatus": "ANY"})))


def test_default_page_is_a_hundred(caller: Any) -> None:
    ecr = caller.client("ecr", "eu-west-1", caller.assume(ONE))
    assert [len(p["repositories"]) for p in ecr.get_paginator("describe_repositories").paginate()] == [100, 100, 30]
    answer = ecr.list_images(repositoryName="bulk/r001")
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 200


def described(ecr: Any, name: str, size: int | None = None, **asked: Any) -> list[dict[str, Any]]:
    pages = ecr.get_paginator("describe_images").paginate(
        repositoryName=name, PaginationConfig={"PageSize": size}, **asked
    )
    return [each for page in pages for each in page["imageDetails"]]


def as_botocore_has_it(told: dict[str, Any]) -> dict[str, Any]:
    times = ("imagePushedAt", "lastRecordedPullTime", "lastArchivedAt", "lastActivatedAt")
    return {key: datetime.fromtimestamp(value, UTC) if key in times else value for key, value in told.items()}


@pytest.mark.parametrize("tag_status", ["ANY", "TAGGED", "UNTAGGED"])
@pytest.mark.parametrize("image_status", ["ANY", "ACTIVE", "ARCHIVED", "ACTIVATING"])
@pytest.mark.parametrize("size", [1000, 333])
def test_boto3_describes_the_whole_truth(
    caller: Any, estate: Estate, tag_status: str, image_status: str, size: int
) -> None:
    ecr = caller.client("ecr", keys=caller.assume(ONE))
    asked = {"tagStatus": tag_status, "imageStatus": image_status}
    for name in ("team/api", "team/odd", "team/none"):
        truth = [image for _, image in estate.details(tag_status=tag_status, image_status=image_status)
                 if image["repositoryName"] == name]  # fmt: skip
        assert described(ecr, name, size, filter=asked) == [as_botocore_has_it(image) for image in truth]


def test_details_are_of_the_same_images_as_ids(caller: Any) -> None:
    ecr = caller.client("ecr", keys=caller.assume(ONE))
    for name in ("team/api", "team/odd"):
        details = described(ecr, name)
        assert details, "and without imageStatus archived ones are missing from both"
        assert {image["imageStatus"] for image in details} == {"ACTIVE"}
        ids = [(image["imageDigest"], tag) for image in details for tag in image.get("imageTags", [None])]
        assert ids == list(images(ecr, name))
    assert len(ecr.describe_images(repositoryName="team/api")["imageDetails"]) == 100


def test_images_are_described_by_name(caller: Any) -> None:
    ecr = caller.client("ecr", keys=caller.assume(ONE))
    both = [{"imageTag": "latest"}, {"imageDigest": "sha256:" + "a" * 64}, {"imageTag": "old"}]
    found = ecr.describe_images(repositoryName="team/odd", imageIds=both)["imageDetails"]
    assert [image["imageDigest"][-1] for image in found] == ["a", "c"]
    with pytest.raises(ClientError, match="ImageNotFoundException"):
        ecr.describe_images(repositoryName="team/odd", imageIds=[{"imageTag": "none"}])
    with pytest.raises(ClientError, match=r"InvalidParameterException.*excludes"):
        ecr.describe_images(repositoryName="team/odd", imageIds=both, maxResults=5)
    with pytest.raises(ClientError, match=r"InvalidParameterException.*maxResults"):
        ecr.describe_images(repositoryName="team/odd", maxResults=1001)


def test_described_repository(caller: Any) -> None:
    ecr = caller.client("ecr", keys=caller.assume(ONE))
    (found,) = ecr.describe_repositories(repositoryNames=["team/api"])["repositories"]
    assert found["repositoryArn"] == f"arn:aws:ecr:us-east-1:{ONE}:repository/team/api"
    assert found["registryId"] == ONE
    assert found["repositoryUri"] == f"{ONE}.dkr.ecr.us-east-1.amazonaws.com/team/api"
    assert found["createdAt"].year == 2024


def test_identities(caller: Any) -> None:
    assert caller.client("sts").get_caller_identity()["Arn"] == "arn:aws:iam::999999999999:user/hub"
    keys = caller.assume(TWO, Tags=[{"Key": "run", "Value": "7"}], DurationSeconds=900)
    identity = caller.client("sts", keys=keys).get_caller_identity()
    assert (identity["Account"], identity["Arn"]) == (TWO, f"arn:aws:sts::{TWO}:assumed-role/inventory/test")
    seen = [each for each in caller.emulator.stats()["assumed_roles"] if each["tags"]]
    assert seen[-1] == {
        "role": f"arn:aws:iam::{TWO}:role/inventory", "session_name": "test", "external_id": None, "tags": {"run": "7"},
        "duration_seconds": 900, "caller": "arn:aws:iam::999999999999:user/hub", "region": "us-east-1",
    }  # fmt: skip


def test_trust(caller: Any) -> None:
    for account, more in (
        (LOCKED, {}),
        (POOR, {}),
        (SECRETIVE, {}),
        (SECRETIVE, {"ExternalId": "wrong"}),
        (CLOSED, {}),
        ("123456789012", {}),
    ):
        with pytest.raises(ClientError, match=r"AccessDenied.*not authorized to perform: sts:AssumeRole"):
            caller.assume(account, **more)
    caller.assume(SECRETIVE, ExternalId="abc-123")


def test_role_chains(caller: Any) -> None:
    two = caller.assume(TWO)
    assert caller.client("sts", keys=caller.assume(POOR, two)).get_caller_identity()["Account"] == POOR
    with pytest.raises(ClientError, match="1 hour session limit for roles assumed by role chaining"):
        caller.assume(POOR, two, DurationSeconds=7200)


def test_organization(caller: Any, estate: Estate) -> None:
    client = caller.client("organizations")
    pages = list(client.get_paginator("list_accounts").paginate())
    assert [len(page["Accounts"]) for page in pages] == [20, 20, 7]
    found = {each["Id"]: each for page in pages for each in page["Accounts"]}
    assert set(found) == set(estate.accounts)
    assert (found[CLOSED]["State"], found[CLOSED]["Status"]) == ("CLOSED", "SUSPENDED")
    (root,) = client.list_roots()["Roots"]
    (prod,) = [
        u
        for u in client.list_organizational_units_for_parent(ParentId=root["Id"])["OrganizationalUnits"]
        if u["Name"] == "prod"
    ]
    (eu,) = client.list_organizational_units_for_parent(ParentId=prod["Id"])["OrganizationalUnits"]
    assert [a["Id"] for a in client.list_accounts_for_parent(ParentId=eu["Id"])["Accounts"]] == [ONE]
    assert found[ONE]["Paths"][0].split("/")[1:] == [root["Id"], prod["Id"], eu["Id"], ONE, ""]
    assert client.describe_organization()["Organization"]["MasterAccountId"] == estate.hub
    with pytest.raises(ClientError, match="AccessDenied"):
        caller.client("organizations", keys=caller.assume(TWO)).list_accounts()


def test_organization_of_the_other_kinds(start: Callable[..., Any], estate: Estate) -> None:
    caller = start(estate, Options(account_fields=("Status",), empty_pages=True))
    pages = list(caller.client("organizations").get_paginator("list_accounts").paginate())
    assert [len(page["Accounts"]) for page in pages] == [20, 0, 20, 0, 7]
    assert {"State" in each for page in pages for each in page["Accounts"]} == {False}


def test_regions(caller: Any) -> None:
    two = caller.assume(TWO)
    listed = caller.client("account", keys=two).list_regions()["Regions"]
    assert {r["RegionName"]: r["RegionOptStatus"] for r in listed} == {
        "us-east-1": "ENABLED_BY_DEFAULT", "eu-west-1": "DISABLED", "ap-east-1": "DISABLED",
    }  # fmt: skip
    assert caller.client("account").list_regions(AccountId=TWO)["Regions"] == listed
    assert len(caller.client("account").list_regions(RegionOptStatusContains=["ENABLED"], MaxResults=1)["Regions"]) == 1
    with pytest.raises(ClientError, match="AccessDenied"):
        caller.client("account", keys=two).list_regions(AccountId=ONE)
    ec2 = caller.client("ec2", keys=two)
    assert [r["RegionName"] for r in ec2.describe_regions()["Regions"]] == ["us-east-1"]
    assert len(ec2.describe_regions(AllRegions=True)["Regions"]) == 3
    off = [{"Name": "opt-in-status", "Values": ["not-opted-in"]}]
    assert len(ec2.describe_regions(AllRegions=True, Filters=off)["Regions"]) == 2
    with pytest.raises(ClientError, match="AuthFailure"):
        caller.client("ec2", "eu-west-1", two).describe_regions()


@pytest.mark.parametrize(
    "command",
    [["describe-repositories"], ["list-images", "--repository-name", "team/api", "--filter", "imageStatus=ANY"]],
)
def test_aws_cli(caller: Any, estate: Estate, command: list[str]) -> None:
    keys = caller.assume(ONE)
    own = {
        "AWS_ACCESS_KEY_ID": keys.access_key,
        "AWS_SECRET_ACCESS_KEY": keys.secret_key,
        "AWS_SESSION_TOKEN": keys.token,
    }
    environment = {**os.environ, **caller.emulator.environment(), **own}
    run = [sys.executable, "-W", "ignore", "-m", "awscli", "ecr", *command, "--output", "json"]
    answer = json.loads(subprocess.run(run, env=environment, capture_output=True, check=True).stdout)
    if command[0] == "list-images":
        truth = [(row.digest, row.tag) for row in estate.rows() if row.repository == "team/api"]
        assert [(i["imageDigest"], i.get("imageTag")) for i in answer["imageIds"]] == truth
    else:
        assert [each["repositoryName"] for each in answer["repositories"]] == list(
            estate.accounts[ONE].repositories["us-east-1"]
        )


def test_boto3_describes_public_registries(start: Callable[..., Any]) -> None:
    series = Series("site", 2345, Mix(untagged_every=4, two_tags_every=3))
    made = Estate([Account(ONE, "one", public={"site": Repository("site", series)})], regions=["eu-west-1"])
    caller = start(made, Options())
    public = caller.client("ecr-public", "us-east-1", caller.assume(ONE))
    pages = public.get_paginator("describe_repositories").paginate(PaginationConfig={"PageSize": 1000})
    (repository,) = [each for page in pages for each in page["repositories"]]
    assert repository["repositoryUri"].startswith("public.ecr.aws/")
    assert (repository["registryId"], repository["repositoryName"]) == (ONE, "site")
    found = described(public, "site", 1000)
    told = PUBLIC_MEMBERS
    images = series.described(EVERYTHING, 0, len(series))
    assert found == [as_botocore_has_it({k: v for k, v in detail(ONE, "site", i).items() if k in told}) for i in images]
    assert len(public.describe_images(repositoryName="site", maxResults=7)["imageDetails"]) == 7
    with pytest.raises(ClientError, match="RepositoryNotFoundException"):
        public.describe_images(repositoryName="private")
    token = public.describe_images(repositoryName="site")["nextToken"]
    with pytest.raises(ClientError, match="InvalidParameterException"):
        public.describe_images(repositoryName="site", nextToken=token, maxResults=7)
