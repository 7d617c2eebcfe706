"""Arguments and options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

from fastfcn.errors import WEIGHTS_HINT, MissingFileError, WeightsError

Changes = Annotated[
    list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Overrides of the recipe, such as optim.lr=0.02.")
]
Data = Annotated[
    str,
    typer.Option(
        metavar="DIR", help="Dataset folder, or a packed dataset: its folder or URL, such as s3://bucket/name."
    ),
]
Images = Annotated[
    str, typer.Option("--images", metavar="DIR", help="Folder of the images, below DIR, if several could be meant.")
]
Masks = Annotated[
    str, typer.Option("--masks", metavar="DIR", help="Folder of the masks, below DIR, if several could be meant.")
]
Bands = Annotated[
    str,
    typer.Option(
        "--bands",
        metavar="A,B,C",
        help="Names of all bands of the image files, in their order: reads stored values instead of RGB.",
    ),
]
Nodata = Annotated[
    float | None, typer.Option("--nodata", help="Value of missing pixels in the bands (default: as the files say).")
]
InputSize = Annotated[
    str | None,
    typer.Option(
        "--size", metavar="HxW", help="Fit images into this size; image: their own size (default: as the recipe says)."
    ),
]
Window = Annotated[str | None, typer.Option(metavar="HxW", help="Process images in overlapping windows of this size.")]
Overlap = Annotated[
    float | None,
    typer.Option(help="Overlap of windows, as a share of their sides (default: 0.33; with --tile 0.125)."),
]
Tile = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Process large images part by part, at their own size: pixels per side of a part (2048).",
    ),
]
TileContext = Annotated[
    str,
    typer.Option(
        "--context",
        help="What the network sees with --tile: window (windows of the size of the training crops, or --window), or "
        "whole (labels are those of the whole image at once; takes two passes).",
    ),
]
Tta = Annotated[bool, typer.Option("--tta", help="Test-time augmentation: average over the recipe's scales and flips.")]
Split = Annotated[str | None, typer.Option(help="Split to evaluate (default: the recipe's validation split).")]
Devices = Annotated[
    int, typer.Option(min=1, help="Number of devices to use, one process per device (torchrun, srun: that of the job).")
]
Nodes = Annotated[int, typer.Option(min=1, help="Number of machines (torchrun, srun: that of the job).")]
Workers = Annotated[int | None, typer.Option(min=0, help="Dataloader workers per device (default: by CPU cores).")]
JsonFile = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Also write the results to FILE.")]
Threads = Annotated[int | None, typer.Option(min=1, help="Number of CPU threads (default: PyTorch's).")]
Precision = Annotated[str, typer.Option(help="Numeric precision: 32-true, bf16-mixed (short: bf16) or 16-mixed.")]
Trusted = Annotated[bool, typer.Option("--trusted", help="Allow a .pt2 file to run the code in it.")]
Accelerator = Annotated[str, typer.Option(help="Device type: auto, cpu, cuda or mps.")]

WEIGHTS_HELP = "Weights file, recipe with published weights (downloaded once), or hf://USER/NAME."
MODEL_HELP = "Weights file, exported file, recipe with published weights (downloaded once), or hf://USER/NAME."

TOKEN = "FASTFCN_TOKEN"  # environment variable with the bearer token of a service


def band_names(text: str) -> tuple[str, ...]:
    """The names given with --bands."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def check_weights(path: str | Path, hint: str = WEIGHTS_HINT) -> None:
    """Raise WeightsError if there are no weights of that name, before PyTorch is imported; hf:// addresses pass."""
    if str(path).startswith("hf://") or Path(path).exists():
        return
    from fastfcn.recipes.published import published_recipe, similar_name

    if published_recipe(path) is None:
        similar = "" if Path(path).suffix else similar_name(str(path))
        if similar:
            raise WeightsError(f"There is no file and no published model {path}{similar}", hint)
        raise MissingFileError(path, hint)


def check_network(name: str, changes: list[str]) -> None:
    """Raise a UserError if a recipe or weights file does not exist or is invalid, before PyTorch is imported."""
    from fastfcn import recipes

    if Path(name).suffix in ("", ".toml"):
        recipes.load(name, changes)
    else:
        check_weights(name)


def split_changes(arguments: list[str] | None) -> tuple[list[str], list[str]]:
    """Split the arguments of `bench` and `profile` into names and KEY=VALUE changes."""
    names = [argument for argument in arguments or [] if "=" not in argument]
    return names, [argument for argument in arguments or [] if "=" in argument]
