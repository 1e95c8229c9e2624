"""Names of files in an output store."""

from __future__ import annotations

import re
import secrets
from datetime import datetime

from crawler.errors import UsageError
from crawler.model import RowKind

#: Of the documents in a store: claims, records, manifests. A newer one than this is refused.
VERSION = 1

#: All runs, one folder each.
RUNS = "runs/"

#: All that is ours in an output, which may hold what is not.
FOLDERS = (RUNS, "data/", "hive/")

# What older buckets and other servers have; S3 takes less of new ones.
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")

_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def make_run_id(now: datetime) -> str:
    """A new id; later ones sort behind earlier ones."""
    return f"{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"


def check_run_id(run_id: str, what: str = "--run-id") -> None:
    """Raise `UsageError` if it cannot be a folder's name everywhere. `what` it was given as is for the message."""
    if not _RUN_ID.fullmatch(run_id):
        raise UsageError(
            f"{what} {run_id}: cannot be the id of a run, which has letters, digits, dots, dashes and underscores, a "
            "letter or digit first, 100 at most"
        )


def place_in_bucket(output: str) -> tuple[str, str]:
    """Bucket and prefix of an `s3://bucket/prefix/`; the latter ends with a slash, or is empty. Raises `UsageError`."""
    name, _, rest = output.removeprefix("s3://").partition("/")
    prefix = rest.strip("/")
    if not _BUCKET.fullmatch(name):
        raise UsageError(f"{output}: names no bucket: write s3://bucket/prefix/")
    if prefix and not {"", ".", ".."}.isdisjoint(prefix.split("/")):
        raise UsageError(f"{output}: a prefix has no empty names, no . and no .. between its slashes")
    return name, f"{prefix}/" if prefix else ""


def run_folder(run_id: str) -> str:
    """All that is about a run, but its rows."""
    return f"{RUNS}{run_id}/"


def attempts(run_id: str) -> str:
    """Folder of the attempts."""
    return f"{run_folder(run_id)}attempts/"


def claim(run_id: str, attempt: int) -> str:
    """That an attempt began."""
    return f"{attempts(run_id)}{attempt:05}.json"


def alive(run_id: str, attempt: int) -> str:
    """That an attempt lives."""
    return f"{attempts(run_id)}{attempt:05}.alive"


def records(run_id: str) -> str:
    """Folder of the records."""
    return f"{run_folder(run_id)}records/"


def record(run_id: str, attempt: int, number: int) -> str:
    """One record; those of one process sort in the order in which they were written, those of shards by shard."""
    return f"{records(run_id)}{attempt:05}-{number:06}.ndjson"


def ledger(run_id: str, attempt: int) -> str:
    """The ledger, if this attempt publishes the run."""
    return f"{run_folder(run_id)}ledger-{attempt:05}.ndjson.gz"


def timeline(run_id: str, attempt: int) -> str:
    """What the attempt did when, if it publishes the run."""
    return f"{run_folder(run_id)}timeline-{attempt:05}.json"


def manifest(run_id: str) -> str:
    """That the run is published."""
    return f"{run_folder(run_id)}manifest.json"


def data(run_id: str, date: str) -> str:
    """Folder of the parts."""
    return f"data/date={date}/run={run_id}/"


def parts_of(run_id: str, date: str, attempt: int) -> str:
    """What the paths of all parts of an attempt begin with."""
    return f"{data(run_id, date)}part-{attempt:05}-"


def part(run_id: str, date: str, attempt: int, number: int, suffix: str) -> str:
    """One part; no two attempts use the same name."""
    return f"{parts_of(run_id, date, attempt)}{number:06}{suffix}"


def part_of_shard(run_id: str, date: str, attempt: int, piece: tuple[int, str, int], suffix: str) -> str:
    """One part of a shard. `piece`: the shard, a nonce of whoever crawls it, and how many parts it has by then.

    No two that crawl a shard use the same name.
    """
    shard, nonce, number = piece
    return f"{parts_of(run_id, date, attempt)}{shard:06}-{nonce}-{number:06}{suffix}"


def success(run_id: str, date: str) -> str:
    """That the run is published and nothing is missing, for readers that look for such a file."""
    return f"{data(run_id, date)}_SUCCESS"


def symlink(run_id: str, date: str, format: str, rows: RowKind) -> str:  # noqa: A002  the field's own word
    """The parts of a published run, one URI a line, as SymlinkTextInputFormat has it.

    A folder for each format and kind of rows, since a table has one of each.
    """
    table = format if rows is RowKind.IDS else f"{rows}-{format}"
    return f"hive/{table}/date={date}/run={run_id}/symlink.txt"
