"""Problems of single files, by the signs that were seen in them."""

from typing import NamedTuple

import numpy as np

from fastfcn.checking.flags import Sign
from fastfcn.checking.layouts import Found
from fastfcn.checking.paths import Paths
from fastfcn.checking.problem import Problem
from fastfcn.checking.statistics import Tally

ERROR, WARNING = "error", "warning"
AGAIN = "Get these files again from where they are whole. `--fix OUT` leaves such pairs out and lists them."
FIXED = "`fastfcn check DIR --fix OUT` "


class Kind(NamedTuple):
    """How a sign is reported; `side` is "image", "mask" or "both": the files that are affected."""

    kind: str
    severity: str
    side: str
    sign: Sign
    title: str
    advice: str


KINDS = (
    Kind("image_unreadable", ERROR, "image", Sign.IMAGE_UNREADABLE, "Images that cannot be read", AGAIN),
    Kind("image_truncated", ERROR, "image", Sign.IMAGE_TRUNCATED, "Images that are cut off or damaged", AGAIN),
    Kind("mask_unreadable", ERROR, "mask", Sign.MASK_UNREADABLE, "Masks that cannot be read", AGAIN),
    Kind("mask_truncated", ERROR, "mask", Sign.MASK_TRUNCATED, "Masks that are cut off or damaged", AGAIN),
    Kind("image_mode", ERROR, "image", Sign.IMAGE_MODE,
         "Images of floating-point or negative values, which have no agreed range",
         "Convert them to 8 bits by a range that is right for all of them."),
    Kind("mask_mode", ERROR, "mask", Sign.MASK_MODE,
         "Masks of floating-point or negative values", "Write 8-bit grey or palette PNG masks."),
    Kind("mask_ids_too_large", ERROR, "mask", Sign.MASK_BIG_NUMBERS,
         "Masks with numbers above 255, as masks of instances have them",
         "Write the number of the class into each pixel (for Cityscapes take the labelIds files)."),
    Kind("sizes_differ", ERROR, "both", Sign.SIZES_DIFFER, "Masks that are not as large as their image",
         "Find out which of the two was scaled. " + FIXED + "scales masks of the same shape to their image, "
         "and leaves other pairs out."),
    Kind("exif_against_mask", ERROR, "image", Sign.TURNED_AGAINST_MASK,
         "Images that EXIF data turns, while their mask is drawn on the image as it is stored",
         FIXED + "writes these images without the EXIF turn, so that they fit."),
    Kind("exif_rotated", WARNING, "image", Sign.IMAGE_TURNED, "Images that EXIF data turns",
         "fastfcn turns them as viewers do; other programs may not. " + FIXED + "writes them upright."),
    Kind("image_16_bit_dark", ERROR, "image", Sign.IMAGE_DARK,
         "Images of 16 bits of which only the lower ones are used, so that they are read as nearly black",
         FIXED + "stretches each to 8 bits."),
    Kind("image_16_bit", WARNING, "image", Sign.IMAGE_16_BIT, "Images of 16 bits, of which 8 are kept",
         "Nothing has to be done. " + FIXED + "writes 8 bits."),
    Kind("image_channels", WARNING, "image", Sign.IMAGE_CHANNELS,
         "Images of more than three channels (transparency is dropped, CMYK converted)",
         "Look whether they are as you want them. " + FIXED + "writes three channels."),
    Kind("image_frames", WARNING, "image", Sign.IMAGE_FRAMES,
         "Images of several frames, of which the first is taken", FIXED + "writes the first frame."),
    Kind("image_blank", WARNING, "image", Sign.IMAGE_BLANK, "Images that are of one colour",
         "Look at them; nothing can be learnt from such an image. Remove them with their masks."),
    Kind("mask_lossy", ERROR, "mask", Sign.MASK_LOSSY,
         "Masks stored with loss (JPEG and the like), which changes numbers and colours",
         "Make PNG masks from where they were drawn. " + FIXED + "takes each pixel for the nearest real value."),
    Kind("mask_blurred", ERROR, "mask", Sign.MASK_BLURRED,
         "Masks with blurred edges: values in between two classes, which mean a third class or nothing",
         "Scale masks with nearest neighbour and draw them without anti-aliasing. "
         + FIXED + "takes each pixel for the nearest real value."),
    Kind("mask_is_picture", ERROR, "mask", Sign.MASK_PICTURE, "Masks that look like photographs",
         "Put the mask in place of the image. `--fix OUT` leaves such pairs out and lists them."),
    Kind("mask_16_bit", WARNING, "mask", Sign.MASK_16_BIT, "Masks of 16 bits, though no number is above 255",
         "Nothing has to be done. " + FIXED + "writes 8 bits."),
    Kind("mask_frames", WARNING, "mask", Sign.MASK_FRAMES, "Masks of several frames, of which the first is taken",
         FIXED + "writes the first frame."),
    Kind("mask_transparent", WARNING, "mask", Sign.MASK_TRANSPARENT,
         "Masks that are transparent in places, where the colour below is taken",
         "Look whether transparent pixels have the colour of their class. " + FIXED + "drops the transparency."),
)  # fmt: skip

# A sign that another one explains is not reported beside it.
EXPLAINED = {
    Sign.IMAGE_16_BIT: Sign.IMAGE_DARK | Sign.IMAGE_MODE,
    Sign.IMAGE_TURNED: Sign.TURNED_AGAINST_MASK | Sign.SIZES_DIFFER,
    Sign.MASK_BLURRED: Sign.MASK_LOSSY | Sign.MASK_PICTURE,
    Sign.MASK_LOSSY: Sign.MASK_PICTURE,
}


def seen_problems(found: Found, tally: Tally) -> list[Problem]:
    """A problem for each kind of sign that some pairs have."""
    problems = []
    for kind in KINDS:
        pairs = tally.has(kind.sign)
        if kind.sign in EXPLAINED:
            pairs &= ~tally.has(EXPLAINED[kind.sign])
        if numbers := np.flatnonzero(pairs).tolist():
            problems.append(_problem(found, tally, kind, numbers))
    return problems


def _problem(found: Found, tally: Tally, kind: Kind, pairs: list[int]) -> Problem:
    files = pair_files(found, pairs, kind.side)
    message = f"{kind.title}: {len(pairs)}"
    troubles = [tally.troubles[pair][kind.side == "mask"] for pair in pairs if pair in tally.troubles]
    if kind.kind.endswith(("unreadable", "truncated")) and troubles:
        message += f" ({files[0]}: {troubles[0]})"
    return Problem(kind.kind, kind.severity, len(files), files, f"{message}.", kind.advice)


def pair_files(found: Found, pairs: list[int], side: str) -> Paths:
    """The files of some pairs: images, masks or both."""
    sides = {"image": (found.images,), "mask": (found.masks,), "both": (found.images, found.masks)}[side]
    return Paths(found.contents.files, (each[pair] for pair in pairs for each in sides))
