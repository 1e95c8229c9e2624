"""Pages as columns: for each kind of rows its schema in Arrow, and what makes a record batch of a page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import pyarrow as pa

from crawler.model import Columnar, Image, RowKind

#: Columns that are the same in all rows of a repository.
ORIGIN = pa.schema(
    [
        pa.field("schema_version", pa.int32(), nullable=False),
        pa.field("run_id", pa.string(), nullable=False),
        pa.field("fetched_at", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("account_name", pa.string()),
        pa.field("registryId", pa.string(), nullable=False),
        pa.field("region", pa.string(), nullable=False),
        pa.field("repositoryName", pa.string(), nullable=False),
    ]
)

_IDS = pa.schema([pa.field("imageDigest", pa.string()), pa.field("imageTag", pa.string())])

# Microseconds, for Iceberg knows no other unit; `element` is what Iceberg and Delta call the field of a list.
_TIME, _TAGS = pa.timestamp("us", tz="UTC"), pa.list_(pa.field("element", pa.string()))

_DETAILS = pa.schema(
    [
        pa.field("imageDigest", pa.string()),
        pa.field("imageTags", _TAGS),
        pa.field("imageSizeInBytes", pa.int64()),
        pa.field("imagePushedAt", _TIME),
        pa.field("lastRecordedPullTime", _TIME),
        pa.field("imageManifestMediaType", pa.string()),
        pa.field("artifactMediaType", pa.string()),
        pa.field("subjectManifestDigest", pa.string()),
        pa.field("imageStatus", pa.string()),
        pa.field("lastArchivedAt", _TIME),
        pa.field("lastActivatedAt", _TIME),
    ]
)


def _ids(image_ids: Sequence[Mapping[str, Any]]) -> pa.RecordBatch:
    if isinstance(image_ids, Columnar):
        digests, tags = image_ids.digests, image_ids.tags
    else:
        digests = [image_id["imageDigest"] for image_id in image_ids]
        tags = [image_id.get("imageTag") for image_id in image_ids]
    return pa.RecordBatch.from_arrays([strings(digests, pa.string()), strings(tags, pa.string())], schema=_IDS)


def _details(images: Sequence[Mapping[str, Any]]) -> pa.RecordBatch:
    columns = [_column(field.type, [image[field.name] for image in images]) for field in _DETAILS]
    return pa.RecordBatch.from_arrays(columns, schema=_DETAILS)


def _column(kind: pa.DataType, values: list[Any]) -> pa.Array:
    if kind == _TIME:  # strings as rows have them: Arrow reads ISO 8601 faster than we make objects
        return pa.array(values, pa.string()).cast(kind)
    return pa.array(values, kind) if kind == pa.int64() else strings(values, kind)


def strings(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """A column of strings, or of lists of them; a question mark stands for what UTF-8 cannot hold."""
    try:
        return pa.array(values, kind)
    except UnicodeEncodeError:  # a lone surrogate, which UTF-8 cannot hold
        return pa.array([_replaced(value) for value in values], kind)


def _replaced(value: Any) -> Any:  # noqa: ANN401  (a string, a list of them, or None)
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    return [_replaced(each) for each in value] if value else value


@dataclass(frozen=True, slots=True)
class Columns:
    """Rows of one kind: the `images` of a page as a batch, and the `schema` of a part, which begins with `ORIGIN`."""

    images: pa.Schema
    batch: Callable[[Sequence[Image]], pa.RecordBatch]

    @property
    def schema(self) -> pa.Schema:
        """As `FIELDS`."""
        return pa.schema([*ORIGIN, *self.images])


COLUMNS: Mapping[RowKind, Columns] = MappingProxyType(
    {RowKind.IDS: Columns(_IDS, _ids), RowKind.DETAILS: Columns(_DETAILS, _details)}
)
