"""What turns pages into the bytes of parts: one protocol, a file for each family of formats."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import IO, Protocol, TypeVar

from crawler.model import Image, RowKind

#: Of the columns in `FIELDS`. A reader may rely on it: columns are only ever added, with a higher version.
SCHEMA_VERSIONS: Mapping[RowKind, int] = MappingProxyType({RowKind.IDS: 1, RowKind.DETAILS: 1})

Field = tuple[str, str, str]

_OF_THE_REPOSITORY: tuple[Field, ...] = (
    ("schema_version", "int", "of these columns"),
    ("run_id", "string", "the run that published the row"),
    ("fetched_at", "timestamp", "UTC, when the listing of the row's repository began"),
    ("account_name", "string", "name of the account whose credentials were used; null where it has none"),
    ("registryId", "string", "account id of the registry, 12 digits; of a public one, behind public.ecr.aws/"),
    ("region", "string", "AWS region"),
    ("repositoryName", "string", "name of the repository"),
)
_DIGEST: Field = ("imageDigest", "string", "digest of the manifest, as sha256:…")
_DETAILS: tuple[Field, ...] = (
    _DIGEST,
    ("imageTags", "array<string>", "all tags of the image, sorted; empty for an untagged one"),
    ("imageSizeInBytes", "bigint", "compressed, as pushed; of an index, that of its largest image"),
    ("imagePushedAt", "timestamp", "UTC"),
    ("lastRecordedPullTime", "timestamp", "UTC; recorded once in 24 hours at least; null if never pulled"),
    ("imageManifestMediaType", "string", "media type of the manifest"),
    ("artifactMediaType", "string", "what it is, of an OCI artifact"),
    ("subjectManifestDigest", "string", "of a referrer (signature, attestation): the digest that it is about"),
    ("imageStatus", "string", "ACTIVE, ARCHIVED or ACTIVATING"),
    ("lastArchivedAt", "timestamp", "UTC"),
    ("lastActivatedAt", "timestamp", "UTC"),
)

#: The columns of a published run, by the kind of its rows: name, type in SQL, meaning.
FIELDS: Mapping[RowKind, Sequence[Field]] = MappingProxyType(
    {
        RowKind.IDS: (*_OF_THE_REPOSITORY, _DIGEST, ("imageTag", "string", "one tag; null for an untagged image")),
        RowKind.DETAILS: (*_OF_THE_REPOSITORY, *_DETAILS),
    }
)

ChunkT = TypeVar("ChunkT")
ChunkT_contra = TypeVar("ChunkT_contra", contravariant=True)


@dataclass(frozen=True, slots=True)
class Origin:
    """What all rows of one repository have in common."""

    account_name: str | None
    registry_id: str
    region: str
    repository: str
    fetched_at: datetime


class PartWriter(Protocol[ChunkT_contra]):
    """One part being written. Blocks; belongs to one thread at a time."""

    def append(self, origin: Origin, chunks: Iterable[ChunkT_contra]) -> None:
        """Write the rows of a repository, or some of them."""
        ...

    def close(self) -> None:
        """Write what is left. The file stays open."""
        ...


class Encoding(Protocol[ChunkT]):
    """A format of parts. A chunk is one page in a form that is cheap to keep, and to lay aside in a local file.

    `suffix` ends the names of parts; `ratio` is how many bytes of chunks make one byte of a part, roughly.
    """

    suffix: str
    ratio: float

    def encode(self, origin: Origin, images: Sequence[Image]) -> ChunkT:
        """One page, not empty, as a chunk."""
        ...

    def size(self, chunk: ChunkT) -> int:
        """Bytes of a chunk in memory."""
        ...

    def spill(self, chunks: Sequence[ChunkT], file: IO[bytes]) -> None:
        """Append chunks to a local file, where `spilled` finds them."""
        ...

    def spilled(self, file: IO[bytes]) -> Iterator[ChunkT]:
        """Read back the chunks from the file's position on, larger or smaller than they were."""
        ...

    def writer(self, file: IO[bytes]) -> PartWriter[ChunkT]:
        """Begin a part in a local file."""
        ...

    def merge(self, parts: Iterable[IO[bytes]], file: IO[bytes]) -> None:
        """Write one part that holds the rows of several."""
        ...
