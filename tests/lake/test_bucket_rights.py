"""Least privilege in a bucket: what is asked of S3 is what the README names, on the bucket and below the prefix."""

from __future__ import annotations

import re
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

import httptools

from tests.lake.conftest import Zygote
from tests.lake.servers import BUCKET, S3

README = Path(__file__).parents[2] / "README.md"
PREFIX = "rights/"
OUTPUT = ("--output", f"s3://{BUCKET}/{PREFIX}")
CRAWL = ("--accounts", "accounts.yaml", *OUTPUT, "--hints", f"s3://{BUCKET}/{PREFIX}hints.json")
CLEAN_ALONE = "s3:ListBucketMultipartUploads"


class Asked(NamedTuple):
    """An action as policies name it, and the key or prefix that it is about."""

    action: str
    name: str


#: Of an object, by method.
OF_OBJECTS = {
    "GET": "s3:GetObject",
    "HEAD": "s3:GetObject",
    "PUT": "s3:PutObject",
    "POST": "s3:PutObject",
    "DELETE": "s3:DeleteObject",
}


def asked(method: str, url: str, body: str) -> list[Asked]:
    """https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-with-s3-policy-actions.html."""
    bucket, _, key = unquote(urlsplit(url).path).removeprefix("/").partition("/")
    query = dict(parse_qsl(urlsplit(url).query, keep_blank_values=True))
    assert bucket == BUCKET
    # What says on its own which action it is: none is looked at without a thought.
    (chosen,) = set(query) & {"acl", "delete", "location", "tagging", "uploadId", "uploads", "versions"} or {""}
    match method, key, chosen:
        case "DELETE", _, "uploadId":
            return [Asked("s3:AbortMultipartUpload", key)]
        case "PUT" | "POST", str(key), "uploadId" | "uploads" if key:
            return [Asked("s3:PutObject", key)]
        case "GET", "", "uploads":
            return [Asked("s3:ListBucketMultipartUploads", query.get("prefix", PREFIX))]
        case "POST", "", "delete":
            return [Asked("s3:DeleteObject", name) for name in re.findall(r"<Key>(.*?)</Key>", body)]
        case "GET" | "HEAD", "", "":
            return [Asked("s3:ListBucket", query.get("prefix", PREFIX))]
        case _, str(key), "" if key:
            return [Asked(OF_OBJECTS[method], key)]
        case _:
            raise AssertionError(f"{method} {url}: which action is this?")


class _Requests:
    """Reads what a client sends on one connection."""

    def __init__(self, heard: list[Asked]) -> None:
        self._heard = heard
        self._url = self._body = b""
        self.parser = httptools.HttpRequestParser(self)

    def on_url(self, part: bytes) -> None:
        self._url += part

    def on_body(self, part: bytes) -> None:
        self._body += part

    def on_message_complete(self) -> None:
        method, url = self.parser.get_method().decode(), self._url.decode()
        self._heard += asked(method, url, self._body.decode("latin-1") if method == "POST" else "")
        self._url = self._body = b""


class _Listener(socketserver.ThreadingTCPServer):
    daemon_threads = True

    def __init__(self, server: S3) -> None:
        super().__init__(("127.0.0.1", 0), _Relay)
        self.beyond = (urlsplit(server.url).hostname, urlsplit(server.url).port)
        self.heard: list[Asked] = []
        self.failures: list[Exception] = []


class _Relay(socketserver.BaseRequestHandler):
    server: _Listener

    def handle(self) -> None:
        requests = _Requests(self.server.heard)
        with socket.create_connection(self.server.beyond) as beyond:
            threading.Thread(target=_pour, args=(beyond, self.request), daemon=True).start()
            while data := self.request.recv(1 << 16):
                try:
                    requests.parser.feed_data(data)
                except httptools.HttpParserError as error:
                    self.server.failures.append(error)
                    return
                beyond.sendall(data)


def _pour(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


@contextmanager
def overheard(server: S3) -> Iterator[_Listener]:
    """Stand before the server. Bytes pass as they are, and with them the host that clients have signed for."""
    with _Listener(server) as listener:
        thread = threading.Thread(target=listener.serve_forever, daemon=True)
        thread.start()
        try:
            yield listener
        finally:
            listener.shutdown()
            thread.join()
    assert listener.failures == []


def named() -> set[str]:
    """The actions of the README's words about published runs."""
    section = README.read_text().split("\n## Published runs", 1)[1].split("\n## ", 1)[0]
    return set(re.findall(r"`(s3:\w+)`", section))


def test_a_bucket_is_asked_for_what_the_readme_names(program: Zygote, weed: S3) -> None:
    commands = [
        ("doctor", "--accounts", "accounts.yaml", *OUTPUT),
        (*CRAWL, "--run-id", "one"),
        (*CRAWL, "--run-id", "one"),
        (*CRAWL, "--run-id", "two", "--workers", "2"),
        ("runs", *OUTPUT),
        ("show", "two", *OUTPUT),
        ("diff", "one", "two", *OUTPUT),
    ]
    with overheard(weed) as listener:
        host, port = listener.server_address[:2]
        program.environment |= weed.environment() | {"AWS_ENDPOINT_URL_S3": f"http://{host!s}:{port}"}
        for command in commands:
            assert program.run(*command) == 0, program.said()
        heard = set(listener.heard)
        assert program.run("clean", *OUTPUT) == 0, program.said()
        cleaned = set(listener.heard)
    assert {action for action, _ in heard} == {f"s3:{name}Object" for name in ("Get", "Put", "Delete")} | {
        "s3:ListBucket"
    }
    assert {action for action, _ in cleaned - heard} == {CLEAN_ALONE}
    assert {action for action, _ in cleaned} <= named()
    assert [name for _, name in cleaned if not name.startswith(PREFIX)] == []
