"""`fastfcn pack`: pack a dataset into shards, in a folder or in object storage."""

import os
import shlex
from pathlib import Path
from typing import Annotated

import typer

from fastfcn.errors import UserError
from fastfcn.utils.console import say


def pack(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Dataset folder.")],
    out: Annotated[str, typer.Option(metavar="DIR", help="New folder or URL, such as s3://bucket/name.")],
    dataset: Annotated[
        str,
        typer.Option(help="Name of a known dataset, or path of a description (default: dataset.toml in the folder)."),
    ] = "",
    split: Annotated[
        list[str] | None, typer.Option(help="Split to pack; can be repeated (default: all that the folder has).")
    ] = None,
    shard_size: Annotated[float, typer.Option(min=1, metavar="MB", help="Size of a shard in MB.")] = 256,
    workers: Annotated[int | None, typer.Option(min=1, help="Number of threads (default: by CPU cores).")] = None,
) -> None:
    """Pack a dataset into tar shards with an index, to train from object storage.

    Images and masks are stored byte for byte, in the format of webdataset. All masks are checked; train does not read
    them again to check them. An interrupted call continues when it is repeated. train, evaluate and report take OUT as
    --data. S3 (s3://), Google Cloud (gs://) and Azure (az://) need the extra `cloud`.

    [dim]fastfcn pack photos --out s3://bucket/photos\n
    fastfcn pack CamVid --dataset camvid --out packed --split train --split val[/]
    """
    description = dataset or str(folder / "dataset.toml")
    if not dataset and not (folder / "dataset.toml").is_file():
        raise UserError(
            f"{folder} contains no dataset.toml.", "Name a known dataset or the path of a description with --dataset."
        )
    from fastfcn.data.description import load_description
    from fastfcn.data.packing import pack as pack_dataset

    threads = workers or min(8, os.cpu_count() or 1)
    result = pack_dataset(load_description(description), folder, out, split or [], shard_size, threads)
    images = ", ".join(f"{count} images of {name}" for name, count in result.images.items())
    kept = f" ({result.kept} written before)" if result.kept else ""
    say("Packed {} into {} shards{}, {:.1f} MB: {}", images, result.shards, kept, result.bytes / 1e6, result.place)
    say("[dim]Next: fastfcn train RECIPE --data {} --out RUN[/]", shlex.quote(result.place))
