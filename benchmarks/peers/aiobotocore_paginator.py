"""aiobotocore: one client, the paginators it ships, so many repositories in flight.

python -m benchmarks.peers.aiobotocore_paginator IN_FLIGHT
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any

from aiobotocore.config import AioConfig
from aiobotocore.session import get_session

from benchmarks.peers.rows import encode


async def main(in_flight: int) -> None:
    """List every repository of the caller's registry in its region."""
    config = AioConfig(max_pool_connections=in_flight)
    async with get_session().create_client("ecr", config=config) as ecr, asyncio.TaskGroup() as group:
        repositories = _repositories(ecr)
        lock = asyncio.Lock()
        for _ in range(in_flight):
            group.create_task(_list_images(ecr, repositories, lock))


async def _repositories(ecr: Any) -> AsyncIterator[dict[str, str]]:
    async for found in ecr.get_paginator("describe_repositories").paginate(PaginationConfig={"PageSize": 1000}):
        for repository in found["repositories"]:
            yield repository


async def _list_images(ecr: Any, repositories: AsyncIterator[dict[str, str]], lock: asyncio.Lock) -> None:
    region = ecr.meta.region_name
    while True:
        async with lock:  # an asynchronous generator refuses a second caller while it awaits a page
            repository = await anext(repositories, None)
        if repository is None:
            return
        registry_id, name = repository["registryId"], repository["repositoryName"]
        pages = ecr.get_paginator("list_images").paginate(repositoryName=name, PaginationConfig={"PageSize": 1000})
        async for images in pages:
            sys.stdout.buffer.write(encode(registry_id, region, name, images["imageIds"]))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
