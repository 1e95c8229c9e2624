"""A real Ray, of this machine alone and of three nodes: the same rows and ledger as one process, whoever is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from crawler.emulator import Emulator, Estate
from tests.lake.conftest import Place, Zygote, company
from tests.lake.test_crash import check_published, check_unpublished_or_whole, command
from tests.lake.test_workers import check_equal, requests, started

pytest.importorskip("ray", reason="Ray is not installed: python -m pip install 'ray>=2.50,<3'")

_RAY = ["--engine", "ray"]

#: Its sockets have no room for a long TMPDIR; it tells nobody; and it leaves no token in anybody's home.
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": "known-to-the-cluster-and-to-us-alone",
    "RAY_raylet_start_wait_time_s": "120",  # other tests may keep the machine busy
    "TMPDIR": "/tmp",  # noqa: S108  (Ray's own folders have long names)
}

#: A head that crawls nothing, and two nodes that do. For each line the one whose turn it is is killed, and replaced,
#: when both are at work; it is told how many tasks each of them had.
_CLUSTER = '''
import sys, time
from contextlib import suppress
from pathlib import Path
from ray.cluster_utils import Cluster
out, sys.stdout = sys.stdout, sys.stderr  # where Ray prints what it likes
# By itself it takes a quarter of a minute to hold a node for dead.
health = {"health_check_initial_delay_ms": 1000, "health_check_period_ms": 500, "health_check_timeout_ms": 5000}
bare = {"include_log_monitor": False, "no_monitor": True}  # of what nobody here looks at
head = {"num_cpus": 0, "include_dashboard": False, **bare}
head["_system_config"] = {**health, "health_check_failure_threshold": 3}
cluster = Cluster(initialize_head=True, head_node_args=head)

def add_node():
    return cluster.add_node(num_cpus=1, include_log_monitor=False)

def at_work(node):
    """How many processes run a task there: by its title, since its resources are taken before it begins."""
    raylet, = node.all_processes["raylet"]
    titles = []
    for children in Path(f"/proc/{raylet.process.pid}/task").glob("*/children"):
        for pid in children.read_text().split():
            with suppress(OSError):
                titles.append(Path(f"/proc/{pid}/cmdline").read_text())
    return sum(title.startswith("ray::crawl_alone") for title in titles)

nodes = [add_node() for _ in range(2)]
print(cluster.address, file=out, flush=True)
for line in sys.stdin:
    patience = time.monotonic() + 30
    # Each can run two: one of them may end by itself in the moment before its node does.
    while [*map(at_work, nodes)] != [2, 2] and time.monotonic() < patience:
        time.sleep(0.005)
    print(*map(at_work, nodes), file=out, flush=True)
    cluster.remove_node(nodes.pop(0), allow_graceful=False)
    nodes.append(add_node())
cluster.shutdown()
'''


@pytest.fixture(scope="module")
def estate() -> Estate:
    return company(accounts=6, repositories=5, images=30)


@pytest.fixture
def local(tmp_path: Path) -> Place:
    return Place(f"{tmp_path}/out/", folder=tmp_path / "out")


@pytest.fixture
def ours(program: Zygote) -> Zygote:
    program.environment |= _ENVIRONMENT
    return program


@dataclass
class Nodes:
    address: str
    process: subprocess.Popen[str]

    def options(self) -> list[str]:
        return [*_RAY, "--address", self.address]

    def kill_one(self) -> str:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()


@pytest.fixture(scope="module")
def nodes(emulator: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    """Two nodes that have keys of their own, as all have that crawl."""
    environment = {**os.environ, **emulator.environment(), **_ENVIRONMENT, "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(
        [sys.executable, "-c", _CLUSTER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        text=True,
        cwd=tmp_path_factory.mktemp("cluster"),
    ) as process:
        try:
            assert process.stdin
            assert process.stdout
            yield Nodes(process.stdout.readline().strip(), process)
            process.stdin.close()
            process.wait(60)
        finally:
            process.kill()


def total(estate: Estate) -> int:
    """Requests for images that a whole run makes."""
    return sum(len(repositories) for _, _, repositories in estate.registries())


def test_rows_ledger_manifest_and_hints_of_two_workers_are_those_of_one_process(
    ours: Zygote, local: Place, estate: Estate
) -> None:
    """On this machine alone, with a Ray that is started with the program."""
    ours.environment |= {"RAY_ADDRESS": "local", "RAY_OVERRIDE_RESOURCES": '{"CPU": 2}'}
    # The largest repositories are ten pages then, and worth remembering.
    options = ("--page-size", "60", "--hints")
    assert ours.run(*command(local, "one"), *options, "one.json") == 0, ours.said()
    with started(ours, *command(local, "two"), *options, "two.json", *_RAY) as process:
        assert process.wait(120) == 0, ours.said()
    assert not ours.said(), "--quiet"
    hints, other = (json.loads((ours.folder / f"{name}.json").read_bytes()) for name in ("one", "two"))
    assert hints == other
    assert hints["targets"]
    check_equal(local, estate)


@pytest.mark.parametrize("times", [1, pytest.param(10, marks=pytest.mark.slow)])
def test_a_node_is_killed_while_another_one_works(
    ours: Zygote, nodes: Nodes, local: Place, estate: Estate, times: int
) -> None:
    # There must be work for both, to the last: a target takes half a minute then, which is longer than a node lives.
    pace = "2" if times == 1 else "0.2"
    with started(ours, *command(local, "r"), *nodes.options(), "--max-rps", pace) as process:
        for _ in range(times):
            assert nodes.kill_one() == "2 2", ours.said()
            assert process.poll() is None, ours.said()
        assert process.wait(300) == 0, ours.said()
    check_published(local, "r", Counter(estate.rows()))
    # Both of its tasks may have ended in the moment between a look at a node and its end.
    assert ours.said().count("a worker was lost") >= (1 if times == 1 else 8)


def test_the_driver_is_killed(ours: Zygote, nodes: Nodes, local: Place, estate: Estate, emulator: Emulator) -> None:
    """The next attempt rests on what its shards had committed."""
    expected = Counter(estate.rows())
    with started(ours, *command(local, "r"), *nodes.options(), "--max-rps", "15") as process:
        at = requests(emulator)
        while requests(emulator) - at < total(estate) // 2:
            assert process.poll() is None, ours.said()
            time.sleep(0.005)  # an event in another process
        process.kill()
        process.wait()
    check_unpublished_or_whole(local, "r", expected)
    assert [name for name in local.names() if "/records/" in name]
    with started(ours, *command(local, "r"), *nodes.options()) as process:
        before = requests(emulator)
        assert process.wait(120) == 0, ours.said()
    check_published(local, "r", expected)
    assert requests(emulator) - before < total(estate), "nothing was rested on"


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_tasks_have_fetched_when_the_run_is_stopped_counts(
    ours: Zygote, nodes: Nodes, local: Place, emulator: Emulator, number: signal.Signals
) -> None:
    """No shard has come to its end by then: each tells what it has, which is all but one request that is on its way."""
    estate = emulator.world.estate
    with started(ours, *command(local, "r"), *nodes.options(), "--ledger", "ledger", "--max-rps", "1") as process:
        at = requests(emulator)
        while requests(emulator) - at < 8:
            assert process.poll() is None, ours.said()
            time.sleep(0.005)  # an event in another process
        process.send_signal(number)
        assert process.wait(30) == 128 + number, ours.said()
    units = [json.loads(line) for line in (ours.folder / "ledger").read_bytes().splitlines()]
    assert {unit["registryId"] for unit in units} == set(estate.accounts)
    found = [unit for unit in units if unit["repositoryName"] and unit["outcome"] in ("OK", "EMPTY")]
    assert len(found) >= 4, Counter(unit["outcome"] for unit in units)
    before = requests(emulator)
    assert ours.run(*command(local, "r")) == 0, ours.said()  # whoever goes on with it
    assert requests(emulator) - before <= total(estate) - len(found)
    check_published(local, "r", Counter(estate.rows()))


def test_who_does_not_have_the_token_of_the_cluster_is_told_so(ours: Zygote, nodes: Nodes, local: Place) -> None:
    ours.environment["RAY_AUTH_TOKEN"] = "another-one-of-the-length-that-ray-takes"
    with started(ours, *command(local, "r"), *nodes.options()) as process:
        assert process.wait(60) == 2, ours.said()
    told = ours.said().splitlines()[-1]
    assert told.startswith(f"--address {nodes.address}: no Ray cluster: ")
    assert "token is missing or incorrect" in told
    assert not local.names(), "no run was begun"
