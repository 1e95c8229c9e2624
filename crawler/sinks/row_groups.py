"""Row groups of several Parquet files in one, their bytes as they are: only the footer is made anew.

A row group knows its place by offsets from the beginning of its file, and they stand in the footer alone
(https://parquet.apache.org/docs/file-format/metadata/). So files of one schema are merged at the speed of a copy, where
to decode the rows and pack them again costs twice what packing them did. pyarrow does not offer it.

The footer is in Thrift's compact protocol, read and written here without its meaning, but for the few fields named
(https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md,
https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import IO, Any, cast

MAGIC = b"PAR1"

#: Bytes copied at a time.
_BLOCK = 1 << 20

# Types of the compact protocol.
_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = range(1, 13)
_INTEGERS = (_I16, _I32, _I64)

# Fields of parquet.thrift by their numbers.
_FILE_ROWS, _FILE_ROW_GROUPS = 3, 4
_GROUP_COLUMNS, _GROUP_ROWS, _GROUP_OFFSET, _GROUP_ORDINAL = 1, 3, 5, 7
_CHUNK_OFFSET, _CHUNK_META = 2, 3
_CHUNK_INDEXES = (4, 5, 6, 7)
_META_BYTES, _META_DATA, _META_INDEX, _META_DICTIONARY = 7, 9, 10, 11
_META_BLOOM = (14, 15)

#: A struct: type and value by number of the field. A list is its elements' type, and they.
Struct = dict[int, tuple[int, Any]]


@dataclass(frozen=True, slots=True)
class RowGroup:
    """Where the bytes of a row group are in its file, how many rows they hold, and what the footer says of them."""

    start: int
    bytes: int
    rows: int
    said: Struct


def footer(file: IO[bytes]) -> Struct:
    """What a Parquet file says of itself. Raises ValueError for a file that is none."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(size - 8, 0))
    length, magic = struct.unpack("<I4s", file.read(8).rjust(8, b"\0"))
    if magic != MAGIC or length > size - 12:
        raise ValueError("not a whole Parquet file")
    file.seek(size - 8 - length)
    return _read_struct(BytesIO(file.read(length)))


def row_groups(said: Struct) -> Iterator[RowGroup]:
    """The row groups that a footer names."""
    for group in cast("list[Struct]", said[_FILE_ROW_GROUPS][1][1]):
        chunks = [chunk[_CHUNK_META][1] for chunk in group[_GROUP_COLUMNS][1][1]]
        start = min(chunk[field][1] for chunk in chunks for field in (_META_DATA, _META_DICTIONARY) if field in chunk)
        # Without gaps, as Arrow writes it: the pages of one column after those of another.
        yield RowGroup(start, sum(chunk[_META_BYTES][1] for chunk in chunks), group[_GROUP_ROWS][1], group)


class Merged:
    """One Parquet file of row groups of others, which all have the same schema."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._said: Struct | None = None
        self._groups: list[Struct] = []
        self._rows = 0
        self._at = file.write(MAGIC)

    def add(self, source: IO[bytes], said: Struct, group: RowGroup) -> None:
        """Copy a row group of a file whose footer is `said`."""
        self._said = self._said or said
        source.seek(group.start)
        left = group.bytes
        while left:
            block = source.read(min(left, _BLOCK))
            if not block:
                raise ValueError("a Parquet file ends within a row group")
            self._file.write(block)
            left -= len(block)
        self._groups.append(_moved(group.said, self._at - group.start, len(self._groups)))
        self._rows += group.rows
        self._at += group.bytes

    def close(self) -> None:
        """Write the footer. The file stays open."""
        if self._said is None:
            raise ValueError("no row group was added, and so no schema is known")
        said = {
            **self._said,
            _FILE_ROWS: (_I64, self._rows),
            _FILE_ROW_GROUPS: (_LIST, (_STRUCT, self._groups)),
        }
        out = bytearray()
        _write_struct(out, said)
        self._file.write(out + struct.pack("<I4s", len(out), MAGIC))


def _moved(group: Struct, by: int, ordinal: int) -> Struct:
    """What the footer says of a row group whose bytes lie `by` further on. Indexes are not copied, so not named."""
    chunks: list[Struct] = []
    for chunk in cast("list[Struct]", group[_GROUP_COLUMNS][1][1]):
        meta: Struct = {field: value for field, value in chunk[_CHUNK_META][1].items() if field not in _META_BLOOM}
        for field in (_META_DATA, _META_INDEX, _META_DICTIONARY):
            if field in meta:
                meta[field] = (_I64, meta[field][1] + by)
        kept = {field: value for field, value in chunk.items() if field not in _CHUNK_INDEXES}
        # Zero in what Arrow writes now; formerly, where this column's metadata stood a second time.
        chunks.append({**kept, _CHUNK_OFFSET: (_I64, 0), _CHUNK_META: (_STRUCT, meta)})
    moved: Struct = {**group, _GROUP_COLUMNS: (_LIST, (_STRUCT, chunks))}
    if _GROUP_OFFSET in moved:
        moved[_GROUP_OFFSET] = (_I64, moved[_GROUP_OFFSET][1] + by)
    if _GROUP_ORDINAL in moved:
        moved[_GROUP_ORDINAL] = (_I16, ordinal)
    return moved


def _read_struct(data: BytesIO) -> Struct:
    found: Struct = {}
    number = 0
    while head := data.read(1)[0]:
        kind, delta = head & 15, head >> 4
        number = number + delta if delta else _unzigzag(_read_varint(data))
        # A field's type is its value, if that is a boolean.
        found[number] = (kind, None if kind in (_TRUE, _FALSE) else _read_value(data, kind))
    return found


def _read_value(data: BytesIO, kind: int) -> Any:  # noqa: ANN401  (of any type)
    if kind in _INTEGERS:
        return _unzigzag(_read_varint(data))
    if kind == _BINARY:
        return data.read(_read_varint(data))
    if kind == _STRUCT:
        return _read_struct(data)
    if kind in (_LIST, _SET):
        head = data.read(1)[0]
        element, count = head & 15, head >> 4
        count = _read_varint(data) if count == 15 else count  # noqa: PLR2004  (more than fits)
        return element, [_read_value(data, element) for _ in range(count)]
    if kind in (_TRUE, _FALSE, _BYTE):
        return data.read(1)
    if kind == _DOUBLE:
        return data.read(8)
    raise ValueError(f"type {kind} of Thrift in a footer of Parquet")


def _write_struct(out: bytearray, fields: Struct) -> None:
    before = 0
    for number, (kind, value) in sorted(fields.items()):
        out.append((number - before) << 4 | kind)  # numbers are near each other in parquet.thrift
        before = number
        if kind not in (_TRUE, _FALSE):
            _write_value(out, kind, value)
    out.append(0)


def _write_value(out: bytearray, kind: int, value: Any) -> None:  # noqa: ANN401  (of any type)
    if kind in _INTEGERS:
        _write_varint(out, value << 1 ^ value >> 63)
    elif kind == _BINARY:
        _write_varint(out, len(value))
        out += value
    elif kind == _STRUCT:
        _write_struct(out, value)
    elif kind in (_LIST, _SET):
        element, values = value
        few = len(values) < 15  # noqa: PLR2004  (what four bits hold, and one value that says otherwise)
        out.append((len(values) if few else 15) << 4 | element)
        if not few:
            _write_varint(out, len(values))
        for each in values:
            _write_value(out, element, each)
    else:
        out += value


def _read_varint(data: BytesIO) -> int:
    value = shift = 0
    while (byte := data.read(1)[0]) & 128:
        value |= (byte & 127) << shift
        shift += 7
    return value | byte << shift


def _write_varint(out: bytearray, value: int) -> None:
    while value > 127:  # noqa: PLR2004  (seven bits a byte)
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)


def _unzigzag(value: int) -> int:
    return value >> 1 ^ -(value & 1)
