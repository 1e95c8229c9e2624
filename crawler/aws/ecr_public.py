"""The public registry of an account, as a private one would be listed.

ECR Public has no ListImages, and DescribeImages has no filter there: what was asked for is chosen from its answers. Its
images are never archived, and it tells no status of them.
https://docs.aws.amazon.com/AmazonECRPublic/latest/APIReference/API_DescribeImages.html
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

from crawler.aws.ecr import Asking, EcrRegistry, Service
from crawler.model import Fetch, Image, ImageStatus, Page, Part, RowKind, Split, TagStatus

PUBLIC_SERVICE = Service("ecr-public", "SpencerFrontendService.", filters=False)


class PublicRegistry:
    """A `Registry` in front of one that lists the details of public images."""

    def __init__(self, behind: EcrRegistry, asking: Asking) -> None:
        self._behind = behind
        self._asking = asking

    def __repr__(self) -> str:
        return f"<PublicRegistry {self._behind!r}>"

    def repositories(self) -> Fetch[str]:
        """See `Registry`."""
        return self._behind.repositories()

    def parts(self, split: Split) -> list[Part]:  # noqa: ARG002 - what has no filters cannot be split
        """See `Registry`."""
        return [Part(self._asking.tag_status, self._asking.image_status)]

    def images(self, repository: str, part: Part | None = None) -> Fetch[Image]:  # noqa: ARG002 - see `parts`
        """See `Registry`."""
        fetch = self._behind.images(repository)

        async def chosen(token: str | None) -> Page[Image]:
            page = await fetch(token)
            images = [image for image in page.items if self._wanted(image)]
            items = images if self._asking.rows is RowKind.DETAILS else list(_image_ids(images))
            return Page(items, page.next_token, page.fingerprint)

        return chosen

    def _wanted(self, image: Image) -> bool:
        tag_status = self._asking.tag_status
        return self._asking.image_status in (ImageStatus.ANY, ImageStatus.ACTIVE) and (
            tag_status is TagStatus.ANY or (tag_status is TagStatus.TAGGED) == bool(image["imageTags"])
        )


def _image_ids(images: Sequence[Image]) -> Iterator[Image]:
    """One for each (digest, tag), as ListImages has them."""
    for image in images:
        for tag in cast("list[Any]", image["imageTags"]) or [None]:
            yield {"imageDigest": image["imageDigest"], "imageTag": tag}
