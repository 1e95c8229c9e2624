"""The README's lines for those who read published runs, run as they stand on a run that was published here."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from crawler.emulator import Estate
from tests.lake.conftest import Place, Zygote
from tests.lake.test_crash import command
from tests.lake.test_program import estate_rows

README = Path(__file__).parents[2] / "README.md"


@pytest.fixture
def published(program: Zygote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The id of a run in the folder `out`, beside which we are; returned is its date."""
    local = Place(f"{tmp_path}/out/", folder=tmp_path / "out")
    assert program.run(*command(local, "RUN"), "--format", "parquet") == 0, program.said()
    monkeypatch.chdir(tmp_path)
    manifest = local.manifest("RUN")
    assert manifest
    return str(manifest["parts"][0]["path"]).split("/")[1].removeprefix("date=")


def block(after: str, language: str, number: int = 0) -> str:
    """A block of code in the README, below the line that begins so."""
    text = README.read_text()[README.read_text().index(f"\n{after}") :]
    found = re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)
    return str(found[number])


def statements(sql: str) -> Iterator[str]:
    return (statement.strip() for statement in sql.split(";") if statement.strip())


def test_duckdb(published: str, estate: Estate) -> None:
    assert published
    with duckdb.connect() as connection:
        for statement in statements(block("DuckDB:", "sql")):
            answer = connection.execute(statement).fetchall()
    assert answer[0][0] == estate_rows(estate)


@pytest.mark.slow
def test_polars(published: str, estate: Estate) -> None:
    assert published
    polars = pytest.importorskip("polars", reason="`make readers` installs it")
    lines = [line for line in block("Polars, and Spark:", "python").splitlines() if "spark" not in line]
    names: dict[str, Any] = {"polars": polars, "json": json, "Path": Path}
    exec("\n".join(lines), names)  # noqa: S102 - our own README
    assert len(names["images"].collect()) == estate_rows(estate)


@pytest.fixture
def spark(tmp_path: Path) -> Iterator[Any]:
    """Spark with a Hive catalog of its own."""
    sql = pytest.importorskip("pyspark.sql", reason="`make readers` installs it")
    if shutil.which("java") is None:
        pytest.skip("Spark needs Java: apt install default-jre-headless")
    os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
    catalog = f"jdbc:derby:;databaseName={tmp_path}/metastore;create=true"
    session = (
        sql.SparkSession.builder.master("local[1]")
        .config("spark.ui.enabled", "false")
        .config("spark.sql.warehouse.dir", str(tmp_path / "warehouse"))
        .config("spark.hadoop.javax.jdo.option.ConnectionURL", catalog)
        .enableHiveSupport()
        .getOrCreate()
    )
    yield session
    session.stop()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*:ResourceWarning", "ignore::DeprecationWarning")  # pyspark's own sockets
def test_spark_and_the_tables_of_glue_and_athena(published: str, estate: Estate, spark: Any) -> None:
    """Hive's own definitions: Athena reads the same ones, with the same classes."""
    lines = [line for line in block("Polars, and Spark:", "python").splitlines() if "polars" not in line]
    names: dict[str, Any] = {"spark": spark, "json": json, "Path": Path}
    exec("\n".join(lines), names)  # noqa: S102 - our own README
    assert names["images"].count() == estate_rows(estate)

    table = block("Glue, Hive or Spark SQL", "sql").replace("2026-01-31", published)
    for statement in statements(table.replace("s3://bucket/inventory/data/", f"file://{Path.cwd()}/out/data/")):
        spark.sql(statement)
    counted = spark.sql("SELECT count(*), count(DISTINCT imageDigest), min(run) FROM images").collect()[0]
    assert (counted[0], counted[2]) == (estate_rows(estate), "RUN")
    spark.sql("DROP TABLE images")

    athena = next(statements(table)).replace("STORED AS PARQUET", block("Glue, Hive or Spark SQL", "sql", 1))
    place = f"file://{Path.cwd()}/out/hive/parquet/"
    spark.sql(athena.replace("s3://bucket/inventory/data/", place))
    spark.sql("MSCK REPAIR TABLE images")
    found = spark.sql("SHOW PARTITIONS images").collect()
    assert [row[0] for row in found] == [f"date={published}/run=RUN"]
