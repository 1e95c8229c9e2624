"""Shards as tasks of Ray, without a cluster: what becomes of an answer, a loss, a bug and a cancellation."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
from ray.exceptions import RayTaskError, RuntimeEnvSetupError, WorkerCrashedError

from crawler.engines import Lost, ray_tasks
from crawler.engines.ray_tasks import Cluster, connected
from crawler.errors import Fatal, UsageError
from crawler.ledger import Totals
from crawler.model import Account
from crawler.shard import Report, Shard

SHARD = Shard(1, (Account("1" * 12),))
REPORT = Report(1, b"", b"", Totals())


class Ray:
    """In place of the module: tasks end as `answer` does."""

    def __init__(self, answer: Callable[[], Awaitable[Any]] | None = None, refuses: Exception | None = None) -> None:
        self.answer = answer
        self.refuses = refuses
        self.asked: list[tuple[Any, ...]] = []
        self.cancelled: list[Any] = []
        self.calls: list[str] = []

    def remote(self, **_: Any) -> Callable[[Any], Ray.Task]:
        return lambda _: Ray.Task(self)

    class Task:
        def __init__(self, ray: Ray) -> None:
            self.ray = ray

        def remote(self, *arguments: Any) -> Awaitable[Any]:
            self.ray.asked.append(arguments)
            assert self.ray.answer
            return self.ray.answer()

    def put(self, value: object) -> object:
        return ("put", value)

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 3.5}

    def cancel(self, task: object, *, force: bool) -> None:
        self.cancelled.append((task, force))

    def init(self, address: str, **_: Any) -> None:
        self.calls.append(f"init {address}")
        if self.refuses:
            raise self.refuses

    def shutdown(self) -> None:
        self.calls.append("shutdown")


def crawl(
    monkeypatch: pytest.MonkeyPatch, answer: Callable[[], Awaitable[Any]], seconds: float = 20
) -> tuple[Any, Ray]:
    """Have a shard crawled; return what came of it, which may be an exception."""
    ray = Ray(answer)
    monkeypatch.setattr(ray_tasks, "ray", ray)

    async def main() -> Any:
        async with Cluster(lambda _, __: REPORT, "assignment").running() as crew:
            assert (crew.workers, crew.at_once) == (3, 14)
            with anyio.move_on_after(seconds):
                try:
                    return await crew.crawl(SHARD)
                except Exception as error:  # noqa: BLE001  (to be looked at)
                    return error
            return await crew.stop(SHARD)

    return anyio.run(main), ray


def answering(value: object) -> Callable[[], Awaitable[Any]]:
    async def answer() -> Any:
        if isinstance(value, Exception) and not isinstance(value, Fatal):
            raise value
        return value

    return answer


def test_an_answer_is_the_report(monkeypatch: pytest.MonkeyPatch) -> None:
    report, ray = crawl(monkeypatch, answering(REPORT))
    assert report is REPORT
    assert ray.asked == [(("put", "assignment"), SHARD)], "the assignment is put there once, for all tasks"


def test_what_no_shard_survives_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    failure = Fatal("StoreDenied", "not allowed")
    assert crawl(monkeypatch, answering(failure))[0] is failure


def test_a_worker_that_has_crashed_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    lost, _ = crawl(monkeypatch, answering(WorkerCrashedError()))
    assert isinstance(lost, Lost)
    assert "worker died" in str(lost)
    assert "\n" not in str(lost)


def test_what_ray_cannot_do_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    failure, _ = crawl(monkeypatch, answering(RuntimeEnvSetupError("no such\nenvironment")))
    assert isinstance(failure, Fatal)
    assert "Ray cannot run a shard: " in str(failure)
    assert "\n" not in str(failure)


def test_a_bug_is_not_taken_for_a_loss_and_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    bug = RayTaskError("crawl_alone", "Traceback: a bug", ZeroDivisionError("a bug"), "worker", 1, "127.0.0.1")
    assert crawl(monkeypatch, answering(bug))[0] is bug


def test_a_task_that_is_not_wanted_any_more_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    report, ray = crawl(monkeypatch, anyio.sleep_forever, seconds=0.05)
    assert report is None, "it tells nothing"
    ((task, force),) = ray.cancelled
    assert force
    task.close()


def test_this_machine_alone_is_left_however_the_body_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray_tasks, "ray", ray := Ray())
    with pytest.raises(ZeroDivisionError), connected(None):
        raise ZeroDivisionError
    assert ray.calls == ["init local", "shutdown"]


@pytest.mark.parametrize(("error", "said"), [(RuntimeError("no\nroom"), "no"), (ValueError(), "ValueError")])
def test_a_ray_that_does_not_start_is_told_in_a_line(
    monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray_tasks, "ray", Ray(refuses=error))
    with pytest.raises(UsageError, match=rf"^--address local: no Ray cluster: {said}$"), connected(None):
        pass


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
