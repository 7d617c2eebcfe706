"""The drawn data set on disk."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from fastfcn.data.description import load_description
from fastfcn.demo.streets.painting import draw
from fastfcn.utils.files import make_folder, replace_file

Progress = Callable[[int, int], None]


def write(
    folder: str | Path, train: int, val: int, seed: int = 0, size: tuple[int, int] = (128, 192),
    progress: Progress | None = None,
) -> Path:  # fmt: skip
    """Draw `train` and `val` scenes of `size` = (height, width) into `folder`: the data set `streets`.

    The files are images/{split}/NNNN.png (RGB) and labels/{split}/NNNN.png (palette). The same `seed` gives
    the same pixels, and no scene is in both splits. `progress` is called with (drawings done, of how many).
    Raises OutputError where nothing can be written.
    """
    palette = bytes(channel for color in load_description("streets").colors for channel in color)
    done, total = 0, train + val
    for split, count in (("train", train), ("val", val)):
        folders = [make_folder(Path(folder) / kind / split) for kind in ("images", "labels")]
        for index in range(count):
            image, label = draw(scene_seed(seed, split, index), size)
            mask = Image.fromarray(label)
            mask.putpalette(palette)
            for picture, place in zip((Image.fromarray(image), mask), folders, strict=True):
                with replace_file(place / f"{index:04d}.png") as temporary:
                    picture.save(temporary, compress_level=1)
            done += 1
            if progress:
                progress(done, total)
    return Path(folder)


def scene_seed(seed: int, split: str, index: int) -> int:
    """Return the seed of one drawing: another one for each of a data set's scenes."""
    return int(np.random.SeedSequence([seed, ("train", "val").index(split), index]).generate_state(1, np.uint64)[0])
