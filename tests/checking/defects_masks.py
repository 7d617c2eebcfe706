"""Defects of single masks."""

from pathlib import Path

import numpy as np
from PIL import Image

from tests.checking.clean import image_path, label, mask_path, picture, save
from tests.checking.planting import MASKS, ONE, Planted, all_masks, cut, defect, enlarged


@defect
def mask_truncated(root: Path) -> Planted:
    cut(root / mask_path(ONE), 0.5)
    return Planted("mask_truncated", "error", [mask_path(ONE)], "left out")


@defect
def mask_of_text(root: Path) -> Planted:
    (root / mask_path(ONE)).write_text("<html>404</html>")
    return Planted("mask_unreadable", "error", [mask_path(ONE)], "left out")


@defect
def mask_of_instances(root: Path) -> Planted:
    save(root / mask_path(ONE), label(3).astype(np.uint16) * 1000)
    return Planted("mask_ids_too_large", "error", [mask_path(ONE)], "left out")


@defect
def mask_of_16_bits(root: Path) -> Planted:
    save(root / mask_path(ONE), label(3).astype(np.uint16))
    return Planted("mask_16_bit", "warning", [mask_path(ONE)], "fixed")


@defect
def mask_of_floats(root: Path) -> Planted:
    (root / mask_path(ONE)).unlink()
    path = mask_path(ONE).replace(".png", ".tif")
    Image.fromarray(label(3).astype(np.float32)).save(root / path)
    return Planted("mask_mode", "error", [path], "left out")


@defect
def mask_of_another_shape(root: Path) -> Planted:
    save(root / mask_path(ONE), label(3)[:, :40])
    return Planted("sizes_differ", "error", [image_path(ONE), mask_path(ONE)], "left out")


@defect
def mask_of_half_the_size(root: Path) -> Planted:
    save(root / mask_path(ONE), label(3)[::2, ::2])
    return Planted("sizes_differ", "error", [image_path(ONE), mask_path(ONE)], "fixed")


@defect
def mask_as_jpeg(root: Path) -> Planted:
    (root / mask_path(ONE)).unlink()
    path = mask_path(ONE).replace(".png", ".jpg")
    save(root / path, label(3), quality=80)
    return Planted("mask_lossy", "error", [path], "fixed")


@defect
def mask_as_jpeg_under_another_name(root: Path) -> Planted:
    Image.fromarray(label(3)).save(root / mask_path(ONE), format="JPEG")
    return Planted("mask_lossy", "error", [mask_path(ONE)], "fixed")


@defect
def mask_with_blurred_edges(root: Path) -> Planted:
    save(root / mask_path(ONE), enlarged(np.where(label(3) == 1, 3, 0).astype(np.uint8)))
    return Planted("mask_blurred", "error", [mask_path(ONE)], "fixed")


@defect
def all_binary_masks_blurred(root: Path) -> Planted:
    all_masks(root, lambda values: enlarged((values > 0).astype(np.uint8) * 255))
    return Planted("mask_blurred", "error", MASKS, "fixed")


@defect
def mask_that_is_a_photograph(root: Path) -> Planted:
    noise = np.random.default_rng(0).integers(-30, 30, (48, 64, 3))
    save(root / mask_path(ONE), np.clip(picture(3) + noise, 0, 255).astype(np.uint8))
    return Planted("mask_is_photo", "error", [mask_path(ONE)], "left out")
