"""What may be seen in one image or mask; a pair's signs are kept as bits of one number."""

from enum import IntFlag, auto


class Sign(IntFlag):
    """Each says something about one pair."""

    IMAGE_UNREADABLE = auto()
    IMAGE_TRUNCATED = auto()
    IMAGE_MODE = auto()  # floating-point values and the like, which no reader agrees on
    IMAGE_16_BIT = auto()
    IMAGE_DARK = auto()  # 16 bits of which the upper ones are not used
    IMAGE_CHANNELS = auto()  # transparency, CMYK
    IMAGE_TURNED = auto()  # by EXIF
    IMAGE_FRAMES = auto()
    IMAGE_BLANK = auto()
    MASK_UNREADABLE = auto()
    MASK_TRUNCATED = auto()
    MASK_MODE = auto()
    MASK_16_BIT = auto()
    MASK_BIG_NUMBERS = auto()  # above 255
    MASK_LOSSY = auto()
    MASK_BLURRED = auto()
    MASK_PICTURE = auto()  # nowhere flat, far too many colours
    MASK_COLORED = auto()  # values are colours
    MASK_GRAY_COLORS = auto()  # stored as colours, all of them grey
    MASK_PALETTE = auto()
    MASK_FRAMES = auto()
    MASK_TRANSPARENT = auto()
    SIZES_DIFFER = auto()
    TURNED_AGAINST_MASK = auto()  # the mask fits the image as it is stored, not as EXIF turns it
    ONE_VALUE = auto()


NO_IMAGE = Sign.IMAGE_UNREADABLE | Sign.IMAGE_TRUNCATED | Sign.IMAGE_MODE
NO_MASK = Sign.MASK_UNREADABLE | Sign.MASK_TRUNCATED | Sign.MASK_MODE | Sign.MASK_BIG_NUMBERS
