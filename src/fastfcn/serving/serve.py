"""`fastfcn serve`: run the HTTP service of a weights file."""

import signal
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import torch

from fastfcn.errors import MissingExtraError, UserError
from fastfcn.prediction.load import load
from fastfcn.recipes.inference import InferenceChanges
from fastfcn.serving.app import create_app
from fastfcn.serving.connection_limits import limited_protocol
from fastfcn.serving.monitoring import log_event, start_logging
from fastfcn.serving.service import Service
from fastfcn.serving.settings import Settings, default_batch
from fastfcn.utils.machine import FULL_PRECISION

if TYPE_CHECKING:
    from uvicorn import Server

WRITE_TIMEOUT = 30.0  # seconds until a client that stops reading is disconnected
KEEP_ALIVE = 30  # seconds that an idle connection stays open
BACKLOG = 2  # connections that may wait to be accepted, for each that may be open; they are accepted all at once
OTHER_FILES = 64  # open at the same time besides connections


def serve(
    weights: str | Path,
    settings: Settings,
    devices: tuple[str, ...] = ("auto",),
    workers: int = 1,
    trusted: bool = False,
    announce: Callable[[str], None] = lambda text: None,
    precision: str = FULL_PRECISION,
    **changes: Unpack[InferenceChanges],
) -> None:
    """Serve `weights` until SIGTERM or Ctrl-C; accepted requests are finished before it returns.

    `workers`: copies of the network on each of `devices`; `trusted`: allow files that run code when loaded;
    `announce`: called with the address when the service is ready; `precision`, `changes`: as for `load`. Raises
    UserError for weights, devices or an address that cannot be used, and MissingExtraError without the extra `serve`.
    """
    _check_extra()
    listener = listen(settings.host, settings.port)
    settings = replace(settings, connections=possible_connections(settings.connections))
    start_logging()
    service = make_service(weights, settings, devices, workers, trusted, precision, **changes)
    service.warm_up()
    address = address_of(listener, settings.host)
    server = make_server(service, lambda: log_event("started", url=address, **service.model_info))
    announce(f"Serving {weights} at {address}")
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signal_number, lambda *_: None)  # uvicorn raises the signal again after shutdown
    server.run([listener])
    log_event("stopped", images=service.metrics.images._value.get())


def make_service(
    weights: str | Path, settings: Settings, devices: tuple[str, ...], workers: int, trusted: bool = False,
    precision: str = FULL_PRECISION, **changes: Unpack[InferenceChanges],
) -> Service:  # fmt: skip
    """A service with `workers` predictors on each device. Raises UserError."""
    predictors = [load(weights, device, trusted, precision, **changes) for device in devices for _ in range(workers)]
    if predictors[0].device.type == "cpu" and len(predictors) > 1:
        torch.set_num_threads(max(1, torch.get_num_threads() // len(predictors)))
    settings = replace(settings, max_batch=settings.max_batch or default_batch(predictors[0].device.type))
    model_info = {
        "recipe": predictors[0].recipe.name,
        "summary": predictors[0].recipe.summary,
        "devices": [str(predictor.device) for predictor in predictors],
        "max_batch": settings.max_batch,
        "precision": ", ".join(dict.fromkeys(predictor.precision for predictor in predictors)),
        "inference": predictors[0].inference.description,
        "crop": predictors[0].recipe.data.crop,
    }
    return Service(predictors, settings, model_info)


def make_server(service: Service, started: Callable[[], None] = lambda: None) -> "Server":
    """A uvicorn server for `service`; stop it with `server.should_exit = True`."""
    from uvicorn import Config, Server

    class DrainingServer(Server):
        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            service.ready = False
            await super().shutdown(sockets)

    settings = service.settings
    protocol: Any = limited_protocol(settings.head_timeout, WRITE_TIMEOUT, settings.connections)
    config = Config(
        create_app(service, started),
        http=protocol,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=round(settings.timeout + settings.body_timeout) + 5,
        backlog=BACKLOG * settings.connections,
        proxy_headers=False,
    )
    return DrainingServer(config)


def listen(host: str, port: int) -> socket.socket:
    """A socket bound to `host` and `port` (0: any free port). Raises UserError.

    Called before the weights are loaded, so that a port in use is reported at once.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol given, asyncio sets TCP_NODELAY on connections. Without it, Nagle's algorithm and delayed
    # acknowledgments hold back every response on a kept-alive connection by 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except (OSError, OverflowError) as error:
        listener.close()
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(
            f"Cannot listen on {host}, port {port}: {reason.lower()}.", "Choose another --port or --host."
        ) from error
    return listener


def possible_connections(count: int) -> int:
    """How many connections may be open at the same time: `count`, or fewer if the process may open fewer files.

    The soft limit of open files is raised if needed. Beyond it, every further connection would be an error in the log.
    """
    try:
        import resource
    except ImportError:  # Windows
        return count
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = (1 + BACKLOG) * count + OTHER_FILES
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return count
    possible = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (possible, hard))
    return max(1, min(count, (possible - OTHER_FILES) // (1 + BACKLOG)))


def address_of(listener: socket.socket, host: str) -> str:
    """The URL of the service."""
    port = listener.getsockname()[1]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def _check_extra() -> None:
    for package in ("fastapi", "uvicorn", "python_multipart", "prometheus_client"):
        try:
            __import__(package)
        except ImportError as error:
            raise MissingExtraError(package, "serve", "The service") from error
