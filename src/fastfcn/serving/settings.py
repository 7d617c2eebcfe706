"""The settings of a service; every limit has a default that one machine can keep."""

from dataclasses import dataclass

MIB = 2**20


@dataclass(frozen=True)
class Settings:
    """What `fastfcn serve` was told.

    `max_batch` images at most run together, None = as suits the device. `max_bytes` and `max_pixels` bound one image,
    `max_images` a batch. `max_waiting` images at most wait for the
    network, and none that would have to wait longer than `queue_seconds`. `timeout` is what a request may take from
    its last byte on, `body_timeout` what its body may take to arrive, `head_timeout` its headers (seconds).
    `upload_bytes` bounds all bodies that are in memory at once, `connections` the open sockets.
    """

    name: str = "network"
    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = None
    origins: tuple[str, ...] = ()
    max_batch: int | None = None
    max_waiting: int = 20
    queue_seconds: float = 10.0
    timeout: float = 60.0
    body_timeout: float = 30.0
    head_timeout: float = 10.0
    max_bytes: int = 20 * MIB
    max_pixels: int = 2**23
    max_images: int = 16
    upload_bytes: int = 256 * MIB
    connections: int = 512

    @property
    def max_body(self) -> int:
        """Bytes of one request's body: a batch may hold four images of the largest kind, and many smaller ones."""
        return 4 * self.max_bytes

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the service."""
        return self.host in ("127.0.0.1", "localhost", "::1")


def default_batch(device_type: str) -> int:
    """Images that are worth running together: one on a processor, which one image keeps busy; eight on a GPU."""
    return 1 if device_type == "cpu" else 8
