"""Images of a repository, listed one by one or as a series that is only computed when somebody asks.

`rows` is the truth, in the plainest words. `page` is what the server sends; for a series it is cut from a template
that all repositories share, so that millions of rows cost neither memory nor a loop over rows. Tests hold the two
against each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import NamedTuple

from crawler.emulator.messages import encode

ACTIVE, ARCHIVED, ACTIVATING, ANY = "ACTIVE", "ARCHIVED", "ACTIVATING", "ANY"
TAGGED, UNTAGGED = "TAGGED", "UNTAGGED"

#: Images of a series that share the first half of their digest, and so one cut of the template.
BLOCK = 1000


class Filter(NamedTuple):
    """`filter` of ListImages, and of DescribeImages.

    https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_ListImagesFilter.html
    """

    tag_status: str = ANY
    image_status: str = ANY

    def rows(self, tags: Sequence[str], status: str) -> Sequence[str | None]:
        """The rows that one image gives: its tags, None for an untagged one, nothing where the filter leaves it out."""
        if self.image_status not in (ANY, status):
            return ()
        if not tags:
            return () if self.tag_status == TAGGED else (None,)
        return () if self.tag_status == UNTAGGED else tags

    def takes(self, tags: Sequence[str], status: str) -> bool:
        """Whether the image is wanted at all."""
        return len(self.rows(tags, status)) > 0


#: Every row, of every status.
EVERYTHING = Filter()


@dataclass(frozen=True, slots=True)
class Image:
    """One image: `sha256:` and 64 hex digits, its tags, and ACTIVE, ARCHIVED or ACTIVATING."""

    digest: str
    tags: tuple[str, ...] = ()
    status: str = ACTIVE


@dataclass(frozen=True)
class Listed:
    """Images given one by one."""

    images: tuple[Image, ...]

    def __len__(self) -> int:
        return len(self.images)

    def rows(self, wanted: Filter = EVERYTHING) -> Iterator[tuple[str, str | None]]:
        """(digest, tag or None) of each row."""
        for image in self.images:
            for tag in wanted.rows(image.tags, image.status):
                yield image.digest, tag

    def total(self, wanted: Filter) -> int:
        """How many rows."""
        return sum(1 for _ in self.rows(wanted))

    def page(self, wanted: Filter, start: int, size: int) -> bytes:
        """Elements of `imageIds` from row `start` on, at most `size`, as JSON without the brackets."""
        rows = list(self.rows(wanted))[start : start + size]
        elements = [{"imageDigest": d} if t is None else {"imageDigest": d, "imageTag": t} for d, t in rows]
        return encode(elements)[1:-1]

    def number(self, wanted: Filter) -> int:
        """How many images."""
        return sum(wanted.takes(image.tags, image.status) for image in self.images)

    def described(self, wanted: Filter, start: int, size: int) -> list[Image]:
        """Images from number `start` of those that are wanted, at most `size`."""
        return [image for image in self.images if wanted.takes(image.tags, image.status)][start : start + size]


class Mix(NamedTuple):
    """What every n-th image of a series is; 0 for none. One image may be several of them; untagged wins over two tags.

    The first that is such is number n - 1, so that short series have no oddities.
    """

    untagged_every: int = 0
    two_tags_every: int = 0
    archived_every: int = 0

    def tags(self, block: int | str, slot: int) -> tuple[str, ...]:
        """Tags of the image in that place."""
        if _strikes(self.untagged_every, slot):
            return ()
        tag = f"v1.{block}.{slot}"
        return (tag, f"build-{block}-{slot}") if _strikes(self.two_tags_every, slot) else (tag,)

    def status(self, slot: int) -> str:
        """Status of the image in that place."""
        return ARCHIVED if _strikes(self.archived_every, slot) else ACTIVE


#: One tag each, all active.
PLAIN = Mix()
#: Untagged, twice tagged and archived ones among them.
MIXED = Mix(untagged_every=4, two_tags_every=3, archived_every=7)


@dataclass(frozen=True)
class Series:
    """`count` images numbered from 0, each digest, tag and status following from `key` and the number.

    The digest of image n is 32 hex digits of its block (n // 1000 of this key) and 32 of its slot (n % 1000).
    """

    key: str
    count: int
    mix: Mix = PLAIN

    def __len__(self) -> int:
        return self.count

    def rows(self, wanted: Filter = EVERYTHING) -> Iterator[tuple[str, str | None]]:
        """(digest, tag or None) of each row."""
        for number in range(self.count):
            block, slot = divmod(number, BLOCK)
            for tag in wanted.rows(self.mix.tags(block, slot), self.mix.status(slot)):
                yield f"sha256:{self._block_digits(block)}{_slot_digits(slot)}", tag

    def total(self, wanted: Filter) -> int:
        """How many rows, without counting them one by one."""
        template = _template(self.mix, wanted)
        blocks, rest = divmod(self.count, BLOCK)
        return blocks * len(template.rows) + template.before[rest]

    def page(self, wanted: Filter, start: int, size: int) -> bytes:
        """Elements of `imageIds` from row `start` on, at most `size`, as JSON without the brackets."""
        template = _template(self.mix, wanted)
        stop = min(start + size, self.total(wanted))
        parts: list[bytes] = []
        while start < stop:
            block, first = divmod(start, len(template.rows))
            last = min(len(template.rows), first + stop - start)
            parts.append(template.cut(first, last, self._block_digits(block), block))
            start += last - first
        return parts[0] if len(parts) == 1 else b",".join(parts)

    def number(self, wanted: Filter) -> int:
        """How many images, without counting them one by one."""
        slots = _slots(self.mix, wanted)
        blocks, rest = divmod(self.count, BLOCK)
        return blocks * len(slots) + sum(slot < rest for slot in slots)

    def described(self, wanted: Filter, start: int, size: int) -> list[Image]:
        """Images from number `start` of those that are wanted, at most `size`."""
        slots = _slots(self.mix, wanted)
        numbers = range(start, min(start + size, self.number(wanted)))
        return [self._image(place // len(slots), slots[place % len(slots)]) for place in numbers]

    def _image(self, block: int, slot: int) -> Image:
        digest = f"sha256:{self._block_digits(block)}{_slot_digits(slot)}"
        return Image(digest, self.mix.tags(block, slot), self.mix.status(slot))

    def _block_digits(self, block: int) -> str:
        return sha256(f"{self.key}/{block}".encode()).hexdigest()[:32]


@lru_cache(maxsize=256)
def _slots(mix: Mix, wanted: Filter) -> tuple[int, ...]:
    """The places within a block whose images are wanted."""
    return tuple(slot for slot in range(BLOCK) if wanted.takes(mix.tags(0, slot), mix.status(slot)))


def _strikes(every: int, slot: int) -> bool:
    return every > 0 and slot % every == every - 1


@lru_cache(maxsize=BLOCK)
def _slot_digits(slot: int) -> str:
    return sha256(f"slot {slot}".encode()).hexdigest()[:32]


class _Template:
    """The rows of one block, with holes for the digits and the number of the block."""

    # Neither can occur in a row otherwise: rows are made of hex digits, digits and fixed words.
    DIGITS, NUMBER = b"@d", b"@n"
    #: Rows kept ready for the next repository, about 100 bytes each.
    MOST_ROWS = 250_000

    def __init__(self, mix: Mix, wanted: Filter) -> None:
        self.rows: list[bytes] = []
        self.before: list[int] = [0]
        self._pieces: dict[tuple[int, int, int], list[bytes]] = {}
        self._held = 0
        for slot in range(BLOCK):
            for tag in wanted.rows(mix.tags("@n", slot), mix.status(slot)):
                label = "" if tag is None else f',"imageTag":"{tag}"'
                self.rows.append(f'{{"imageDigest":"sha256:@d{_slot_digits(slot)}"{label}}}'.encode())
            self.before.append(len(self.rows))

    def cut(self, first: int, last: int, digits: str, number: int) -> bytes:
        """Rows `first` to `last` of a block. Joining pieces by the digits is six times faster than to replace both."""
        pieces = self._pieces.get((first, last, number))
        if pieces is None:
            if self._held > self.MOST_ROWS:
                self._pieces.clear()
                self._held = 0
            joined = b",".join(self.rows[first:last]).replace(self.NUMBER, b"%d" % number)
            pieces = self._pieces[first, last, number] = joined.split(self.DIGITS)
            self._held += last - first
        return digits.encode().join(pieces)


@lru_cache(maxsize=256)
def _template(mix: Mix, wanted: Filter) -> _Template:
    return _Template(mix, wanted)
