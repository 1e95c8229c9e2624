"""The nouns of a crawl. Values only: no I/O, no clock."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Generic, TypeVar, overload


class Outcome(StrEnum):
    """How a unit (a target or a repository) ended. Exactly one for each."""

    OK = "OK"
    EMPTY = "EMPTY"
    DENIED = "DENIED"
    GONE = "GONE"
    REGION_DISABLED = "REGION_DISABLED"
    THROTTLED = "THROTTLED"
    FAILED = "FAILED"


#: Codes of units that a stop left behind: begun and not ended, and known but not begun.
INTERRUPTED, NOT_REACHED = "Interrupted", "NotReached"

#: Outcomes that leave nothing out. All others make the run incomplete, unless tolerated.
#: A region that is not enabled holds nothing, and a repository that is gone has nothing left to list.
COMPLETE = frozenset({Outcome.OK, Outcome.EMPTY, Outcome.GONE, Outcome.REGION_DISABLED})


#: What the id of a public registry begins with; the id of its account follows. A private one in the same region may
#: have repositories of the same names, so rows, ledger and resume tell the two apart by this. Its API is in one region.
PUBLIC, PUBLIC_REGION = "public.ecr.aws/", "us-east-1"


class RowKind(StrEnum):
    """What a row is: an image ID as ListImages tells it, or an image with its details as DescribeImages does."""

    IDS = "ids"
    DETAILS = "details"

    @property
    def operation(self) -> str:
        """The operation that lists them."""
        return "ListImages" if self is RowKind.IDS else "DescribeImages"

    @property
    def operations(self) -> tuple[str, str]:
        """Those of a registry: which repositories there are, and which images are in one. Each has its own rate."""
        return "DescribeRepositories", self.operation


class TagStatus(StrEnum):
    """`filter.tagStatus` of what lists images; ANY is sent as no filter, which servers of every age understand."""

    ANY = "ANY"
    TAGGED = "TAGGED"
    UNTAGGED = "UNTAGGED"


class ImageStatus(StrEnum):
    """`filter.imageStatus` of what lists images. Without it AWS lists ACTIVE images only.

    https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_ListImagesFilter.html
    """

    ANY = "ANY"
    ACTIVE = "ACTIVE"
    ARCHIVED = "ARCHIVED"
    ACTIVATING = "ACTIVATING"


#: In the filters of a run, which go by registry: all registries that are not named there.
OTHERS = "*"


@dataclass(frozen=True, slots=True)
class Part:
    """What of a repository one chain lists. Chains of different parts are independent, and may be listed at once."""

    tag_status: TagStatus
    image_status: ImageStatus


class Split(StrEnum):
    """Into which parts a long repository is split: none, by tag status, or by tag status and image status."""

    NO = "no"
    TAGS = "tags"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose keys sign a request: a starting point (profile or ambient) and a chain of roles assumed from it.

    `roles` are ARNs, in the order in which they are assumed, each with its own of `external_ids` (which may be empty:
    then all without); `duration` is in seconds, None for AWS's default (1 h). Equal identities share their keys, so
    this is a dictionary key.
    """

    profile: str | None = None
    roles: tuple[str, ...] = ()
    external_ids: tuple[str | None, ...] = ()
    session_name: str = "ecr-inventory-crawler"
    session_tags: tuple[tuple[str, str], ...] = ()
    duration: int | None = None


@dataclass(frozen=True, slots=True)
class Account:
    """One AWS account to crawl, with the settings that hold in it.

    `regions` are names or globs, `("all",)` for every enabled region. `role` holds ARNs or bare role names as written
    in the file: a bare name becomes an ARN where the partition is known; `external_ids` as in `Identity`. `registries`
    are registry IDs (account IDs) read with this account's keys beside its own, `public` tells whether its own registry
    in ECR Public is, too. `max_rps` is a ceiling in requests a second for each registry and region, None for none.
    """

    account_id: str
    name: str = ""
    profile: str | None = None
    role: tuple[str, ...] = ()
    external_ids: tuple[str | None, ...] = ()
    session_name: str = "ecr-inventory-crawler"
    session_tags: tuple[tuple[str, str], ...] = ()
    duration: int | None = None
    regions: tuple[str, ...] = ("all",)
    tags: tuple[str, ...] = ()
    registries: tuple[str, ...] = ()
    public: bool = False
    repositories: tuple[str, ...] = ()
    exclude_repositories: tuple[str, ...] = ()
    tag_status: TagStatus | None = None
    image_status: ImageStatus | None = None
    max_rps: float | None = None


@dataclass(frozen=True, slots=True)
class Organization:
    """A whole organization: the accounts are asked of AWS Organizations (ListAccounts) when the crawl starts.

    `hub` is who asks; `member` is the pattern of every account found, its role still to be completed with the id.
    `include_ous` are OU ids (`ou-…`) or the root's (`r-…`), empty for all; `exclude` are account IDs or name globs.
    """

    hub: Identity
    member: Account
    include_ous: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Target:
    """One registry in one region, read with the keys of one account (not always the registry's own)."""

    account: Account
    region: str
    registry_id: str

    @classmethod
    def of_public(cls, account: Account) -> Target:
        """The account's registry in ECR Public."""
        return cls(account, PUBLIC_REGION, PUBLIC + account.account_id)

    @property
    def public(self) -> bool:
        """Whether it is a registry of ECR Public."""
        return self.registry_id.startswith(PUBLIC)

    def asked(self, rows: RowKind) -> RowKind:
        """What is asked of it for these rows: ECR Public has no ListImages, so image IDs are made of details there."""
        return RowKind.DETAILS if self.public else rows


ItemT = TypeVar("ItemT")
ItemT_co = TypeVar("ItemT_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Page(Generic[ItemT_co]):
    """One answer of a paged operation. `next_token` is None on the last page; it is opaque, and its chain's own.

    Pages of equal `fingerprint` hold equal items in the same order, as far as this process can tell; the other way
    round is likely and no more. None equals none.
    """

    items: Sequence[ItemT_co]
    next_token: str | None
    fingerprint: int | None = None


#: One row as the API gives it: imageDigest, and imageTag, absent or None for an untagged image.
ImageId = Mapping[str, str | None]

#: What one row is made of: an `ImageId`, or the details of an image with the keys and values of the row.
Image = Mapping[str, object]


class Verbatim(list[ImageId]):
    """Image IDs that all have both keys, and whose values JSON writes as they are: ASCII, and nothing to escape."""


class Columnar(Sequence[ImageId]):
    """Image IDs by column: `digests`, and `tags` of the same length, None where there is none."""

    __slots__ = ("digests", "tags")

    def __init__(self, digests: list[str], tags: list[str | None]) -> None:
        self.digests = digests
        self.tags = tags

    def __len__(self) -> int:
        return len(self.digests)

    @overload
    def __getitem__(self, index: int) -> ImageId: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[ImageId]: ...

    def __getitem__(self, index: int | slice) -> ImageId | Sequence[ImageId]:
        if isinstance(index, slice):
            return Columnar(self.digests[index], self.tags[index])
        return {"imageDigest": self.digests[index], "imageTag": self.tags[index]}


#: Token in (None for the first page), page out. What pacing and retrying wrap.
Fetch = Callable[[str | None], Awaitable[Page[ItemT]]]


#: What no unit failed at and a reader must know all the same, and where it holds: an endpoint, an item that was given.
Warn = Callable[[str, str], None]


@dataclass(slots=True)
class Chain:
    """How far one chain of pages has come: what its line in the ledger will say. Updated in place by who pages it.

    `pages` are answers received, `items` what they held, `attempts` requests sent (so `attempts - pages` failed),
    `last_token_hash` names the token of the newest page asked for, None while that is the first. `restarts` counts new
    beginnings after a refused token; `pages` that came again count again, their items do not. `trouble` is what the
    newest request failed with, None where it did not. `parts` are chains of its own that it will be the sum of.
    """

    pages: int = 0
    items: int = 0
    attempts: int = 0
    throttled: int = 0
    last_token_hash: str | None = None
    restarts: int = 0
    trouble: str | None = None
    parts: Sequence[Chain] = ()

    def add(self, part: Chain) -> None:
        """Count in another chain of the same unit."""
        self.pages += part.pages
        self.items += part.items
        self.attempts += part.attempts
        self.throttled += part.throttled
        self.restarts += part.restarts
        self.trouble = self.trouble or part.trouble


@dataclass(frozen=True, slots=True)
class Unit:
    """What gets an outcome.

    A repository; or a target as a whole (`repository` None); or, where not even its regions are known, an account
    (`region` None too). `registry_id` is None only for an organization that could not be listed.
    """

    account: Account | None = None
    registry_id: str | None = None
    region: str | None = None
    repository: str | None = None

    @classmethod
    def of(cls, target: Target, repository: str | None = None) -> Unit:
        """The unit of a target, or of one repository in it."""
        return cls(target.account, target.registry_id, target.region, repository)


@dataclass(frozen=True, slots=True)
class Result:
    """How one unit ended: a line of the ledger.

    `code` and `message` say why it did not go well, or what a reader should know. `chain` is the chain of images
    for a repository, of DescribeRepositories for a target. `seconds` include waiting.
    """

    unit: Unit
    outcome: Outcome
    code: str | None = None
    message: str | None = None
    chain: Chain = field(default_factory=Chain)
    seconds: float = 0.0

    @classmethod
    def missed(cls, unit: Unit) -> Result:
        """The result of a unit that was known when the run or its target stopped, and not begun."""
        return cls(unit, Outcome.FAILED, NOT_REACHED, "the run, or its target, stopped before its turn")
