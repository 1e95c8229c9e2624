"""Where rows go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from crawler.model import ImageId, Target


class Sink(Protocol):
    """Takes pages of rows as they come, from many tasks at once; one writer behind it owns the output."""

    async def send(self, target: Target, repository: str, image_ids: Sequence[ImageId]) -> None:
        """Hand over one page. Returns when the writer has taken it, which is how back-pressure reaches the pagers."""
        ...
