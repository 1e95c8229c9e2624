"""DescribeImages: what is asked, and what of the answer becomes a row."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from crawler.aws.answers import image_details
from crawler.errors import Denied, Transient
from crawler.model import Account, ImageStatus, RowKind, Split, TagStatus, Target
from tests.aws.fakes import ACCOUNT, drained, registries_at, target
from tests.aws.server import answer

DIGEST = "sha256:" + "a" * 64

#: As AWS's own documentation has them, and one that says everything.
WHOLE: dict[str, Any] = {
    "registryId": "123456789012",
    "repositoryName": "team/app",
    "imageDigest": DIGEST,
    "imageTags": ["v2", "latest"],
    "imageSizeInBytes": 48_318_255,
    "imagePushedAt": 1_565_128_275.0,
    "imageScanStatus": {"status": "COMPLETE"},
    "imageManifestMediaType": "application/vnd.oci.image.manifest.v1+json",
    "artifactMediaType": "application/vnd.oci.image.config.v1+json",
    "lastRecordedPullTime": 1_565_128_275.125,
    "subjectManifestDigest": DIGEST,
    "imageStatus": "ARCHIVED",
    "lastArchivedAt": 1_765_128_275,
    "lastActivatedAt": -1,
}
ROW = {
    "imageDigest": DIGEST,
    "imageTags": ["latest", "v2"],
    "imageSizeInBytes": 48_318_255,
    "imagePushedAt": "2019-08-06T21:51:15.000Z",
    "lastRecordedPullTime": "2019-08-06T21:51:15.125Z",
    "imageManifestMediaType": "application/vnd.oci.image.manifest.v1+json",
    "artifactMediaType": "application/vnd.oci.image.config.v1+json",
    "subjectManifestDigest": DIGEST,
    "imageStatus": "ARCHIVED",
    "lastArchivedAt": "2025-12-07T17:24:35.000Z",
    "lastActivatedAt": "1969-12-31T23:59:59.000Z",
}


@pytest.mark.anyio
async def test_details_are_asked_for_as_ids_are(monkeypatch: pytest.MonkeyPatch) -> None:
    page = answer({"imageDetails": [WHOLE, {"imageDigest": DIGEST}]})
    async with registries_at(lambda _: page, monkeypatch, rows=RowKind.DETAILS) as (registries, server):
        whole, bare = await drained((await registries.open(target())).images("team/app"))
    assert list(whole.items()) == list(ROW.items())
    assert bare == dict.fromkeys(ROW) | {"imageDigest": DIGEST, "imageTags": []}
    (request,) = server.requests
    assert request.headers["x-amz-target"] == "AmazonEC2ContainerRegistry_V20150921.DescribeImages"
    assert request.json == {
        "registryId": "123456789012",
        "repositoryName": "team/app",
        "maxResults": 1000,
        "filter": {"imageStatus": "ANY"},
    }


@pytest.mark.parametrize(
    "image",
    [
        None,
        [],
        "imageDigest",
        {},
        {"imageDigest": None},
        {"imageTags": "latest"},
        {"imageTags": {"latest": 1}},
        {"imageTags": [None]},
        {"imageTags": [1]},
        {"imageSizeInBytes": "1"},
        {"imageSizeInBytes": 1.5},
        {"imageSizeInBytes": True},
        {"imageSizeInBytes": -1},
        {"imageSizeInBytes": 2**63},
        {"imagePushedAt": "yesterday"},
        {"imagePushedAt": True},
        {"imagePushedAt": 1e300},
        {"imagePushedAt": -1e12},
        {"lastRecordedPullTime": []},
        {"imageManifestMediaType": 1},
        {"imageStatus": ["ACTIVE"]},
    ],
)
def test_what_is_not_as_documented_is_transient_never_a_row(image: object) -> None:
    if image and isinstance(image, dict) and "imageDigest" not in image:
        image = {"imageDigest": DIGEST, **image}
    with pytest.raises(Transient, match="imageDetails are all objects"):
        image_details(orjson.dumps({"imageDetails": [WHOLE, image]}))


def test_pages_are_alike_by_what_they_name() -> None:
    def fingerprint(token: str | None = None, **changed: object) -> int | None:
        return image_details(orjson.dumps({"imageDetails": [WHOLE | changed], "nextToken": token})).fingerprint

    assert fingerprint() == fingerprint("another") == fingerprint(lastRecordedPullTime=1_765_128_275)
    assert fingerprint() == fingerprint(imageTags=["latest", "v2"])
    assert len({fingerprint(), fingerprint(imageTags=["v2"]), fingerprint(imageDigest="sha256:b")}) == 3


def tagged(image_id: Any) -> tuple[str, str | None]:
    return image_id["imageDigest"][-1], image_id["imageTag"]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("filters", "ids"),
    [
        ({}, [("a", "latest"), ("a", "v2"), ("b", None)]),
        ({"image_status": ImageStatus.ACTIVE, "tag_status": TagStatus.TAGGED}, [("a", "latest"), ("a", "v2")]),
        ({"tag_status": TagStatus.UNTAGGED}, [("b", None)]),
        ({"image_status": ImageStatus.ARCHIVED}, []),
    ],
)
async def test_ids_of_public_images_are_made_of_their_details(
    filters: dict[str, Any], ids: list[tuple[str, str | None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    page = answer({"imageDetails": [WHOLE, {"imageDigest": "sha256:b"}]})
    async with registries_at(lambda _: page, monkeypatch, **filters) as (registries, server):
        registry = await registries.open(Target.of_public(ACCOUNT))
        assert [tagged(image_id) for image_id in await drained(registry.images("app"))] == ids
        assert len(registry.parts(Split.ALL)) == 1, "without filters there is nothing to split by"
    (request,) = server.requests
    assert request.headers["x-amz-target"] == "SpencerFrontendService.DescribeImages"
    assert request.json == {"registryId": ACCOUNT.account_id, "repositoryName": "app", "maxResults": 1000}
    assert "/us-east-1/ecr-public/aws4_request" in request.headers["authorization"]


@pytest.mark.anyio
async def test_a_partition_without_public_registries_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    account = Account("123456789012", regions=("cn-north-1",), public=True)
    async with registries_at(lambda _: answer({}), monkeypatch) as (registries, server):
        with pytest.raises(Denied, match="not in the partition aws-cn: leave public: true out"):
            await registries.open(Target.of_public(account))
    assert not server.requests
