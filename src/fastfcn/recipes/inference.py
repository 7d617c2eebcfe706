"""How images are given to a network: the inference setting that a recipe's `eval` section describes, and changes to it.

Evaluation, prediction, the service and exported files all follow it, so that what is delivered is what was scored.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypedDict

from fastfcn.errors import UserError
from fastfcn.recipes.recipe import Recipe
from fastfcn.utils.sizes import Size

LARGEST = 65_535  # pixels of a side
OWN_SIZE = "image"  # value of --size: the size of the image itself
SizeLike = str | Sequence[int]  # "512x1024" or (512, 1024): height and width in pixels
CONTEXTS = ("window", "whole")
Context = str  # one of CONTEXTS
OVERLAP = 1 / 3  # of windows, as a share of their sides
TILE_OVERLAP = 1 / 8  # the same for tiles, where the time of one large image matters more
SMALLEST_TILE = 128


class InferenceChanges(TypedDict, total=False):
    """The arguments of `inference_settings` that change what a recipe says."""

    size: SizeLike | None
    tta: bool
    window: SizeLike | None
    overlap: float | None
    tile: int | None
    context: Context


@dataclass(frozen=True)
class Tiles:
    """How an image is processed that is too large for the memory, part by part.

    Attributes:
        side: of the parts that are processed at once, in pixels.
        context: "window": the network sees sliding windows. "whole": labels are those of the whole image at once.
        halo, passes: with the context of the whole image, the pixels around a part that its labels depend on, and how
            often the image is read.
        whole_cells: whether tiles need an image whose sides are multiples of the network's stride.
    """

    side: int
    context: Context
    halo: int = 0
    passes: int = 1
    whole_cells: bool = False


@dataclass(frozen=True)
class InferenceSettings:
    """How an image becomes the network's input, and how logits become its segmentation map.

    Attributes:
        mean, std: normalization of RGB values of 0-255, or of the values of each band.
        resize: (height, width) into which images are fitted, turned if necessary; None: their own size.
        tta: whether predictions are averaged over `scales` and, with `flip`, over flips.
        scales, flip: views of test-time augmentation.
        scales_resized: whether `scales` multiply the size after `resize`; False: the image's own size.
        window, stride: (height, width) of sliding windows, and from one to the next; None: no windows.
        long_side: longer side of an image at scale 1.0; windows then vote as in FastFCN's own code, and `resize` is
            not used. None: the logits of windows are averaged.
        tiles: how images are processed part by part; None: at once.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize: Size | None
    scales: tuple[float, ...]
    flip: bool
    tta: bool = False
    scales_resized: bool = False
    window: Size | None = None
    stride: Size | None = None
    long_side: int | None = None
    tiles: Tiles | None = None

    def with_tta(self, tta: bool) -> "InferenceSettings":
        """The same settings with or without test-time augmentation."""
        return replace(self, tta=tta)

    def unnormalized(self) -> "InferenceSettings":
        """The same settings for a network that takes the values of the image and normalizes them itself."""
        channels = len(self.mean)
        return replace(self, mean=(0.0,) * channels, std=(1.0,) * channels)

    @property
    def is_plain(self) -> bool:
        """Whether there is one view of the whole image, at once."""
        return not self.tta and self.window is None and self.tiles is None

    @property
    def whole_in_tiles(self) -> bool:
        """Whether tiles have the context of the whole image."""
        return self.tiles is not None and self.tiles.context == "whole"

    @property
    def description(self) -> str:
        """The settings in words, such as "resized to fit 512x1024, whole image; 6 scales with flips"."""
        if self.long_side:
            size = f"resized to a longer side of {self.long_side}"
        else:
            size = f"resized to fit {_text(self.resize)}" if self.resize else "original image size"
        parts = f"sliding windows of {_text(self.window)}" if self.window else "whole image"
        if self.tiles:
            parts += f", in tiles of {_text((self.tiles.side, self.tiles.side))}"
        if not self.tta:
            return f"{size}, {parts}"
        scales = f"{len(self.scales)} scales" if len(self.scales) > 1 else "1 scale"
        return f"{size}, {parts}; {scales}{' with flips' if self.flip else ''}"


def inference_settings(
    recipe: Recipe, size: SizeLike | None = None, tta: bool = False, window: SizeLike | None = None,
    overlap: float | None = None, tile: int | None = None, context: Context = "window",
) -> InferenceSettings:  # fmt: skip
    """The inference setting of a recipe, with changes.

    Args:
        size: (height, width) into which images are fitted, as a pair or as "512x1024"; "image": their own size. Images
            are then processed without windows, unless `window` is given too. Default: as the recipe's `eval` says.
        tta: average over the recipe's scales and flips. They scale the image itself, or, with `size`, what is
            fitted into it.
        window: (height, width) of sliding windows.
        overlap: of these windows, as a share of their sides from 0 to below 1; default: a third, with `tile` an eighth.
        tile: side of the parts in which images are processed at their own size, in memory that depends on it.
        context: of tiles. "window": sliding windows, by default of the size of the training crops or, if the recipe
            evaluates in sliding windows, of these. "whole": the labels that the whole image at once would have.

    Raises UserError for invalid values and combinations.
    """
    check_tiles(size, tta, window, overlap, tile, context)
    section = recipe.eval
    settings = InferenceSettings(recipe.data.mean, recipe.data.std, None, section.scales, section.flip, tta)
    if tile is not None:
        settings = replace(settings, tiles=Tiles(tile, context))
        if context == "whole":
            return settings
        window = window or _training_window(recipe)
    elif size is not None:
        resize = None if size == OWN_SIZE else image_size(size)
        settings = replace(settings, resize=resize, scales_resized=True)
    elif section.kind == "whole":
        settings = replace(settings, resize=None if section.resize == "none" else section.resize)
    else:
        side, stride = section.crop, section.stride
        settings = replace(settings, window=(side, side), stride=(stride, stride), long_side=section.base_size)
    if window is not None:
        height, width = image_size(window)
        share = 1 - (overlap if overlap is not None else TILE_OVERLAP if tile else OVERLAP)
        stride = (max(1, round(height * share)), max(1, round(width * share)))
        settings = replace(settings, window=(height, width), stride=stride)
    elif overlap is not None:
        raise UserError("An overlap needs windows.", "Add --window HxW (window=...) or --tile N (tile=...).")
    return settings


def _training_window(recipe: Recipe) -> Size:
    """The size of what the network was trained on, or of the windows in which it is evaluated."""
    return (recipe.eval.crop, recipe.eval.crop) if recipe.eval.kind == "sliding" else recipe.data.crop


def check_tiles(
    size: SizeLike | None, tta: bool, window: SizeLike | None, overlap: float | None, tile: int | None, context: str
) -> None:
    """Raise UserError for values of `inference_settings` that are invalid or cannot be combined."""
    if overlap is not None and not 0 <= overlap < 1:
        raise UserError(f"Invalid overlap {overlap}.", "Give a share of the window from 0 to below 1, such as 0.25.")
    if context not in CONTEXTS:
        raise UserError(f"Invalid context {context!r}.", "Use window or whole.")
    if tile is None:
        if context == "whole":
            raise UserError("The context is a setting of tiles.", "Add --tile 2048 (tile=2048).")
        return
    if not SMALLEST_TILE <= tile <= LARGEST:
        raise UserError(f"Invalid tile of {tile} pixels.", f"Use {SMALLEST_TILE} to {LARGEST}, for example 2048.")
    if tta or size not in (None, OWN_SIZE):
        raise UserError(
            "Tiles are processed at the image's own size in a single view.", "Leave out --size and --tta, or --tile."
        )
    if context == "whole" and (window or overlap is not None):
        raise UserError(
            "With the context of the whole image there are no windows.", "Leave out --window and --overlap."
        )


def check_sizes(size: SizeLike | None, window: SizeLike | None) -> None:
    """Raise UserError for a size or window that `inference_settings` would refuse, before a file is loaded."""
    for value in (size, window):
        if value is not None and not (value is size and value == OWN_SIZE):
            image_size(value)


def image_size(value: SizeLike) -> Size:
    """(height, width) of a pair or of a text such as "512x1024". Raises UserError."""
    if isinstance(value, str):
        sides = tuple(int(side) if side.isdecimal() else 0 for side in value.lower().split("x"))
    else:
        sides = tuple(side if isinstance(side, int) else 0 for side in value)
    if len(sides) != 2 or not all(1 <= side <= LARGEST for side in sides):
        raise UserError(
            f"Invalid image size {value!r}.", "Give height and width in pixels, for example 512x1024 or (512, 1024)."
        )
    return sides[0], sides[1]


def _text(size: Size) -> str:
    return f"{size[0]}x{size[1]}"
