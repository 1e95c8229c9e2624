"""What a world holds: regions, and repositories whose pages may change, vanish, or lead nowhere."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import count
from random import Random

import anyio

from crawler.model import ImageId, ImageStatus, Part, TagStatus
from tests.simulation.temper import Temper

#: What a row tells of an image: digest and tag.
Image = tuple[str | None, str | None]

#: The image that is pushed while the crawl is under way.
PUSHED = "sha256:9999"


@dataclass
class Repository:
    """Pages of image IDs. `odd` is what its tokens do; a push at `pushed_at` adds a row to its last page."""

    pages: list[list[ImageId]]
    odd: str = ""
    deleted_at: float = float("inf")
    pushed_at: float = float("inf")

    def now(self) -> list[list[ImageId]]:
        if anyio.current_time() < self.pushed_at:
            return self.pages
        return [*self.pages[:-1], [*self.pages[-1], {"imageDigest": PUSHED}]]

    def of(self, part: Part | None) -> list[list[ImageId]]:
        """The pages of a part, some of them empty, as those of a filter are."""
        return self.now() if part is None else [[row for row in page if _in(part, row)] for page in self.now()]

    def images(self) -> Counter[Image]:
        return Counter((row["imageDigest"], row.get("imageTag")) for page in self.pages for row in page)


def _in(part: Part, row: ImageId) -> bool:
    number = int((row["imageDigest"] or "").rpartition(":")[2])
    status = (ImageStatus.ACTIVE, ImageStatus.ARCHIVED, ImageStatus.ACTIVATING)[number % 3]
    tag = TagStatus.TAGGED if row.get("imageTag") else TagStatus.UNTAGGED
    return part.tag_status in (TagStatus.ANY, tag) and part.image_status in (ImageStatus.ANY, status)


@dataclass
class Region:
    """One registry in one region: names in pages."""

    repositories: dict[str, Repository]
    names: list[list[str]]
    disabled: bool = False


def a_region(dice: Random, temper: Temper) -> Region:
    repositories = {f"app-{n}": _a_repository(dice, temper) for n in range(dice.choice([0, 1, 2, 4, 9]))}
    names: list[list[str]] = [[]]
    for name in repositories:
        if dice.random() < 0.4:
            names.append([])
        names[-1].append(name)
    return Region(repositories, names, disabled=dice.random() < temper.disabled)


def _a_repository(dice: Random, temper: Temper) -> Repository:
    serial = count()
    pages: list[list[ImageId]] = [
        [
            {"imageDigest": f"sha256:{next(serial)}", "imageTag": dice.choice([None, "v1"])}
            for _ in range(dice.choice([0, 1, 2, 3]))
        ]
        for _ in range(dice.choice([1, 1, 2, 3, 12]))
    ]
    made = Repository(pages)
    if dice.random() < temper.odd_chain:
        made.odd = dice.choice(["same", "cycle", "empty"])
    if dice.random() < temper.deleted:
        made.deleted_at = dice.uniform(0, 60)
    if dice.random() < temper.pushed:
        made.pushed_at = dice.uniform(0, 60)
    return made
