"""`fastfcn serve`: an HTTP service with a web page."""

from math import isfinite
from typing import Annotated

import typer

from fastfcn.cli.options import (
    MODEL_HELP,
    TOKEN,
    InputSize,
    Overlap,
    Precision,
    Tile,
    TileContext,
    Tta,
    Window,
    check_weights,
)
from fastfcn.utils.console import error_console, styled


def finite(value: float) -> float:
    """An option's value; nan and inf are refused."""
    if not isfinite(value):
        raise typer.BadParameter(f"{value} is not a finite number.")
    return value


def serve(
    weights: Annotated[str, typer.Argument(metavar="WEIGHTS", help=MODEL_HELP)],
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all interfaces.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 for any free port.")] = 8000,
    token: Annotated[str | None, typer.Option(envvar=TOKEN, help="Require this bearer token.")] = None,
    allow_origin: Annotated[list[str] | None, typer.Option(help="Allow pages of this origin; repeatable.")] = None,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(
            help="Accept this host name in requests; repeatable, * for all (default: localhost and IP addresses; with "
            "a token, all)."
        ),
    ] = None,
    device: Annotated[list[str] | None, typer.Option(help="auto, cpu, cuda, cuda:1 or mps; repeatable.")] = None,
    size: InputSize = None,
    tta: Tta = False,
    window: Window = None,
    overlap: Overlap = None,
    tile: Tile = None,
    context: TileContext = "window",
    precision: Precision = "32-true",
    workers: Annotated[int, typer.Option(min=1, max=64, help="Copies of the network on each device.")] = 1,
    max_batch: Annotated[
        int | None, typer.Option(min=1, max=64, help="Most images per batch (default: 1 on a CPU, 8 on a GPU).")
    ] = None,
    max_waiting: Annotated[int, typer.Option(min=1, help="Most images in the queue; further ones get a 503.")] = 20,
    queue_seconds: Annotated[
        float, typer.Option(min=0.1, callback=finite, help="Longest accepted wait in the queue, seconds.")
    ] = 10.0,
    timeout: Annotated[
        float, typer.Option(min=1, callback=finite, help="Time limit of a request, seconds (504).")
    ] = 60.0,
    upload_timeout: Annotated[
        float, typer.Option(min=1, callback=finite, help="Time limit of an upload, seconds (408).")
    ] = 30.0,
    max_mib: Annotated[float, typer.Option(min=0.01, callback=finite, help="Largest image file, MiB (413).")] = 20.0,
    max_megapixels: Annotated[
        float, typer.Option(min=0.001, callback=finite, help="Largest image, million pixels (413).")
    ] = 8.4,
    max_side: Annotated[int, typer.Option(min=1, help="Longest side of an image, pixels (413).")] = 16_384,
    decode_timeout: Annotated[
        float, typer.Option(min=0.1, callback=finite, help="Time limit of decoding an image, seconds (413).")
    ] = 5.0,
    trusted: Annotated[bool, typer.Option("--trusted", help="Allow files that contain code (.pt2).")] = False,
) -> None:
    """Serve a network over HTTP, with a web page. SIGTERM or Ctrl-C finishes accepted requests, then stops.

    Requires: pip install 'fastfcn\\[serve]'

    [dim]fastfcn serve runs/camvid/weights.safetensors\n
    fastfcn serve weights.safetensors --host 0.0.0.0 --token SECRET --device cuda:0 --device cuda:1[/]
    """
    check_weights(weights)
    from fastfcn.recipes.inference import check_sizes, check_tiles
    from fastfcn.serving.serve import serve as run_service
    from fastfcn.serving.settings import MIB, Settings
    from fastfcn.weights.locate import model_name

    check_sizes(size, window)
    check_tiles(size, tta, window, overlap, tile, context)
    devices = tuple(device or ["auto"])
    settings = Settings(
        name=model_name(weights),
        host=host,
        port=port,
        token=token or None,
        hosts=tuple(allowed_host or ()),
        origins=tuple(origin.rstrip("/") for origin in allow_origin or ()),
        max_batch=max_batch,
        max_waiting=max_waiting,
        queue_seconds=queue_seconds,
        timeout=timeout,
        body_timeout=upload_timeout,
        max_bytes=round(max_mib * MIB),
        max_side=max_side,
        decode_timeout=decode_timeout,
        max_pixels=round(max_megapixels * 1e6),
    )
    if not settings.is_local and not settings.token:
        _warn_open_access(host)
    run_service(
        weights, settings, devices, workers, trusted, _announce, precision,
        size=size, tta=tta, window=window, overlap=overlap, tile=tile, context=context,
    )  # fmt: skip


def _warn_open_access(host: str) -> None:
    text = f"no authentication is enabled, and {host} is reachable from other machines. Require a token with --token."
    error_console.print_line(styled("[bold yellow]Warning:[/] {}", text))


def _announce(text: str) -> None:
    """Print to stderr: stdout has the log."""
    error_console.print_line(styled("[bold]{}[/]  [dim](Ctrl-C to stop)[/]", text))
