"""Shards as tasks of Ray, without a cluster: what becomes of an answer, a loss, a bug and a cancellation."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import anyio
import pytest

from crawler.engines import Lost
from crawler.errors import Fatal, UsageError
from crawler.ledger import Totals
from crawler.model import Account
from crawler.runs import owners
from crawler.runs.documents import Claim
from crawler.settings import Settings
from crawler.shard import Report, Shard
from crawler.shard_crawl import Assignment, crawl_alone

ABSENT = "Ray is not installed: python -m pip install 'ray>=2.50,<3'"
cloudpickle = pytest.importorskip("ray.cloudpickle", reason=ABSENT)
exceptions = pytest.importorskip("ray.exceptions", reason=ABSENT)
ray_tasks = import_module("crawler.engines.ray_tasks")

ROLE = "arn:aws:iam::111111111111:role/inventory"
SHARD = Shard(1, (Account("1" * 12, role=(ROLE,)),))
REPORT = Report(1, b"", b"", Totals())


class Ray:
    """In place of the module: tasks end as `answer` does."""

    def __init__(self, answer: Callable[[], Awaitable[Any]] | None = None, refuses: Exception | None = None) -> None:
        self.answer = answer
        self.refuses = refuses
        self.shipped: list[Any] = []
        self.asked: list[tuple[Any, ...]] = []
        self.cancelled: list[Any] = []
        self.calls: list[str] = []

    def remote(self, **options: Any) -> Callable[[Any], Ray.Task]:
        self.shipped.append(options)

        def task(function: Any) -> Ray.Task:
            self.shipped.append(function)
            return Ray.Task(self)

        return task

    class Task:
        def __init__(self, ray: Ray) -> None:
            self.ray = ray

        def remote(self, *arguments: Any) -> Awaitable[Any]:
            self.ray.asked.append(arguments)
            self.ray.shipped.append(arguments)
            assert self.ray.answer
            return self.ray.answer()

    def put(self, value: object) -> object:
        return ("put", value)

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 3.5}

    def cancel(self, task: object, *, force: bool) -> None:
        self.cancelled.append((task, force))

    def init(self, address: str, **options: Any) -> None:
        self.calls.append(f"init {address}")
        self.shipped.append(options)
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
        async with ray_tasks.Cluster(lambda _, __: REPORT, "assignment").running() as crew:
            assert (crew.workers, crew.at_once) == (3, 14)
            with anyio.move_on_after(seconds):
                try:
                    return await crew.crawl(SHARD)
                except Exception as error:  # noqa: BLE001  (to be looked at)
                    return error
            return await crew.stop(SHARD)

    return anyio.run(main), ray


class Awaited:
    """May be awaited more than once, as what Ray returns may."""

    def __init__(self, answer: Callable[[], Awaitable[Any]]) -> None:
        self._answer = answer

    def __await__(self) -> Any:
        return self._answer().__await__()


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
    lost, _ = crawl(monkeypatch, answering(exceptions.WorkerCrashedError()))
    assert isinstance(lost, Lost)
    assert "worker died" in str(lost)
    assert "\n" not in str(lost)


def test_what_ray_cannot_do_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    failure, _ = crawl(monkeypatch, answering(exceptions.RuntimeEnvSetupError("no such\nenvironment")))
    assert isinstance(failure, Fatal)
    assert "Ray cannot run a shard: " in str(failure)
    assert "\n" not in str(failure)


def test_a_bug_is_not_taken_for_a_loss_and_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    bug = exceptions.RayTaskError(
        "crawl_alone", "Traceback: a bug", ZeroDivisionError("a bug"), "worker", 1, "127.0.0.1"
    )
    assert crawl(monkeypatch, answering(bug))[0] is bug


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (REPORT, REPORT),
        (exceptions.TaskCancelledError(), None),
        (exceptions.WorkerCrashedError(), None),
        (exceptions.RayTaskError("crawl_alone", "", KeyboardInterrupt(), "worker", 1, "127.0.0.1"), None),
        (Fatal("StoreDenied", "not allowed"), None),
    ],
    ids=["a report", "not begun", "lost", "not ready to be stopped", "fatal"],
)
def test_a_task_that_is_not_wanted_any_more_tells_what_it_has(
    monkeypatch: pytest.MonkeyPatch, answer: object, told: Report | None
) -> None:
    """It is interrupted, asked for its report, and ended if it should still be there."""
    interrupted = anyio.Event()

    async def ends() -> Any:
        if not ray.cancelled:
            await anyio.sleep_forever()
        interrupted.set()
        return await answering(answer)()

    monkeypatch.setattr(ray_tasks, "ray", ray := Ray(lambda: Awaited(ends)))

    async def main() -> Report | None:
        async with ray_tasks.Cluster(lambda _, __: REPORT, "assignment").running() as crew:
            with anyio.move_on_after(0.05):
                await crew.crawl(SHARD)
            return await crew.stop(SHARD)

    assert anyio.run(main) is told
    assert interrupted.is_set()
    assert [force for _, force in ray.cancelled] == [False, True]


def test_a_task_that_does_not_heed_the_stop_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_tasks, "ray", ray := Ray(lambda: Awaited(anyio.sleep_forever)))

    async def main() -> None:
        async with ray_tasks.Cluster(lambda _, __: REPORT, "assignment").running() as crew:
            for wait in (crew.crawl, crew.stop):
                with anyio.move_on_after(0.05) as scope:
                    await wait(SHARD)
                assert scope.cancelled_caught

    anyio.run(main)
    assert [force for _, force in ray.cancelled] == [False, True]


def test_what_was_never_handed_out_has_nothing_to_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_tasks, "ray", ray := Ray())

    async def main() -> Report | None:
        async with ray_tasks.Cluster(lambda _, __: REPORT, "assignment").running() as crew:
            return await crew.stop(SHARD)

    assert anyio.run(main) is None
    assert not ray.cancelled


def test_no_keys_are_shipped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What Ray is given, of all that is in the environment and in files of this machine: roles by their ARNs."""
    secrets = {f"AWS_{name}": f"canary-{name}" for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN")}
    for name, secret in secrets.items():
        monkeypatch.setenv(name, secret)
    (tmp_path / "credentials").write_text("[default]\naws_access_key_id = canary-1\naws_secret_access_key = canary-2\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", f"{tmp_path}/credentials")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray_tasks, "ray", ray := Ray(answering(REPORT)))
    claim = Claim("r", 1, "2026-01-01", "parquet", "", "", owners.ourselves(), {})
    settings = Settings("accounts.yaml", output="s3://bucket/", engine="ray")
    assignment = Assignment(settings, "r", claim, ("text", 0))

    async def main() -> None:
        with ray_tasks.connected(None):
            async with ray_tasks.Cluster(crawl_alone, assignment).running() as crew:
                assert await crew.crawl(SHARD) is REPORT

    anyio.run(main)
    shipped = cloudpickle.dumps(ray.shipped)
    assert all(word in shipped for word in (b"crawl_alone", ROLE.encode(), b"s3://bucket/", b"logging_level"))
    assert b"canary" not in shipped


def test_this_machine_alone_is_left_however_the_body_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray_tasks, "ray", ray := Ray())
    with pytest.raises(ZeroDivisionError), ray_tasks.connected(None):
        raise ZeroDivisionError
    assert ray.calls == ["init local", "shutdown"]


@pytest.mark.parametrize(("error", "said"), [(RuntimeError("no\nroom"), "no"), (ValueError(), "ValueError")])
def test_a_ray_that_does_not_start_is_told_in_a_line(
    monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray_tasks, "ray", Ray(refuses=error))
    with pytest.raises(UsageError, match=rf"^--address local: no Ray cluster: {said}$"), ray_tasks.connected(None):
        pass
