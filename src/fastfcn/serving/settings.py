"""Settings of the service, with defaults for one machine."""

from dataclasses import dataclass

MIB = 2**20


@dataclass(frozen=True)
class Settings:
    """Settings of `fastfcn serve`.

    `name`: of the model; `origins`: other origins whose pages may send requests; `hosts`: names of this service that
    are accepted in the Host header besides those of `hosts.py`, "*" for all. `max_batch`: most images that run
    together, None: by device. `max_bytes`, `max_pixels`, `max_side`: limits of an image; `max_images`: of a batch.
    `max_waiting`: most images in the queue; `queue_seconds`: longest expected wait that is accepted. Seconds:
    `timeout` from the end of a request to its response, `decode_timeout` for decoding an image, `body_timeout` for
    receiving the body, `head_timeout` for receiving the headers. `upload_bytes`: limit of all request bodies in
    memory; `connections`: most open sockets.
    """

    name: str = "network"
    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = None
    origins: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    max_batch: int | None = None
    max_waiting: int = 20
    queue_seconds: float = 10.0
    timeout: float = 60.0
    decode_timeout: float = 5.0
    body_timeout: float = 30.0
    head_timeout: float = 10.0
    max_bytes: int = 20 * MIB
    max_pixels: int = 2**23
    max_side: int = 16_384
    max_images: int = 16
    upload_bytes: int = 256 * MIB
    connections: int = 512

    @property
    def max_body(self) -> int:
        """Largest body of a batch in bytes: four images of the maximum size, or more smaller ones."""
        return 4 * self.max_bytes

    @property
    def is_local(self) -> bool:
        """Whether the service is reachable from this machine only."""
        return self.host in ("127.0.0.1", "localhost", "::1")


def default_batch(device_type: str) -> int:
    """A good batch size: 1 on a CPU, which a single image already keeps busy; 8 on a GPU."""
    return 1 if device_type == "cpu" else 8
