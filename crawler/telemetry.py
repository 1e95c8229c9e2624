"""Metrics and traces for an OpenTelemetry collector: what the crawl does, seen from around it.

Names are those of the semantic conventions (https://opentelemetry.io/docs/specs/semconv/rpc/rpc-metrics/) where these
have one. Each process of a run tells its own, as an instance of its own, in one trace. Metrics tell regions and
operations, never accounts or repositories: each pair would be a series of its own, and memory would grow with the
estate. Traces tell all of it: a span for the run, one for each target and repository.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from threading import Thread
from typing import Any, TypeVar
from uuid import uuid4

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.metrics import MeterProvider as Meters
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, StatusCode, set_span_in_context
from opentelemetry.trace import TracerProvider as Tracers
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from crawler import __version__
from crawler.errors import CrawlError, Throttled
from crawler.model import COMPLETE, PUBLIC, Fetch, Image, Page, Part, Result, RowKind, Split, Target
from crawler.registry import Registries, Registry
from crawler.rehearsal import Narrowed

T = TypeVar("T")

_CONTEXT = TraceContextTextMapPropagator()

_NAME = "ecr-inventory-crawler"


def otlp(operations: tuple[str, str], parent: str | None = None) -> Telemetry:
    """For the collector that the variables OTEL_EXPORTER_OTLP_… name. `operations` list repositories and images.

    `parent` is the `traceparent` of the run that this process works for, if that is not its own.
    """
    # Counts of several processes are told apart by the instance, or a collector takes each for the other's.
    instance = {"service.name": _NAME, "service.version": __version__, "service.instance.id": str(uuid4())}
    resource = Resource.create(instance)
    reader = PeriodicExportingMetricReader(OTLPMetricExporter())
    meters = MeterProvider([reader], resource, shutdown_on_exit=False)
    tracers = TracerProvider(resource=resource, shutdown_on_exit=False)
    tracers.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))

    def close() -> None:
        # Both send what they have left, and try that for half a minute where nobody answers.
        last = [Thread(target=provider.shutdown, daemon=True) for provider in (tracers, meters)]
        for thread in last:
            thread.start()
        ends = time.monotonic() + Telemetry.last_seconds
        for thread in last:
            thread.join(max(ends - time.monotonic(), 0.0))

    return Telemetry(meters, tracers, operations, close, parent=parent)


class Telemetry:
    """What is measured, into whatever takes it. `close` it at the end of the run; that may take `last_seconds`."""

    #: That a collector may take for the last of it. The rows are what the run is for.
    last_seconds = 5.0

    def __init__(
        self,
        meters: Meters,
        tracers: Tracers,
        operations: tuple[str, str],
        close: Callable[[], None] = lambda: None,
        *,
        parent: str | None = None,
    ) -> None:
        self.operations = operations
        self._close = close
        meter = meters.get_meter(_NAME, __version__)
        self._tracer = tracers.get_tracer(_NAME, __version__)
        above = _CONTEXT.extract({"traceparent": parent}) if parent else None
        self._run = self._tracer.start_span("worker" if parent else "crawl", context=above)
        self._calls = meter.create_histogram(
            "rpc.client.call.duration",
            unit="s",
            description="Requests to AWS, each attempt, keys included where they had to be renewed.",
        )
        self._active = meter.create_up_down_counter("crawler.active_requests", "{request}", "Requests in flight.")
        self._throttles = meter.create_counter("crawler.throttles", "{request}", "Requests refused as too many.")
        self._retries = meter.create_counter("crawler.retries", "{request}", "Requests that were made once more.")
        self._rows = meter.create_counter("crawler.rows", "{row}", "Rows of repositories that have ended.")
        self._units = meter.create_counter("crawler.units", "{unit}", "Targets and repositories, by outcome.")

    @property
    def traceparent(self) -> str | None:
        """The span of the run, as others need it to be a part of its trace (W3C Trace Context)."""
        told: dict[str, str] = {}
        _CONTEXT.inject(told, set_span_in_context(self._run))
        return told.get("traceparent")

    def close(self) -> None:
        """End the span of the run, and send the last of it."""
        self._run.end()
        self._close()

    def watch(self, registries: Registries) -> Registries:
        """The same registries, every request to them measured."""
        return Narrowed(registries, lambda target, registry: _Watched(self, target, registry))

    def timed(self, operation: str, region: str, fetch: Fetch[T]) -> Fetch[T]:
        """The same Fetch, measured."""
        call = {"rpc.system.name": "aws-api", "rpc.method": operation, "cloud.region": region}

        async def measured(token: str | None) -> Page[T]:
            started = time.perf_counter()
            self._active.add(1, call)
            error: str | None = None
            try:
                return await fetch(token)
            except CrawlError as failure:
                error = failure.code
                if isinstance(failure, Throttled):
                    self._throttles.add(1, call)
                raise
            except BaseException as failure:
                error = type(failure).__qualname__
                raise
            finally:
                self._active.add(-1, call)
                ended = {**call, "error.type": error} if error else call
                self._calls.record(time.perf_counter() - started, ended)

        return measured

    def record(self, result: Result) -> None:
        """Count a unit that has ended, and tell its span, from when it began."""
        unit, chain = result.unit, result.chain
        kind = "target" if unit.repository is None else "repository"
        where = {"cloud.region": unit.region or ""}
        self._units.add(1, {**where, "crawler.unit": kind, "crawler.outcome": result.outcome.value})
        self._retries.add(max(chain.attempts - chain.pages, 0), where)
        if unit.repository is not None:
            self._rows.add(chain.items, where)
        now = time.time_ns()
        told: dict[str, Any] = {
            **where,
            "cloud.account.id": (unit.registry_id or "").removeprefix(PUBLIC),
            "crawler.repository": unit.repository or "",
            "crawler.outcome": result.outcome.value,
            "crawler.pages": chain.pages,
            "crawler.items": chain.items,
            "crawler.attempts": chain.attempts,
            "crawler.throttled": chain.throttled,
        }
        span = self._tracer.start_span(
            kind,
            context=set_span_in_context(self._run),
            kind=SpanKind.INTERNAL,
            start_time=now - int(result.seconds * 1e9),
            attributes={key: value for key, value in told.items() if value != ""},
        )
        if result.outcome not in COMPLETE:
            span.set_attribute("error.type", result.code or result.outcome.value)
            span.set_status(StatusCode.ERROR, result.message)
        span.end(now)


class _Watched:
    """A `Registry`, measured."""

    def __init__(self, telemetry: Telemetry, target: Target, behind: Registry) -> None:
        self._telemetry = telemetry
        self._region = target.region
        self._operations = RowKind.DETAILS.operations if target.public else telemetry.operations
        self._behind = behind

    def repositories(self) -> Fetch[str]:
        """See `Registry`."""
        return self._telemetry.timed(self._operations[0], self._region, self._behind.repositories())

    def images(self, repository: str, part: Part | None = None) -> Fetch[Image]:
        """See `Registry`."""
        return self._telemetry.timed(self._operations[1], self._region, self._behind.images(repository, part))

    def parts(self, split: Split) -> Sequence[Part]:
        """See `Registry`."""
        return self._behind.parts(split)
