"""Options that do not go together, refused before anything is asked of AWS."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import pytest

from crawler.errors import UsageError
from crawler.extras import need
from crawler.settings import Settings

STORE = {"output": "s3://bucket/", "run_id": "r"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"engine": "ray", "output": "out/", "otel": True}, "--otel is not for --engine ray: leave one of them out"),
        ({"address": "10.0.0.1:6379"}, "--address is that of --engine ray"),
        ({"engine": "ray", "address": "", **STORE}, "--address is empty: name the head of the cluster, or leave"),
        ({"engine": "ray"}, "--engine ray publishes: other machines need an --output that they share"),
        ({"engine": "ray", "workers": 2, **STORE}, "--workers and --engine: choose one of them"),
        ({"shard": "1/4", "workers": 2, **STORE}, "--workers and shard: choose one of them"),
        ({"shard": "0/4", **STORE}, "shard 0/4: write I/N, as in 3/8, from 1/N to N/N"),
        ({"shard": "5/4", **STORE}, "shard 5/4"),
        ({"shard": "one", **STORE}, "shard one"),
        ({"shard": "1/", **STORE}, "shard 1/"),
        ({"shard": "-1/4", **STORE}, "shard -1/4"),
        ({"shard": "1/10001", **STORE}, "shard 1/10001: write I/N, as in 3/8, from 1/N to N/N; N is 10,000 at most"),
        ({"shard": "1/99999999999", **STORE}, "shard 1/99999999999"),  # a MemoryError
        ({"shard": f"1/{'9' * 5000}", **STORE}, "shard 1/999"),  # more digits than Python takes for a number
        ({"shard": "٣/٨", **STORE}, "shard ٣/٨"),
        ({"shard": "1/4", "output": "s3://bucket/"}, "shard I/N needs --run-id and --output"),
        ({"shard": "1/4"}, "shard I/N needs --run-id and --output"),
    ],
)
def test_options_for_several_processes(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        Settings(accounts="accounts.yaml", **options).agree()
    assert said in str(caught.value)


def test_a_share_is_a_number_and_how_many() -> None:
    settings = Settings(accounts="accounts.yaml", shard="3/8", **STORE)  # type: ignore[arg-type]  # any of Settings'
    settings.agree()
    assert settings.share == (3, 8)


def test_an_extra_that_is_missing() -> None:
    with pytest.raises(UsageError, match=r"python -m pip install 'ecr-inventory-crawler\[ray\]'"):
        need("ray", "no_such_module")


@pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: make ray")
@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("127.0.0.1:9", "nobody answers there: "),
        ("ray://head:10001", "write HOST:PORT of the head's GCS"),
        ("head", "write HOST:PORT of the head's GCS"),
        ("127.0.0.1:99999", "nobody answers there"),
    ],
)
def test_a_cluster_that_is_not_there(address: str, said: str) -> None:
    from crawler.engines.ray_tasks import reach  # noqa: PLC0415  (heavy)

    with pytest.raises(UsageError, match=said):
        reach(address)


@pytest.mark.parametrize(
    "name", ["s3:/bucket/inventory/", "S3://bucket/inventory/", "gs://bucket/a/", "file:///tmp/a/"]
)
@pytest.mark.parametrize("option", ["output", "ledger", "report", "hints"])
def test_a_url_of_another_kind_is_no_folder_here(option: str, name: str) -> None:
    """A run that is published in a folder called gs: is lost with its container, and would be told as complete."""
    given: dict[str, Any] = {option: name}
    with pytest.raises(UsageError, match=f"--{option} {name}: is no file here, and of URLs only s3://"):
        Settings(accounts="accounts.yaml", **given).agree()


@pytest.mark.parametrize(
    ("output", "delta"),
    [("out/", "out"), ("out/", "./out/data"), ("s3://b/inv/", "s3://b/inv"), ("s3://b/inv/", "s3://b/inv/data/")],
)
def test_a_table_within_the_output_would_be_read_as_parts(output: str, delta: str) -> None:
    """Whoever reads all files below `data/` would have its rows twice."""
    with pytest.raises(UsageError, match=f"--delta {delta}: lies within --output {output}: name another place"):
        Settings(accounts="accounts.yaml", output=output, delta=delta).agree()


@pytest.mark.parametrize(
    ("output", "delta"), [("out/", "outer"), ("out/", "s3://b/out"), ("s3://b/inv/", "s3://b/inventory/"), ("o/", "t")]
)
def test_a_table_beside_the_output_is_fine(output: str, delta: str) -> None:
    Settings(accounts="accounts.yaml", output=output, delta=delta).agree()
