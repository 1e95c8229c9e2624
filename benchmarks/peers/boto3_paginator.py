"""boto3: one client for all threads (it is thread-safe), the paginators it ships, a repository at a time each.

python -m benchmarks.peers.boto3_paginator THREADS
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Lock

import boto3
from botocore.config import Config

from benchmarks.peers.rows import encode


def main(threads: int) -> None:
    """List every repository of the caller's registry in its region."""
    ecr = boto3.client("ecr", config=Config(max_pool_connections=threads))
    region, page = ecr.meta.region_name, {"PageSize": 1000}
    lock = Lock()

    def list_images(repository: dict[str, str]) -> None:
        registry_id, name = repository["registryId"], repository["repositoryName"]
        for images in ecr.get_paginator("list_images").paginate(repositoryName=name, PaginationConfig=page):
            lines = encode(registry_id, region, name, images["imageIds"])
            with lock:  # a page is more than a pipe takes at once, and then its rest would come after another's
                sys.stdout.buffer.write(lines)

    listing = ecr.get_paginator("describe_repositories").paginate(PaginationConfig=page)
    repositories = (repository for found in listing for repository in found["repositories"])
    if threads == 1:
        for repository in repositories:
            list_images(repository)
        return
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(list_images, repositories):
            pass


if __name__ == "__main__":
    main(int(sys.argv[1]))
