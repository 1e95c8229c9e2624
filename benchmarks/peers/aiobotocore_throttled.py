"""aiobotocore in one of botocore's retry modes, on a service that throttles: what a listing that fails costs is told.

python -m benchmarks.peers.aiobotocore_throttled MODE ATTEMPTS
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.exceptions import ClientError

from benchmarks.peers.rows import encode

_IN_FLIGHT = 50


async def main(mode: str, attempts: int) -> None:
    """List every repository of the caller's registry in its region; go on after those that fail."""
    retries: Any = {"mode": mode, **({"total_max_attempts": attempts} if attempts else {})}
    config = AioConfig(max_pool_connections=_IN_FLIGHT, retries=retries)
    async with get_session().create_client("ecr", config=config) as ecr:
        names = [
            repository["repositoryName"]
            async for found in ecr.get_paginator("describe_repositories").paginate(PaginationConfig={"PageSize": 1000})
            for repository in found["repositories"]
        ]
        slots = asyncio.Semaphore(_IN_FLIGHT)
        await asyncio.gather(*(_list_images(ecr, name, slots) for name in names))


async def _list_images(ecr: Any, name: str, slots: asyncio.Semaphore) -> None:
    async with slots:
        try:
            pages = ecr.get_paginator("list_images").paginate(repositoryName=name, PaginationConfig={"PageSize": 1000})
            async for images in pages:
                sys.stdout.buffer.write(encode("000000000001", ecr.meta.region_name, name, images["imageIds"]))
        except ClientError:
            pass  # its rows are missing, which is counted where they should arrive


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
