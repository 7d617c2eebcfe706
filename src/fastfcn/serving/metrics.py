"""The service in figures, as Prometheus reads them."""

from collections.abc import Callable

from fastfcn.serving.batcher import Job

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 60.0)


class Metrics:
    """Counters and histograms; `expose()` is the text of `GET /metrics`.

    `waiting` and `expected_wait` are asked for at that moment.
    """

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...], labels: tuple[str, ...] = ()) -> Histogram:
            return Histogram(f"fastfcn_{name}", text, labels, buckets=buckets, registry=self.registry)

        self.requests = Counter(
            "fastfcn_requests", "Requests answered", ("path", "status"), registry=self.registry
        )  # fmt: skip
        self.refused = Counter("fastfcn_problems", "Requests refused, by the code of the problem", ("code",),
                               registry=self.registry)  # fmt: skip
        self.request_seconds = histogram(
            "request_seconds", "From a request's headers to its answer", SECONDS, ("path",)
        )
        self.images = Counter("fastfcn_images", "Images that went through the network", registry=self.registry)
        self.pixels = Counter("fastfcn_pixels", "Pixels that went through the network", registry=self.registry)
        self.wait_seconds = histogram("wait_seconds", "An image's time in the queue", SECONDS)
        self.infer_seconds = histogram("infer_seconds", "A batch's time in the network", SECONDS)
        self.batch_images = histogram("batch_images", "Images of a batch", (1, 2, 4, 8, 16, 32))
        self.gauge = lambda name, text: Gauge(f"fastfcn_{name}", text, registry=self.registry)

    def watch(self, waiting: Callable[[], float], expected: Callable[[], float], bodies: Callable[[], float]) -> None:
        """Have the state of the queue asked for whenever the figures are."""
        self.gauge("waiting_images", "Images that have a place in the queue").set_function(waiting)
        self.gauge("expected_wait_seconds", "What a new image is expected to wait").set_function(expected)
        self.gauge("upload_bytes", "Bytes of bodies in memory").set_function(bodies)

    def observe(self, jobs: list[Job]) -> None:
        """Count a batch."""
        self.images.inc(len(jobs))
        self.pixels.inc(sum(job.image.shape[0] * job.image.shape[1] for job in jobs))
        self.batch_images.observe(len(jobs))
        self.infer_seconds.observe(jobs[0].finished - jobs[0].started)
        for job in jobs:
            self.wait_seconds.observe(job.started - job.asked)

    def expose(self) -> tuple[bytes, str]:
        """The text and its content type."""
        from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

        return generate_latest(self.registry), CONTENT_TYPE_LATEST
