"""Two published runs fetched, compared, and what changed written where it was wanted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, Literal, TypeVar, cast

import pyarrow as pa
from anyio import to_thread

from crawler.diff import Compared, Side, Unreadable, compare
from crawler.errors import UsageError
from crawler.local_files import local_folder, told
from crawler.publication import opened
from crawler.rows import in_utf8
from crawler.runs.documents import Manifest
from crawler.runs.publish import published
from crawler.sinks.output import Output
from crawler.store import Store

_BLOCK = 1 << 20

T = TypeVar("T")


async def write_changes(
    output: str, earlier: str, later: str, to: str, output_format: Literal["ndjson", "parquet"]
) -> Compared:
    """Compare two runs of an output and write the changes to the file `to` (`-`: standard output), which appears whole.

    Parts in a bucket are copied to local files first, both runs' at a time. Raises `UsageError` or `Fatal`.
    """
    with Output(to) as file, local_folder() as folder:
        changes = folder / "changes"
        async with opened(output, writes=False) as store:
            manifests = [await published(store, run_id) for run_id in (earlier, later)]
            _require_same_filters(*manifests)
            before = await side(store, manifests[0], folder / "earlier")
            after = await side(store, manifests[1], folder / "later")

            def read(earlier: Side, later: Side) -> Compared:
                return compare(earlier, later, changes, output_format)

            compared = await to_thread.run_sync(readable, read, [before, after], folder)
        await to_thread.run_sync(_copy, changes, file)
    return compared


def _require_same_filters(earlier: Manifest, later: Manifest) -> None:
    """Raise `UsageError` for runs of which one left out images that the other has: those would read as changes."""
    for setting in ("tag_status", "image_status"):
        one, other = earlier.settings.get(setting), later.settings.get(setting)
        if one != other:
            option = f"--{setting.replace('_', '-')}"
            raise UsageError(
                f"diff: {earlier.run} was crawled with {option} {one}, {later.run} with {other}: what one of them left "
                "out would read as added or removed"
            )


async def side(store: Store, manifest: Manifest, folder: Path) -> Side:
    """A run as local files; those of a bucket are copied into `folder`, which is made."""
    folder.mkdir()  # noqa: ASYNC240  (of a temporary folder)
    names = [manifest.ledger, *(part.path for part in manifest.parts)]
    ledger, *parts = [await _local(store, name, folder) for name in names]
    return Side(
        parts,
        ledger,
        parquet=manifest.format == "parquet",
        kind=manifest.kind,
        run=manifest.run,
        filters=manifest.filters,
    )


def readable(read: Callable[..., T], sides: Sequence[Side], folder: Path) -> T:
    """`read(*sides)`; where they name what UTF-8 cannot hold, of copies in `folder` that do not.

    JSON can say half a surrogate pair, and duckdb reads no such line. It is rare enough not to look for it beforehand.
    Blocks.
    """
    try:
        return read(*sides)
    except Unreadable:
        return read(*[_in_utf8(one, folder / f"in-utf8-{number}") for number, one in enumerate(sides)])


def _in_utf8(side: Side, folder: Path) -> Side:
    """The same run with question marks in those places, as Parquet has them from the start."""
    with told():
        folder.mkdir()
    parts = side.parts if side.parquet else [_copy_in_utf8(part, folder) for part in side.parts]
    return replace(side, parts=parts, ledger=_copy_in_utf8(side.ledger, folder))


def _copy_in_utf8(path: Path, folder: Path) -> Path:
    copy = folder / path.with_suffix("").name if path.suffix in (".gz", ".zst") else folder / path.name
    with told(), copy.open("wb") as file:
        for lines in _whole_lines(path):
            file.write(in_utf8(lines))
    return copy


def _whole_lines(path: Path) -> Iterator[bytes]:
    rest = b""
    try:
        # Which its type stubs do not know.
        with cast("IO[bytes]", cast("Any", pa).input_stream(str(path), compression="detect")) as source:
            while block := source.read(_BLOCK):
                lines, newline, rest = (rest + block).rpartition(b"\n")
                yield lines + newline
    except OSError as error:  # what is compressed may be damaged as well
        raise Unreadable("DiffFailed", f"{path}: {error}") from error
    yield rest


async def _local(store: Store, name: str, folder: Path) -> Path:
    if store.folder:
        return store.folder / name
    path = folder / name.rpartition("/")[2]
    with told(), path.open("wb") as file:
        await store.fetch(name, file)
    return path


def _copy(changes: Path, file: Output) -> None:
    with changes.open("rb") as source:
        while block := source.read(_BLOCK):
            file.write(block)
    file.publish()
