"""Rows as NDJSON, on whatever takes bytes."""

from __future__ import annotations

from collections.abc import Sequence

from crawler.model import ImageId, Target
from crawler.rows import encode
from crawler.sinks.writer import Send


class NdjsonSink:
    """Each page encoded where it was fetched, and sent as one piece of whole lines."""

    def __init__(self, send: Send) -> None:
        self._send = send

    async def send(self, target: Target, repository: str, image_ids: Sequence[ImageId]) -> None:
        """See `Sink`."""
        if image_ids:
            await self._send(encode(target.registry_id, target.region, repository, image_ids))
