"""A real Ray, of this machine alone and of two nodes: the same rows and ledger as one process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import pytest

from crawler.emulator import Emulator, Estate
from tests.lake.conftest import Place, Zygote, company
from tests.lake.test_crash import check_published, command
from tests.lake.test_workers import comparable, started

pytestmark = pytest.mark.skipif(
    find_spec("ray") is None, reason="Ray is not installed: python -m pip install 'ray>=2.50,<3'"
)

_RAY = ["--engine", "ray"]


@pytest.fixture(scope="module")
def estate() -> Estate:
    return company(accounts=12, repositories=5, images=30)


@pytest.fixture
def local(tmp_path: Path) -> Place:
    return Place(f"{tmp_path}/out/", folder=tmp_path / "out")


@pytest.fixture
def alone(program: Zygote) -> Zygote:
    """A Ray that is started with the program, and tells nobody."""
    # Its sockets have no room for a long TMPDIR.
    program.environment |= {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ADDRESS": "local",
        "RAY_raylet_start_wait_time_s": "120",  # other tests may keep the machine busy
        "TMPDIR": "/tmp",  # noqa: S108
    }
    return program


def test_rows_ledger_and_manifest_are_those_of_one_process(alone: Zygote, local: Place, estate: Estate) -> None:
    assert alone.run(*command(local, "one")) == 0, alone.said()
    with started(alone, *command(local, "two"), *_RAY) as process:
        assert process.wait(120) == 0, alone.said()
    check_published(local, "two", Counter(estate.rows()))
    assert comparable(local.ledger("two")) == comparable(local.ledger("one"))
    one, two = local.manifest("one"), local.manifest("two")
    assert one
    assert two
    same = ("status", "format", "schema_version", "rows", "missing", "targets", "repositories", "settings", "failures")
    assert {key: one[key] for key in same} == {key: two[key] for key in same}


#: A head that crawls nothing, and a node that is killed and replaced for each line, when it is at work.
_CLUSTER = """
import sys, time
import ray
from ray._private.state import available_resources_per_node
from ray.cluster_utils import Cluster
# By itself it takes a quarter of a minute to hold a node for dead.
health = {"health_check_initial_delay_ms": 1000, "health_check_period_ms": 500, "health_check_timeout_ms": 5000}
head = {"num_cpus": 0, "include_dashboard": False, "_system_config": {**health, "health_check_failure_threshold": 3}}
cluster = Cluster(initialize_head=True, head_node_args=head)
node = cluster.add_node(num_cpus=1)
ray.init(cluster.address, log_to_driver=False)
out, sys.stdout = sys.stdout, sys.stderr  # where Ray prints what it likes
print(cluster.address, file=out, flush=True)
for line in sys.stdin:
    patience = time.monotonic() + 30
    while available_resources_per_node().get(node.node_id, {}).get("CPU", 0) == 1 and time.monotonic() < patience:
        time.sleep(0.05)
    cluster.remove_node(node, allow_graceful=False)
    node = cluster.add_node(num_cpus=1)
    print("replaced", file=out, flush=True)
cluster.shutdown()
"""


@pytest.mark.parametrize("times", [1, pytest.param(10, marks=pytest.mark.slow)])
def test_a_node_is_killed(alone: Zygote, local: Place, estate: Estate, emulator: Emulator, times: int) -> None:
    environment = {**os.environ, **alone.environment, "PYTHONPATH": str(Path(__file__).parents[2])}
    environment.pop("RAY_ADDRESS")
    with subprocess.Popen(
        [sys.executable, "-c", _CLUSTER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        text=True,
        cwd=alone.folder,
    ) as cluster:
        try:
            assert cluster.stdin
            assert cluster.stdout
            address = cluster.stdout.readline().strip()
            with started(alone, *command(local, "r"), *_RAY, "--address", address, "--max-rps", "10") as process:
                served = int(emulator.stats()["requests"].get("ecr:ListImages", 0))
                for number in range(times):
                    while (
                        int(emulator.stats()["requests"].get("ecr:ListImages", 0)) - served < 5 * (number + 1)
                        and process.poll() is None
                    ):
                        time.sleep(0.01)
                    assert process.poll() is None, alone.said()
                    cluster.stdin.write("\n")
                    cluster.stdin.flush()
                    assert cluster.stdout.readline().strip() == "replaced"
                assert process.wait(300) == 0, alone.said()
            cluster.stdin.close()
            cluster.wait(60)
        finally:
            cluster.send_signal(signal.SIGKILL)
    check_published(local, "r", Counter(estate.rows()))
    # A node may have nothing to do when it is its turn.
    assert alone.said().count("a worker was lost") >= times // 2
