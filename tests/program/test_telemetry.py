"""What a collector of OpenTelemetry is told: each request, each unit, and no secret."""

from __future__ import annotations

import gzip
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from crawler.emulator import Estate, Options, running
from tests.program.conftest import Program

SECRET = "hub/secret/key/of/the/local/emulator/000"


class Collector:
    """What came, by path, and where to send it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.came: defaultdict[str, list[bytes]] = defaultdict(list)

    def spans(self) -> list[Any]:
        requests = [ExportTraceServiceRequest.FromString(body) for body in self.came["/v1/traces"]]
        scopes = [scope for each in requests for resource in each.resource_spans for scope in resource.scope_spans]
        return [span for scope in scopes for span in scope.spans]

    def metrics(self) -> dict[str, Any]:
        """The last word of each."""
        requests = [ExportMetricsServiceRequest.FromString(body) for body in self.came["/v1/metrics"]]
        scopes = [scope for each in requests for resource in each.resource_metrics for scope in resource.scope_metrics]
        return {metric.name: metric for scope in scopes for metric in scope.metrics}


@contextmanager
def collecting() -> Iterator[Collector]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            collector.came[self.path].append(
                gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body
            )
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as it is named there
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        collector = Collector(f"http://127.0.0.1:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield collector
        finally:
            server.shutdown()
            thread.join()


def attributes(of: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in of.attributes}


@pytest.fixture
def estate() -> Estate:
    return Estate.uniform(repositories=3, images=5, accounts=2, regions=["us-east-1"])


def crawl(program: Program, estate: Estate, url: str, *options: str) -> Any:
    (program.folder / "accounts.yaml").write_text(estate.accounts_yaml())
    with running(estate, Options(faults=("throttling:times=2,operation=ListImages",))) as emulator:
        program.environment |= {**emulator.environment(), "OTEL_EXPORTER_OTLP_ENDPOINT": url}
        return program.run("--accounts", "accounts.yaml", "--otel", "--ledger", "ledger.ndjson", *options)


def test_requests_and_units_are_told(program: Program, estate: Estate) -> None:
    with collecting() as collector:
        done = crawl(program, estate, collector.url)
    assert done.returncode == 0, done.stderr
    ledger = program.folder / "ledger.ndjson"
    spans = collector.spans()
    run = next(span for span in spans if span.name == "crawl")
    assert Counter(span.name for span in spans) == {"crawl": 1, "target": 3, "repository": 6}
    assert len(ledger.read_bytes().splitlines()) == 9
    for span in spans:
        if span is not run:
            assert (span.trace_id, span.parent_span_id) == (run.trace_id, run.span_id)
            assert run.start_time_unix_nano <= span.start_time_unix_nano + 10**9
            assert attributes(span)["crawler.outcome"] in ("OK", "EMPTY")
            assert attributes(span)["cloud.region"] == "us-east-1"
    metrics = collector.metrics()
    calls = [(attributes(point), point.count) for point in metrics["rpc.client.call.duration"].histogram.data_points]
    by_method: Counter[tuple[str, str]] = Counter()
    for told, count in calls:
        assert set(told) <= {"rpc.system.name", "rpc.method", "cloud.region", "error.type"}, "a series for each account"
        by_method[told["rpc.method"], told.get("error.type", "")] += count
    throttled = by_method["ListImages", "ThrottlingException"]
    assert by_method["DescribeRepositories", ""] == 3
    assert by_method["ListImages", ""] == 6
    assert throttled > 0

    def total(name: str) -> int:
        return sum(point.as_int for point in metrics[name].sum.data_points)

    assert (total("crawler.rows"), total("crawler.units")) == (30, 9)
    assert total("crawler.throttles") == total("crawler.retries") == throttled
    assert total("crawler.active_requests") == 0
    everything = b"".join(body for bodies in collector.came.values() for body in bodies)
    assert SECRET.encode() not in everything


@pytest.mark.slow
def test_workers_tell_what_they_did_each_for_itself_in_one_trace(program: Program, estate: Estate) -> None:
    with collecting() as collector:
        done = crawl(program, estate, collector.url, "--workers", "2")
    assert done.returncode == 0, done.stderr
    spans = {span.span_id: span for span in collector.spans()}
    found = Counter(span.name for span in spans.values())
    assert found.pop("worker") in (1, 2), "one may begin when all is done"
    assert found == {"crawl": 1, "target": 3, "repository": 6}
    assert len({span.trace_id for span in spans.values()}) == 1
    above = {"worker": "crawl", "target": "worker", "repository": "worker"}
    assert all(spans[span.parent_span_id].name == above[span.name] for span in spans.values() if span.name in above)
    rows: dict[str, int] = {}
    for body in collector.came["/v1/metrics"]:
        for told in ExportMetricsServiceRequest.FromString(body).resource_metrics:
            for metric in (metric for scope in told.scope_metrics for metric in scope.metrics):
                if metric.name == "crawler.rows":  # the last word of each instance
                    instance = attributes(told.resource)["service.instance.id"]
                    rows[instance] = sum(point.as_int for point in metric.sum.data_points)
    assert sum(rows.values()) == 30


@pytest.mark.slow
def test_a_collector_that_is_not_there_costs_no_row(program: Program, estate: Estate) -> None:
    done = crawl(program, estate, "http://127.0.0.1:9")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 30
    assert b"COMPLETE" in done.stderr
    assert b"Traceback" not in done.stderr
