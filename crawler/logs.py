"""Log lines on standard error: one event each, as text or as JSON."""

from __future__ import annotations

import logging
import sys
from typing import Literal, TextIO

import structlog

LogFormat = Literal["text", "json"]

#: Libraries whose DEBUG lines hold signatures and session tokens. They never say more than a warning, whatever `-v`.
_TALKATIVE = ("botocore", "aiobotocore", "boto3", "urllib3", "aiohttp", "asyncio")


class _StandardError(logging.StreamHandler[TextIO]):
    """Writes to what `sys.stderr` is when it writes: a live progress display puts itself in its place."""

    def __init__(self) -> None:
        super().__init__(sys.stderr)

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


def configure(log_format: LogFormat, verbosity: int) -> None:
    """Send the log to standard error: warnings, with `verbosity` 1 also what happens, with 2 every detail of ours."""
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if log_format == "json"
        else structlog.processors.KeyValueRenderer(key_order=["timestamp", "level", "event"], drop_missing=True)
    )
    handler = _StandardError()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[
                structlog.stdlib.add_log_level,
                structlog.stdlib.add_logger_name,
                structlog.stdlib.ExtraAdder(),
                structlog.processors.TimeStamper(fmt="iso", utc=True),
            ],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel({0: logging.WARNING, 1: logging.INFO}.get(verbosity, logging.DEBUG))
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
