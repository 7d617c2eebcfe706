"""Defects of the ids and colors of masks."""

from pathlib import Path

import numpy as np

from tests.checking.clean import label, mask_path, save, seed_of, stored
from tests.checking.planting import ALL, COLORS, MASKS, ONE, TWO, Planted, all_masks, defect, write_palette


@defect
def masks_of_0_and_255(root: Path) -> Planted:
    all_masks(root, lambda values: (values > 0).astype(np.uint8) * 255)
    return Planted("binary_255", "error", MASKS, "fixed")


@defect
def one_mask_of_0_and_255(root: Path) -> Planted:
    all_masks(root, lambda values: (values > 0).astype(np.uint8))
    save(root / mask_path(TWO), stored(root / mask_path(TWO)) * 255)
    return Planted("some_binary_masks", "error", [mask_path(TWO)], "fixed")


@defect
def one_mask_of_0_and_255_among_classes(root: Path) -> Planted:
    save(root / mask_path(TWO), (label(seed_of(TWO)) > 0).astype(np.uint8) * 255)
    return Planted("some_binary_masks", "error", [mask_path(TWO)], "left out")


@defect
def masks_stretched_to_be_seen(root: Path) -> Planted:
    all_masks(root, lambda values: values * 85)
    return Planted("stretched_ids", "error", [mask_path(name) for name in ALL if seed_of(name) % 2], "fixed")


@defect
def masks_of_colors(root: Path) -> Planted:
    all_masks(root, lambda values: COLORS[values])
    return Planted("color_masks", "warning", MASKS, "fixed")


@defect
def masks_of_colors_with_a_slip(root: Path) -> Planted:
    all_masks(root, lambda values: COLORS[values])
    pixels = stored(root / mask_path(ONE))
    pixels[20:22, 20:22] = pixels[20, 20] + np.array([2, 1, 0], np.uint8)
    save(root / mask_path(ONE), pixels)
    return Planted("near_colors", "error", [mask_path(ONE)], "fixed")


@defect
def masks_of_colors_as_jpeg(root: Path) -> Planted:
    for path in MASKS:
        save((root / path).with_suffix(".jpg"), COLORS[stored(root / path)], quality=90)
        (root / path).unlink()
    return Planted("mask_lossy", "error", [path.replace(".png", ".jpg") for path in MASKS], "fixed")


@defect
def one_mask_of_colors(root: Path) -> Planted:
    save(root / mask_path(ONE), COLORS[label(3)])
    return Planted("mask_kinds_differ", "error", [mask_path(ONE)], "left out")


@defect
def one_mask_of_colors_among_palettes(root: Path) -> Planted:
    for path in MASKS:
        write_palette(root / path, stored(root / path), COLORS)
    save(root / mask_path(ONE), COLORS[label(3)])
    return Planted("mask_kinds_differ", "error", [mask_path(ONE)], "fixed")


@defect
def palette_in_another_order(root: Path) -> Planted:
    for path in MASKS:
        write_palette(root / path, stored(root / path), COLORS)
    write_palette(root / mask_path(ONE), 3 - label(3), COLORS[::-1])
    return Planted("palettes_differ", "error", [mask_path(ONE)], "fixed")


@defect
def numbers_from_1(root: Path) -> Planted:
    all_masks(root, lambda values: values + 1)
    return Planted("ids_from_one", "warning", MASKS, "fixed")


@defect
def one_mask_off_by_one(root: Path) -> Planted:
    save(root / mask_path(ONE), label(3) + 1)
    return Planted("ids_off_by_one", "error", [mask_path(ONE)], "fixed")


@defect
def gaps(root: Path) -> Planted:
    all_masks(root, lambda values: np.array([0, 1, 5, 9], np.uint8)[values])
    return Planted("id_gaps", "warning", MASKS, "fixed")


@defect
def a_number_far_off(root: Path) -> Planted:
    values = label(3)
    values[10:16, 10:16] = 77
    save(root / mask_path(ONE), values)
    return Planted("outlier_ids", "error", [mask_path(ONE)], "fixed")


@defect
def empty_mask(root: Path) -> Planted:
    save(root / mask_path(ONE), label(3) * 0)
    return Planted("mask_empty", "warning", [mask_path(ONE)], "kept")


@defect
def mask_all_ignored(root: Path) -> Planted:
    save(root / mask_path(ONE), np.full((48, 64), 255, np.uint8))
    return Planted("mask_all_ignored", "warning", [mask_path(ONE)], "kept")


@defect
def nothing_to_tell_apart(root: Path) -> Planted:
    all_masks(root, lambda values: values * 0)
    return Planted("one_class", "error", MASKS, "kept")


@defect
def one_mask_with_a_palette(root: Path) -> Planted:
    write_palette(root / mask_path(ONE), label(3), COLORS)
    return Planted("palette_and_gray", "warning", [mask_path(ONE)], "kept")


@defect
def masks_of_instances_in_colors(root: Path) -> Planted:
    colors = np.random.default_rng(0).permutation(256 * 256)[: len(MASKS) * 48].reshape(len(MASKS), 48)
    for path, of_rows in zip(MASKS, colors, strict=True):
        values = np.broadcast_to(of_rows[:, None], (48, 64))
        save(root / path, np.dstack([values % 256, values // 256, values * 0 + 40]).astype(np.uint8))
    return Planted("too_many_values", "error", MASKS, "kept")
