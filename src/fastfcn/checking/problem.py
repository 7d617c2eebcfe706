"""A problem of a dataset, and the flags that inspecting an image-mask pair can set."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntFlag, auto
from typing import Any

ERROR, WARNING = "error", "warning"
# Beginnings of sentences in `Problem.advice`; DIR is replaced by the folder.
FIX = "`fastfcn check DIR --fix OUT` "
INIT = "`fastfcn init DIR` "


def fix_with(consent: str) -> str:
    """The beginning of a sentence about a fix that needs `--accept`."""
    return f"`fastfcn check DIR --fix OUT --accept {consent}` "


@dataclass(frozen=True)
class Problem:
    """One kind of problem with all affected files, relative to the folder.

    `severity` is "error" if training would fail or the model or its scores would be wrong, else "warning". `count` is
    the number of files, or 1 for a problem of the whole folder, whose `files` are empty.
    """

    kind: str
    severity: str
    count: int
    files: Sequence[str]
    message: str
    advice: str

    def as_json(self) -> dict[str, Any]:
        """The problem as an object for JSON."""
        return {
            "kind": self.kind,
            "severity": self.severity,
            "count": self.count,
            "files": list(self.files),
            "message": self.message,
            "advice": self.advice,
        }


class Flag(IntFlag):
    """What inspecting a pair can find; the flags of a pair are stored as bits of one integer."""

    IMAGE_UNREADABLE = auto()
    IMAGE_TRUNCATED = auto()
    IMAGE_MODE = auto()  # floating-point or negative values, whose range is unknown
    IMAGE_16_BIT = auto()
    IMAGE_16_BIT_DARK = auto()  # only the lower bits are used; images are refused
    IMAGE_CHANNELS = auto()  # alpha channel, CMYK
    IMAGE_ROTATED = auto()  # by EXIF orientation
    IMAGE_FRAMES = auto()
    IMAGE_BLANK = auto()
    MASK_UNREADABLE = auto()
    MASK_TRUNCATED = auto()
    MASK_MODE = auto()
    MASK_16_BIT = auto()
    MASK_IDS_TOO_LARGE = auto()  # above 255
    MASK_LOSSY = auto()
    MASK_BLURRED = auto()
    MASK_IS_PHOTO = auto()  # no flat areas, far too many colors
    MASK_COLORED = auto()  # the values are colors
    MASK_GRAY_COLORS = auto()  # stored as RGB, all pixels gray
    MASK_PALETTE = auto()
    MASK_FRAMES = auto()
    MASK_TRANSPARENT = auto()
    SIZES_DIFFER = auto()
    EXIF_MASK_MISMATCH = auto()  # the mask fits the stored pixels, not the image rotated by EXIF
    SINGLE_VALUE = auto()
    IMAGE_TOO_LARGE = auto()  # more pixels than Pillow's limit
    MASK_TOO_LARGE = auto()


UNUSABLE_IMAGE = Flag.IMAGE_UNREADABLE | Flag.IMAGE_TRUNCATED | Flag.IMAGE_TOO_LARGE | Flag.IMAGE_MODE
UNUSABLE_MASK = (
    Flag.MASK_UNREADABLE | Flag.MASK_TRUNCATED | Flag.MASK_TOO_LARGE | Flag.MASK_MODE | Flag.MASK_IDS_TOO_LARGE
)
