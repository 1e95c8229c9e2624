"""Whether a Ray cluster is at an address: who answers there, and whether it takes us."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module

import pytest

from crawler.errors import UsageError

exceptions = pytest.importorskip("ray.exceptions", reason="Ray is not installed: python -m pip install 'ray>=2.50,<3'")
ray_tasks = import_module("crawler.engines.ray_tasks")


def test_what_answers_and_is_no_ray_is_not_waited_for_without_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    left = threading.Event()
    codes: list[int] = []

    def leave(code: int) -> None:
        codes.append(code)
        left.set()

    monkeypatch.setattr(ray_tasks.os, "_exit", leave)
    monkeypatch.setattr(ray_tasks, "_LONGEST", 0.0)
    with ray_tasks._bounded("host:6379"):
        assert left.wait(20)
    assert codes == [2]
    assert "--address host:6379: what answers there does not answer as Ray does" in capsys.readouterr().err


@contextmanager
def listening(answer: bytes | None) -> Iterator[str]:
    """Who takes connections and gives each this answer; None for who never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    client, _ = server.accept()
                    with client:
                        client.recv(100)
                        client.sendall(answer or b"")

        thread = threading.Thread(target=serve, daemon=True)
        if answer is not None:
            thread.start()
        try:
            yield f"127.0.0.1:{server.getsockname()[1]}"
        finally:
            server.shutdown(socket.SHUT_RDWR)
            if answer is not None:
                thread.join(20)


@pytest.mark.parametrize("answer", [None, b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\0\0"])
def test_who_listens_and_is_no_ray_is_told_before_ray_is_asked(
    monkeypatch: pytest.MonkeyPatch, answer: bytes | None
) -> None:
    monkeypatch.setattr(ray_tasks, "_PATIENCE", 0.2 if answer is None else 20.0)
    monkeypatch.setattr(ray_tasks, "import_module", None)
    with (
        listening(answer) as address,
        pytest.raises(UsageError, match=f"^--address {address}: who answers there is no head of a Ray cluster"),
    ):
        ray_tasks.reach(address)


class Private:
    """In place of what Ray keeps to itself: the head is asked with the token that there is."""

    def __init__(self, refuses: Exception | None) -> None:
        self.refuses = refuses
        self.asked: list[str] = []

    def ensure_token_if_auth_enabled(self, *, create_token_if_missing: bool) -> None:
        assert not create_token_if_missing
        self.asked.append("token")

    def GcsClient(self, *, address: str) -> None:  # noqa: N802  (its name there)
        self.asked.append(address)
        if self.refuses:
            raise self.refuses


#: Of HTTP/2: an empty frame of settings.
SETTINGS = b"\0\0\0\4\0\0\0\0\0"


def test_a_head_that_answers_is_asked_whether_it_takes_us(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_tasks, "import_module", lambda _: private)
    private = Private(None)
    with listening(SETTINGS) as address:
        ray_tasks.reach(address)
        assert private.asked == ["token", address]
        private.refuses = exceptions.AuthenticationError("InvalidAuthToken: it is missing or incorrect")
        with pytest.raises(UsageError, match=rf"^--address {address}: no Ray cluster: InvalidAuthToken: it is missing"):
            ray_tasks.reach(address)


@pytest.mark.parametrize("error", [ModuleNotFoundError("ray._raylet"), AttributeError("GcsClient")])
def test_a_ray_that_keeps_other_things_to_itself_is_simply_joined(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(ray_tasks, "import_module", lambda _: Private(error))
    with listening(SETTINGS) as address:
        ray_tasks.reach(address)


def test_behind_tls_a_head_is_not_asked_in_plain_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_USE_TLS", "1")
    monkeypatch.setattr(ray_tasks, "import_module", lambda _: Private(None))
    with listening(b"") as address:
        ray_tasks.reach(address)


def test_this_machine_alone_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_tasks, "import_module", None)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    ray_tasks.reach(None)
