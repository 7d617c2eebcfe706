"""Defects of images."""

from pathlib import Path

import numpy as np
from PIL import Image

from tests.checking.clean import image_path, picture, save
from tests.checking.planting import ONE, TURN_RIGHT, TWO, Planted, cut, defect


@defect
def image_truncated(root: Path) -> Planted:
    cut(root / image_path(ONE), 0.6)
    return Planted("image_truncated", "error", [image_path(ONE)], "left out")


@defect
def image_truncated_by_a_little(root: Path) -> Planted:
    cut(root / image_path(TWO), 0.97)
    return Planted("image_truncated", "error", [image_path(TWO)], "left out")


@defect
def image_of_text(root: Path) -> Planted:
    (root / image_path(ONE)).write_text("not found")
    return Planted("image_unreadable", "error", [image_path(ONE)], "left out")


@defect
def image_without_bytes(root: Path) -> Planted:
    (root / image_path(ONE)).write_bytes(b"")
    return Planted("image_unreadable", "error", [image_path(ONE)], "left out")


@defect
def image_that_is_a_pointer(root: Path) -> Planted:
    (root / image_path(ONE)).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 13\n")
    return Planted("image_unreadable", "error", [image_path(ONE)], "left out")


@defect
def image_of_floats(root: Path) -> Planted:
    values = picture(3)[..., 0].astype(np.float32) / 255
    (root / image_path(ONE)).unlink()
    Image.fromarray(values).save(root / image_path(ONE).replace(".jpg", ".tif"))
    return Planted("image_mode", "error", [image_path(ONE).replace(".jpg", ".tif")], "left out")


@defect
def image_of_16_bits(root: Path) -> Planted:
    (root / image_path(ONE)).unlink()
    save(root / image_path(ONE).replace(".jpg", ".png"), picture(3)[..., 0].astype(np.uint16) * 257)
    return Planted("image_16_bit", "warning", [image_path(ONE).replace(".jpg", ".png")], "fixed")


@defect
def image_of_12_bits_in_16(root: Path) -> Planted:
    (root / image_path(ONE)).unlink()
    save(root / image_path(ONE).replace(".jpg", ".png"), picture(3)[..., 0].astype(np.uint16) * 16)
    return Planted("image_16_bit_dark", "error", [image_path(ONE).replace(".jpg", ".png")], "fixed")


@defect
def image_with_transparency(root: Path) -> Planted:
    (root / image_path(ONE)).unlink()
    pixels = np.dstack([picture(3), np.full((48, 64), 100, np.uint8)])
    save(root / image_path(ONE).replace(".jpg", ".png"), pixels)
    return Planted("image_channels", "warning", [image_path(ONE).replace(".jpg", ".png")], "fixed")


@defect
def image_of_cmyk(root: Path) -> Planted:
    Image.fromarray(picture(3)).convert("CMYK").save(root / image_path(ONE))
    return Planted("image_channels", "warning", [image_path(ONE)], "fixed")


@defect
def image_of_two_frames(root: Path) -> Planted:
    (root / image_path(ONE)).unlink()
    path = image_path(ONE).replace(".jpg", ".tif")
    Image.fromarray(picture(3)).save(root / path, save_all=True, append_images=[Image.fromarray(picture(4))])
    return Planted("image_frames", "warning", [path], "fixed")


@defect
def image_of_one_colour(root: Path) -> Planted:
    save(root / image_path(ONE), np.full((48, 64, 3), 90, np.uint8))
    return Planted("image_blank", "warning", [image_path(ONE)], "kept")


@defect
def image_turned_by_exif(root: Path) -> Planted:
    exif = Image.Exif()
    exif[274] = TURN_RIGHT
    pixels = np.rot90(picture(3))  # stored rotated, as a camera in portrait orientation does
    Image.fromarray(np.ascontiguousarray(pixels)).save(root / image_path(ONE), exif=exif)
    return Planted("exif_rotated", "warning", [image_path(ONE)], "fixed")


@defect
def image_turned_by_exif_and_mask_is_not(root: Path) -> Planted:
    exif = Image.Exif()
    exif[274] = TURN_RIGHT
    Image.fromarray(picture(3)).save(root / image_path(ONE), exif=exif)
    return Planted("exif_mask_mismatch", "error", [image_path(ONE)], "fixed")
