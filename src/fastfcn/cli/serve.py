"""`fastfcn serve`: an HTTP service with a web page."""

from pathlib import Path
from typing import Annotated

import typer

from fastfcn.cli.options import TOKEN
from fastfcn.cli.output import error_console, plain, print_error
from fastfcn.errors import UserError


def serve(
    weights: Annotated[str, typer.Argument(help="A weights file or exported network, or hf://USER/NAME.")],
    host: Annotated[str, typer.Option(help="Address to listen at; 0.0.0.0 for all of this machine's.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 for one that is free.")] = 8000,
    token: Annotated[str | None, typer.Option(envvar=TOKEN, help="Ask for it as a bearer token.")] = None,
    allow_origin: Annotated[list[str] | None, typer.Option(help="A site whose pages may ask; again for more.")] = None,
    device: Annotated[list[str] | None, typer.Option(help="auto, cpu, cuda, cuda:1, mps; again for more.")] = None,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Copies of the network on each device.")] = 1,
    max_batch: Annotated[
        int | None, typer.Option(min=1, max=64, help="Images that run together; else 1 on a processor, 8 on a GPU.")
    ] = None,
    max_waiting: Annotated[int, typer.Option(min=1, help="Images that may wait; more are refused (503).")] = 20,
    queue_seconds: Annotated[float, typer.Option(min=0.1, help="Longest expected wait that is accepted.")] = 10.0,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds that an answer may take (504).")] = 60.0,
    upload_timeout: Annotated[float, typer.Option(min=1, help="Seconds that an image may take to arrive.")] = 30.0,
    max_mib: Annotated[float, typer.Option(min=0.01, help="Size of an image's file (413).")] = 20.0,
    max_megapixels: Annotated[float, typer.Option(min=0.001, help="Pixels of an image, in millions (413).")] = 8.4,
    trusted: Annotated[bool, typer.Option("--trusted", help="Load files that run code of their own (.pt2).")] = False,
) -> None:
    """Serve a network over HTTP, with a web page. SIGTERM or Ctrl-C finishes what was accepted, and stops.

    Needs: pip install 'fastfcn\\[serve]'

    [dim]fastfcn serve runs/camvid/weights.safetensors\n
    fastfcn serve weights.safetensors --host 0.0.0.0 --token SECRET --device cuda:0 --device cuda:1[/]
    """
    from fastfcn.serving.serve import serve as run_service
    from fastfcn.serving.settings import MIB, Settings

    devices = tuple(device or ["auto"])
    settings = Settings(
        name=service_name(weights),
        host=host,
        port=port,
        token=token or None,
        origins=tuple(each.rstrip("/") for each in allow_origin or ()),
        max_batch=max_batch,
        max_waiting=max_waiting,
        queue_seconds=queue_seconds,
        timeout=timeout,
        body_timeout=upload_timeout,
        max_bytes=round(max_mib * MIB),
        max_pixels=round(max_megapixels * 1e6),
    )
    if not settings.is_local and not settings.token:
        print_error(UserError("Whoever reaches this machine may use the service.", "Ask for a token with --token."))
    run_service(weights, settings, devices, workers, trusted, _announce)


def service_name(weights: str) -> str:
    """What the service calls its network: the file's name, or its folder's where that says nothing."""
    path = Path(weights)
    return path.parent.name if path.stem == "weights" and path.parent.name else path.stem


def _announce(text: str) -> None:
    """On the error stream: the other one carries the log."""
    error_console.print(f"[bold]{plain(text)}[/]  [dim](Ctrl-C stops)[/]", highlight=False, soft_wrap=True)
