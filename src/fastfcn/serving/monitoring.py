"""Monitoring: logs as JSON lines on standard output, and Prometheus metrics."""

import json
import logging
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TextIO

from fastfcn.serving.batcher import Job

LOGGER = logging.getLogger("fastfcn.serving.serve")
SERVER_LOGGERS = ("uvicorn.error", "uvicorn.access", "fastapi", "asyncio")
SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 60.0)  # histogram buckets


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time, level, event, and the record's `fields`."""

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        event = record.getMessage().partition("\n")[0]
        line: dict[str, Any] = {"time": time, "level": record.levelname.lower(), "event": event}
        line |= getattr(record, "fields", {})
        if record.exc_info and record.name == "asyncio" and isinstance(record.exc_info[1], OSError):
            line["error"] = str(record.exc_info[1])  # of the system, as too many open files: no traceback explains it
        elif record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class LogHandler(logging.StreamHandler):
    """Writes to a stream; if it cannot (a closed pipe, a full disk), the service continues without these lines."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (the name in logging)
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


def start_logging(stream: TextIO = sys.stdout) -> None:
    """Write the service's log, and warnings of the HTTP server, to `stream`."""
    handler = LogHandler(stream)
    handler.setFormatter(JsonFormatter())
    for name in (LOGGER.name, *SERVER_LOGGERS):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(logging.WARNING)
    LOGGER.setLevel(logging.INFO)
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # it warns about every malformed request


def log_event(event: str, level: int = logging.INFO, error: BaseException | None = None, **fields: Any) -> None:
    """Write one line to the log."""
    LOGGER.log(level, event, extra={"fields": fields}, exc_info=error)


class Metrics:
    """Prometheus counters and histograms; `expose()` is the body of `GET /metrics`."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)

        def counter(name: str, text: str, labels: tuple[str, ...] = ()) -> Counter:
            return Counter(f"fastfcn_{name}", text, labels, registry=self.registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...], labels: tuple[str, ...] = ()) -> Histogram:
            return Histogram(f"fastfcn_{name}", text, labels, buckets=buckets, registry=self.registry)

        self.requests = counter("requests", "Requests answered", ("path", "status"))
        self.problems = counter("problems", "Requests refused, by problem code", ("code",))
        self.request_seconds = histogram("request_seconds", "Time from headers to response", SECONDS, ("path",))
        self.images = counter("images", "Images processed by the network")
        self.pixels = counter("pixels", "Pixels processed by the network")
        self.wait_seconds = histogram("wait_seconds", "Time of an image in the queue", SECONDS)
        self.infer_seconds = histogram("infer_seconds", "Time of a batch in the network", SECONDS)
        self.batch_images = histogram("batch_images", "Images per batch", (1, 2, 4, 8, 16, 32))
        self.gauge = lambda name, text: Gauge(f"fastfcn_{name}", text, registry=self.registry)

    def watch(self, waiting: Callable[[], float], expected: Callable[[], float], uploads: Callable[[], float]) -> None:
        """Add gauges of the queue and of uploads, read whenever the metrics are."""
        self.gauge("waiting_images", "Images in the queue").set_function(waiting)
        self.gauge("expected_wait_seconds", "Expected wait of a new image").set_function(expected)
        self.gauge("upload_bytes", "Bytes of request bodies in memory").set_function(uploads)

    def observe(self, jobs: list[Job]) -> None:
        """Count a finished batch."""
        self.images.inc(len(jobs))
        self.pixels.inc(sum(job.image.shape[0] * job.image.shape[1] for job in jobs))
        self.batch_images.observe(len(jobs))
        self.infer_seconds.observe(jobs[0].finished - jobs[0].started)
        for job in jobs:
            self.wait_seconds.observe(job.started - job.queued)

    def expose(self) -> tuple[bytes, str]:
        """The metrics in Prometheus's text format, and their content type."""
        from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

        return generate_latest(self.registry), CONTENT_TYPE_LATEST
