"""The inventory as a DAG of Airflow 3: crawl, draw the page, clean up. The crawler is in an environment of its own.

Tried with Airflow 3.3, by `airflow dags test ecr_inventory 2026-11-22` against `crawler emulator`.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG

CRAWLER = "/opt/crawler/bin/crawler"
OUTPUT = "s3://bucket/inventory/"
#: The same for all tries of one night, so a second try goes on with the first one's run; and ids sort by date.
RUN_ID = "nightly-{{ ds }}"

with DAG(
    dag_id="ecr_inventory",
    description="Every image ID of every ECR repository",
    schedule="0 2 * * *",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,  # a night that has passed cannot be listed any more
    max_active_runs=1,
    default_args={"retries": 2, "retry_delay": timedelta(minutes=5)},
):
    # Exit code 3, something is missing, fails the task. Another try says so again at once: the run is published.
    crawl = BashOperator(
        task_id="crawl",
        bash_command=f"{CRAWLER} --accounts /etc/ecr-inventory/accounts.yaml --output {OUTPUT} --run-id {RUN_ID}",
        append_env=True,
        execution_timeout=timedelta(hours=8),
    )
    # Drawn for an incomplete run too: it is what one wants to look at then.
    page = BashOperator(
        task_id="page",
        bash_command=f"{CRAWLER} report {RUN_ID} --output {OUTPUT} --to /var/www/inventory/{RUN_ID}.html",
        append_env=True,
        trigger_rule="all_done",
    )
    clean = BashOperator(task_id="clean", bash_command=f"{CRAWLER} clean --output {OUTPUT}", append_env=True)

    crawl >> page
    crawl >> clean
