"""What reads bytes that others wrote, each as a function of bytes which may raise nothing.

Only what the reader's contract calls an answer or an error of ours may come out; anything else is found by an assertion
or an exception that nobody catches.
"""

from __future__ import annotations

import json
from collections.abc import Callable

import orjson
from botocore.session import Session

from crawler.accounts import AccountsFile, load
from crawler.aws import answers, columns
from crawler.aws.api import read
from crawler.aws.errors import translate
from crawler.aws.exchange import Response
from crawler.aws.organization import is_account
from crawler.aws.regions import is_described, is_listed
from crawler.errors import CrawlError, Transient, UsageError
from crawler.hints import Hints, Unfit
from crawler.model import ImageId, Page, RowKind
from crawler.rows import encode, encode_details, in_utf8
from crawler.runs.documents import Claim, Manifest, Record
from crawler.sinks.columns import COLUMNS

_SESSION = Session()
_RESULTS = [
    (_SESSION.get_service_model(service).operation_model(operation), wanted, entries)
    for service, operation, wanted, entries in [
        ("sts", "AssumeRole", "Credentials", None),
        ("organizations", "ListAccounts", "Accounts", is_account),
        ("account", "ListRegions", "Regions", is_listed),
        ("ec2", "DescribeRegions", "Regions", is_described),
    ]
]


def accounts(data: bytes) -> None:
    try:
        assert isinstance(load("f", data), AccountsFile)
    except UsageError as refusal:
        lines = str(refusal).split("\n")
        assert 1 <= len(lines) <= 21
        assert all(line.isprintable() for line in lines)


def told(error: CrawlError) -> None:
    """Assert that a person can read it."""
    assert str(error).isprintable()
    assert len(str(error)) <= 700


def images(data: bytes) -> None:
    """Read as a page of image IDs, and written as rows: one line for each, which say the same."""
    try:
        page = answers.image_ids(data)
    except Transient as error:
        told(error)
        page = None
    try:
        by_column = named(columns.image_ids(data))
    except Transient:
        assert page is None
    else:
        assert page is not None
        assert by_column == named(page)
    if page is None:
        return
    assert page.next_token is None or page.next_token
    rows = encode("1" * 12, "eu-west-1", "team/app", page.items)
    assert rows.isascii()
    written = [json.loads(row) for row in rows.split(b"\n")[:-1]]
    assert [orjson.loads(row).keys() for row in in_utf8(rows).split(b"\n")[:-1]] == [row.keys() for row in written]
    assert [(row["imageDigest"], row["imageTag"]) for row in written] == named(page)


def named(page: Page[ImageId]) -> list[tuple[str | None, str | None]]:
    """Digest and tag of each row."""
    return [(row["imageDigest"], row.get("imageTag")) for row in page.items]


def details(data: bytes) -> None:
    """Read as a page of details, and written as rows and as columns: one for each image."""
    try:
        page = answers.image_details(data)
    except Transient as error:
        told(error)
        return
    rows = encode_details("1" * 12, "eu-west-1", "team/app", page.items)
    assert rows.isascii()
    written = [json.loads(row) for row in rows.split(b"\n")[:-1]]
    assert [list(row.items())[3:] for row in written] == [list(image.items()) for image in page.items]
    assert COLUMNS[RowKind.DETAILS].batch(page.items).num_rows == len(page.items)


def repositories(data: bytes) -> None:
    try:
        page = answers.repositories(data)
    except Transient as error:
        told(error)
        return
    assert all(isinstance(name, str) for name in page.items)


def errors(data: bytes) -> None:
    """The first byte is a status, the first line a header or two, the rest a body."""
    status = 300 + data[0] if data else 400
    head, _, body = data[1:].partition(b"\n")
    kind, _, rest = head.decode("latin-1").partition("\t")
    date, _, wish = rest.partition("\t")
    headers = {"x-amzn-errortype": kind, "date": date, "retry-after": wish, "x-amz-retry-after": wish}
    error = translate(status, headers, body, doing="asking", now=1.8e9)
    assert isinstance(error, CrawlError)
    told(error)
    assert getattr(error, "retry_after", None) is None or error.retry_after >= 0  # type: ignore[attr-defined]  # it is there, or the first half holds


def results(data: bytes) -> None:
    """The first byte chooses one of the operations that botocore parses."""
    model, wanted, entries = _RESULTS[data[0] % len(_RESULTS) if data else 0]
    try:
        found = read(model, Response(200, {}, data[1:]), wanted, entries)[wanted]
    except Transient as error:
        told(error)
        return
    assert found is not None
    for entry in found if entries else ():
        assert isinstance(entry.get("Id") or entry["RegionName"], str)


def hints(data: bytes) -> None:
    try:
        again = Hints.read(data, ["111111111111"], "all").written(None)
    except Unfit:
        return
    Hints.read(again, ["111111111111"], "all")


def documents(data: bytes) -> None:
    """A file of a published run: the first byte chooses which."""
    kind = (Claim, Manifest, Record)[data[0] % 3 if data else 0]
    try:
        document = kind.decode("where", data[1:])
    except UsageError:
        return
    assert kind.decode("where", document.encode()).encode() == document.encode()


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target for target in (accounts, images, details, repositories, errors, results, hints, documents)
}
