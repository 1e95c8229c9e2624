"""What DescribeImages tells of an image beside digest and tags: made up, from its digest alone.

https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_ImageDetail.html
"""

from __future__ import annotations

from crawler.emulator.images import ACTIVATING, ACTIVE, Image

_OCI, _DOCKER = "application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json"
_CONFIG = {_OCI: "application/vnd.oci.image.config.v1+json", _DOCKER: "application/vnd.docker.container.image.v1+json"}
#: 2024-01-01, when repositories here were made; seconds since 1970.
CREATED_AT = 1_704_067_200
#: What ECR Public tells of it.
PUBLIC_MEMBERS = (
    "registryId", "repositoryName", "imageDigest", "imageTags", "imageSizeInBytes", "imagePushedAt",
    "imageManifestMediaType", "artifactMediaType",
)  # fmt: skip
_YEAR, _DAY = 365 * 86_400, 86_400


def detail(registry_id: str, repository: str, image: Image) -> dict[str, object]:
    """One element of `imageDetails`. Times are seconds since 1970; what does not apply is absent, as AWS has it.

    Every third image was never pulled. Every fifth is the referrer of another one, an artifact of its own kind.
    """
    seed = int(image.digest[-12:], 16)
    pushed = CREATED_AT + seed % _YEAR + seed % 1000 / 1000
    media = _OCI if seed % 2 else _DOCKER
    told: dict[str, object] = {
        "registryId": registry_id,
        "repositoryName": repository,
        "imageDigest": image.digest,
        "imageSizeInBytes": 1 + seed % (1 << 36),
        "imagePushedAt": pushed,
        "imageManifestMediaType": media,
        "artifactMediaType": _CONFIG[media],
        "imageStatus": image.status,
    }
    if image.tags:
        told["imageTags"] = list(image.tags)
    if seed % 3:
        told["lastRecordedPullTime"] = int(pushed) + seed % 40 * _DAY
    if seed % 5 == 0:
        told["subjectManifestDigest"] = f"sha256:{seed:064x}"
        told["artifactMediaType"] = "application/vnd.dev.cosign.artifact.sig.v1+json"
    if image.status != ACTIVE:
        told["lastArchivedAt"] = int(pushed) + 90 * _DAY
    if image.status == ACTIVATING:
        told["lastActivatedAt"] = int(pushed) + 91 * _DAY
    return told
