"""Rows of one page as the crawler writes them: for the Python peers, so that what is compared is the crawling."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import orjson


def encode(registry_id: str, region: str, repository: str, image_ids: Iterable[Mapping[str, str]]) -> bytes:
    """One line of NDJSON for each image ID."""
    return b"".join(
        orjson.dumps(
            {
                "registryId": registry_id,
                "region": region,
                "repositoryName": repository,
                "imageDigest": image_id["imageDigest"],
                "imageTag": image_id.get("imageTag"),
            },
            option=orjson.OPT_APPEND_NEWLINE,
        )
        for image_id in image_ids
    )
