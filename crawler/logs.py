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


def _told(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Without what libraries note in each line for themselves, as Ray does."""
    return {name: value for name, value in event.items() if not name.startswith("_")}


def configure(log_format: LogFormat, verbosity: int) -> None:
    """Send the log to standard error: warnings, with `verbosity` 1 also what happens, with 2 every detail of ours."""
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=False, pad_event_to=0, pad_level=False)
    )
    facts: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    wrapper = structlog.stdlib.ProcessorFormatter
    handler = _StandardError()
    handler.setFormatter(
        wrapper(
            foreign_pre_chain=[structlog.stdlib.ExtraAdder(), *facts],
            processors=[wrapper.remove_processors_meta, _told, renderer],
        )
    )
    # structlog's own default prints to standard output, which belongs to the rows.
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *facts, wrapper.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel({0: logging.WARNING, 1: logging.INFO}.get(verbosity, logging.DEBUG))
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
    # It logs a traceback for each profile that cannot be used, which the ledger and the summary tell already.
    logging.getLogger("aiobotocore.credentials").setLevel(logging.ERROR)


def leave_to_the_caller() -> None:
    """Hand every event to Python's logging, for a program that has its own, unless that has configured structlog too.

    structlog's own default prints to standard output, which is the caller's.
    """
    if not structlog.is_configured():
        structlog.configure(
            processors=[structlog.stdlib.filter_by_level, structlog.stdlib.render_to_log_kwargs],
            wrapper_class=structlog.stdlib.BoundLogger,
            logger_factory=structlog.stdlib.LoggerFactory(),
        )
