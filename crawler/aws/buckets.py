"""The bucket that a run is published in: where it is, whose keys open it, and the uploads that dead processes left.

Its bytes go through obstore (`crawler.store`); who we are, and where, is found here, as for every other service.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from aiobotocore.config import AioConfig
from botocore.exceptions import BotoCoreError, ClientError

from crawler.aws.hosts import check_host
from crawler.aws.http import Pool, route
from crawler.aws.keys import ProfileKeys
from crawler.aws.session import Sessions
from crawler.bucket import Bucket, Credential
from crawler.errors import CrawlError, Fatal, UsageError
from crawler.retry import RetryPolicy, persist
from crawler.wording import printable

#: Seconds after which obstore asks for the keys again. botocore renews them long before their end.
_FRESH = timedelta(minutes=10)


class Buckets:
    """S3 by the ambient credentials. Enter `buckets()` for one."""

    def __init__(self, pool: Pool, policy: RetryPolicy) -> None:
        self._pool = pool
        self._policy = policy
        self._sessions = Sessions(pool)
        self._keys = ProfileKeys(self._sessions, None, policy)

    async def find(self, name: str) -> Bucket:
        """Where the bucket is. Raises `UsageError` if there is none."""
        region = self._sessions.region(None)
        ca_bundle = self._sessions.ca_bundle(None)
        endpoint = await self._endpoint(region)
        # S3 tells the region of a bucket to anyone, with every answer to an unsigned request, refusals included:
        # https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadBucket.html
        way, headers = route(f"{endpoint}/{name}?max-keys=0", ca_bundle), {"Accept-Encoding": "identity"}
        answer = await persist(lambda: self._pool.request("GET", way, headers, None), self._policy)
        if answer.status == 404:  # noqa: PLR2004 RFC 9110 §15.5.5
            raise UsageError(f"s3://{name}: there is no such bucket at {endpoint}")
        own = answer.headers.get("x-amz-bucket-region") or region
        if own != region:
            endpoint = await self._endpoint(own)
        elif 300 <= answer.status < 400:  # noqa: PLR2004 RFC 9110 §15.4
            raise UsageError(
                f"s3://{name}: {endpoint} answers {answer.status}, a redirect, which would show our keys to another "
                "host: name the right region or endpoint (AWS_REGION, AWS_ENDPOINT_URL_S3)"
            )
        proxy = route(endpoint, ca_bundle).proxy
        return Bucket(name, own, endpoint, self._credential, ca_bundle, str(proxy) if proxy else None)

    async def _endpoint(self, region: str) -> str:
        try:
            async with await self._client(region, "none", "none", None) as client:
                url = str(client.meta.endpoint_url).rstrip("/")
        except (BotoCoreError, ValueError) as error:  # the region or the endpoint is no such thing
            told = printable(f"S3 in {region}: {str(error).rstrip('.')}")
            raise UsageError(f"{told}: look at AWS_REGION and AWS_ENDPOINT_URL_S3") from error
        check_host(url, service="s3")
        return url

    async def _client(self, region: str, access_key: str, secret_key: str, token: str | None) -> Any:  # noqa: ANN401  botocore's clients are made at run time
        return cast("Any", self._sessions.of(None)).create_client(
            "s3",
            region_name=region,
            aws_access_key_id=access_key,
            aws_secret_access_key=secret_key,
            aws_session_token=token,
            config=AioConfig(s3={"addressing_style": "path"}),  # see `Bucket.under`
        )

    async def _credential(self) -> Credential:
        keys = await self._keys.keys()
        return Credential(
            access_key_id=keys.access_key,
            secret_access_key=keys.secret_key,
            token=keys.token,
            expires_at=datetime.now(UTC) + _FRESH,
        )

    async def abort_stale_uploads(self, bucket: Bucket, prefix: str, older_than: timedelta) -> int:
        """End the multipart uploads under the prefix that were begun that long ago; return how many.

        What they hold is paid for, and seen by no listing of objects.
        """
        keys = await self._keys.keys()
        latest = datetime.now(UTC) - older_than
        aborted = 0
        try:
            async with await self._client(bucket.region, keys.access_key, keys.secret_key, keys.token) as client:
                pages = client.get_paginator("list_multipart_uploads").paginate(Bucket=bucket.name, Prefix=prefix)
                async for page in pages:
                    for upload in page.get("Uploads", ()):
                        if upload["Initiated"] < latest:
                            await client.abort_multipart_upload(
                                Bucket=bucket.name, Key=upload["Key"], UploadId=upload["UploadId"]
                            )
                            aborted += 1
        except (BotoCoreError, ClientError) as error:
            why = printable(str(error))
            raise Fatal("StoreFailed", f"s3://{bucket.name}/{prefix}: listing stale uploads: {why}") from error
        return aborted


@asynccontextmanager
async def buckets(policy: RetryPolicy | None = None) -> AsyncGenerator[Buckets]:
    """S3, for as long as the body runs. What fails on the way to the bucket is fatal."""
    async with Pool(connections=4, timeout=60.0) as pool:
        try:
            yield Buckets(pool, policy or RetryPolicy(attempts=5, seconds=60.0))
        except Fatal:
            raise
        except CrawlError as error:
            raise Fatal(error.code, error.message) from error
