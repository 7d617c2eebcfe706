"""Labels of images that are too large for the memory, part by part.

With the context "window", the network sees overlapping windows, whose mean logits are those of `sliding_window`. With
the context "whole", it sees tiles with a halo, and what it computes from the whole image is added up in a pass before
(`ops.tiling`): labels are those of the whole image at once, up to rounding.
"""

from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import replace
from itertools import product

import torch
from torch import Tensor

from fastfcn.errors import DataError
from fastfcn.models.segmenter import Segmenter
from fastfcn.ops.tiling import ALIGNMENT, Place, Span, Tile, Totals, TotalsMissingError, processing, resize_part
from fastfcn.ops.upsample import STRIP_ELEMENTS, label_type
from fastfcn.prediction.receptive_field import receptive_field
from fastfcn.prediction.sliding_window import Block, OpenSums, Window, in_batches, mean_blocks, windows
from fastfcn.recipes.inference import InferenceSettings, Tiles
from fastfcn.utils.prefetch import prefetch
from fastfcn.utils.sizes import Size

Read = Callable[[Window], Tensor]  # normalized images (B, 3, h, w) of a part, on the device of the network


def prepare_tiles(settings: InferenceSettings, create: Callable[[], Segmenter]) -> InferenceSettings:
    """The settings with what tiles need to know about the network, which `create` returns. Raises UserError."""
    tiles = settings.tiles
    if tiles is None or tiles.context == "window":
        return settings
    field = receptive_field(create)
    return replace(
        settings, tiles=replace(tiles, halo=field.halo, passes=field.totals + 1, whole_cells=field.needs_whole_cells)
    )


class TiledLabels:
    """The labels of images (B, 3, H, W) of one `size`, which are read part by part.

    Iterating yields a `Block` of labels (B, rows, columns), or None where a step ends without one; there are `steps` of
    them. `open_sums`: see `mean_blocks`.
    """

    def __init__(
        self, model: Segmenter, settings: InferenceSettings, size: Size, read: Read,
        open_sums: OpenSums | None = None,
    ):  # fmt: skip
        """Raises DataError for an image that the network cannot process in tiles."""
        assert settings.tiles
        self.model, self.settings, self.size, self.read = model, settings, size, read
        self.tiles: Tiles = settings.tiles
        self._open_sums: OpenSums = {} if open_sums is None else open_sums
        if self.tiles.context == "whole":
            self._places = tile_places(size, self.tiles)
            self.steps = self.passes * len(self._places)
        else:
            assert settings.window
            assert settings.stride
            self._windows = windows(size, settings.window, settings.stride)
            self.steps = len(self._windows)

    @property
    def passes(self) -> int:
        """How often the image is read; one that is not larger than a tile is processed at once."""
        return 1 if self.tiles.context == "window" or len(self._places) == 1 else self.tiles.passes

    @property
    def plan(self) -> str:
        """What will be done, and what it costs, in one line."""
        pixels = self.size[0] * self.size[1]
        if self.tiles.context == "window":
            height, width = self._windows[0].bottom, self._windows[0].right
            cost = len(self._windows) * height * width / pixels
            return f"{self.steps} windows of {height}x{width}; the network processes {cost:.2f} times the pixels"
        outer = sum(rows.size * columns.size for _, (rows, columns) in self._places)
        return (
            f"{len(self._places)} tiles of {self.tiles.side} pixels with a halo of {self.tiles.halo}, "
            f"{self.passes} pass{'es' if self.passes > 1 else ''}; "
            f"the network processes {self.passes * outer / pixels:.2f} times the pixels"
        )

    def __iter__(self) -> Generator[Block | None]:
        return self._in_windows() if self.tiles.context == "window" else self._in_tiles()

    def _in_windows(self) -> Generator[Block]:
        """Windows side by side are processed as one batch, as many as fit into a tile."""
        height, width = self._windows[0].bottom, self._windows[0].right
        pixels = max(self.model.batch_pixels, self.tiles.side * height)
        with closing(prefetch(map(self.read, self._windows), max(1, self.tiles.side // width))) as images:
            parts = (part.contiguous(memory_format=torch.channels_last) for part in images)
            logits = (part.float() for part in in_batches(self.model, parts, pixels))
            for top, left, values in mean_blocks(logits, self._windows, self.size, self._open_sums):
                values = values.contiguous(memory_format=torch.channels_last)  # argmax is ten times as fast then
                yield Block(top, left, values.argmax(1).to(label_type(values.shape[1])))

    def _in_tiles(self) -> Generator[Block | None]:
        totals = Totals()
        reads = (self.read(_window(outer)) for _ in range(self.passes) for _, outer in self._places)
        with closing(prefetch(reads, 1)) as images:
            for _ in range(self.passes):
                for core, outer in self._places:
                    part = next(images).contiguous(memory_format=torch.channels_last)
                    labels = self._tile_labels(part, Tile(core, outer, totals))
                    yield None if labels is None else Block(core[0].start, core[1].start, labels)
                totals.finish_pass()

    def _tile_labels(self, images: Tensor, tile: Tile) -> Tensor | None:
        """The labels of a tile's core, (B, h, w); None in a pass that adds up a total."""
        if len(self._places) == 1:
            return self.model.labels(images)
        with processing(tile):
            try:
                logits = self.model.logits(images)
            except TotalsMissingError:
                return None
        return _core_labels(logits, tile, self.model.align_corners)


def tile_places(size: Size, tiles: Tiles) -> list[tuple[Place, Place]]:
    """Core and outer part of each tile of an image of `size`, row by row. Raises DataError."""
    side = tiles.side // ALIGNMENT * ALIGNMENT
    axes = [
        [
            (
                Span(start, min(start + side, length), length),
                Span(max(start - tiles.halo, 0), min(start + side + tiles.halo, length), length),
            )
            for start in range(0, length, side)
        ]
        for length in size
    ]
    places = [((rows[0], columns[0]), (rows[1], columns[1])) for rows, columns in product(*axes)]
    if len(places) > 1 and tiles.whole_cells and any(length % ALIGNMENT for length in size):
        raise DataError(
            f"With this network, an image with the context of the whole image needs sides that are multiples of "
            f"{ALIGNMENT}; this one has {size[1]} x {size[0]} pixels.",
            "Crop or pad the image, or use --context window.",
        )
    return places


def _window(place: Place) -> Window:
    rows, columns = place
    return Window(rows.start, columns.start, rows.stop, columns.stop)


def _core_labels(logits: Tensor, tile: Tile, align_corners: bool) -> Tensor:
    """Labels (B, h, w) of a tile's core, from the logits of its outer part; in strips, as `upsample_labels`."""
    batch, classes = logits.shape[:2]
    before, (rows, columns) = tile.place(logits.shape[-2:]), tile.core
    step = max(1, STRIP_ELEMENTS // (batch * classes * columns.size))
    strips = []
    for top in range(rows.start, rows.stop, step):
        strip = Span(top, min(top + step, rows.stop), rows.length)
        strips.append(resize_part(logits, before, (strip, columns), align_corners).argmax(1).to(label_type(classes)))
    return torch.cat(strips, 1)
