"""`fastfcn serve`: a weights file behind HTTP, with a web page."""

import signal
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from fastfcn.errors import MissingExtraError, UserError
from fastfcn.prediction.load import load
from fastfcn.serving.app import create_app
from fastfcn.serving.logs import note, start_logging
from fastfcn.serving.protocol import guarded_protocol
from fastfcn.serving.service import Service
from fastfcn.serving.settings import Settings, default_batch

if TYPE_CHECKING:
    from uvicorn import Server

WRITE_TIMEOUT = 30.0  # seconds that a reader may stand still
KEEP_ALIVE = 30  # seconds between two requests of a connection


def serve(
    weights: str | Path,
    settings: Settings,
    devices: tuple[str, ...] = ("auto",),
    workers: int = 1,
    trusted: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> None:
    """Serve `weights` until SIGTERM or Ctrl-C; what was accepted is finished then.

    `workers` predictors on each of `devices`; `trusted` allows files that run code when they are loaded. Raises
    UserError for weights, devices or an address that cannot be used, MissingExtraError without the extra `serve`.
    """
    _check_extra()
    listener = listen(settings.host, settings.port)
    start_logging()
    service = make_service(weights, settings, devices, workers, trusted)
    service.warm_up()
    address = address_of(listener, settings.host)
    server = make_server(service, lambda: note("started", url=address, **service.about))
    say(f"Serving {weights} at {address}")
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signal_number, lambda *_: None)  # the server sends itself once more what ended it
    server.run([listener])
    note("stopped", images=service.metrics.images._value.get())


def make_service(
    weights: str | Path, settings: Settings, devices: tuple[str, ...], workers: int, trusted: bool = False
) -> Service:
    """Predictors on every device, behind a queue. Raises UserError."""
    predictors = [load(weights, device, trusted) for device in devices for _ in range(workers)]
    if predictors[0].device.type == "cpu" and len(predictors) > 1:
        torch.set_num_threads(max(1, torch.get_num_threads() // len(predictors)))
    settings = replace(settings, max_batch=settings.max_batch or default_batch(predictors[0].device.type))
    about = {
        "recipe": predictors[0].recipe.name,
        "summary": predictors[0].recipe.summary,
        "devices": [str(each.device) for each in predictors],
        "max_batch": settings.max_batch,
        "crop": predictors[0].recipe.data.crop,
    }
    return Service(predictors, settings, about)


def make_server(service: Service, started: Callable[[], None] = lambda: None) -> "Server":
    """uvicorn's server of the application; it ends with `server.should_exit = True`."""
    from uvicorn import Config, Server

    class Draining(Server):
        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            service.ready = False
            await super().shutdown(sockets)

    settings = service.settings
    protocol: Any = guarded_protocol(settings.head_timeout, WRITE_TIMEOUT, settings.connections)
    config = Config(
        create_app(service, started),
        http=protocol,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=round(settings.timeout + settings.body_timeout) + 5,
        backlog=2 * settings.connections,
        proxy_headers=False,
    )
    return Draining(config)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket, before minutes go into loading; port 0 takes a free one. Raises UserError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except (OSError, OverflowError) as error:
        listener.close()
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(
            f"Cannot listen at {host}, port {port}: {reason.lower()}.", "Choose another --port or --host."
        ) from error
    return listener


def address_of(listener: socket.socket, host: str) -> str:
    """The address to type into a browser."""
    port = listener.getsockname()[1]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def _check_extra() -> None:
    for package in ("fastapi", "uvicorn", "python_multipart", "prometheus_client"):
        try:
            __import__(package)
        except ImportError as error:
            raise MissingExtraError(package, "serve", "The service") from error
