"""aiobotocore as most programs use it over many accounts: a client for each account and region, 50 at a time.

The session is shared, the roles are assumed once an account: its best simple form.

python -m benchmarks.peers.aiobotocore_targets ACCOUNTS_YAML
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import yaml
from aiobotocore.session import AioSession, get_session

from benchmarks.peers.rows import encode

_IN_FLIGHT = 50


async def main(accounts: list[dict[str, Any]]) -> None:
    """List every repository of all accounts and regions."""
    session, slots = get_session(), asyncio.Semaphore(_IN_FLIGHT)
    async with session.create_client("sts") as sts, asyncio.TaskGroup() as group:
        for account in accounts:
            role = f"arn:aws:iam::{account['account_id']}:role/{account['role']}"
            keys = (await sts.assume_role(RoleArn=role, RoleSessionName="benchmark"))["Credentials"]
            for region in account["regions"]:
                await slots.acquire()
                group.create_task(_list_target(session, keys, region)).add_done_callback(lambda _: slots.release())


async def _list_target(session: AioSession, keys: dict[str, str], region: str) -> None:
    page = {"PageSize": 1000}
    async with session.create_client(
        "ecr",
        region_name=region,
        aws_access_key_id=keys["AccessKeyId"],
        aws_secret_access_key=keys["SecretAccessKey"],
        aws_session_token=keys["SessionToken"],
    ) as client:
        ecr: Any = client
        async for found in ecr.get_paginator("describe_repositories").paginate(PaginationConfig=page):
            for repository in found["repositories"]:
                registry_id, name = repository["registryId"], repository["repositoryName"]
                pages = ecr.get_paginator("list_images").paginate(repositoryName=name, PaginationConfig=page)
                async for images in pages:
                    sys.stdout.buffer.write(encode(registry_id, region, name, images["imageIds"]))


if __name__ == "__main__":
    asyncio.run(main(yaml.safe_load(Path(sys.argv[1]).read_text())["accounts"]))
