"""Defects of files and folders: missing, misplaced and misnamed files."""

import shutil
import unicodedata
from pathlib import Path

import numpy as np
from PIL import Image

from tests.checking.clean import image_path, label, mask_path, names, picture, save, seed_of, stored
from tests.checking.planting import MASKS, ONE, TWO, Planted, defect


@defect
def image_without_mask(root: Path) -> Planted:
    (root / mask_path(ONE)).unlink()
    return Planted("image_without_mask", "error", [image_path(ONE)], "left out")


@defect
def mask_without_image(root: Path) -> Planted:
    (root / image_path(ONE)).unlink()
    return Planted("mask_without_image", "error", [mask_path(ONE)], "left out")


@defect
def mask_in_other_capitals(root: Path) -> Planted:
    renamed = mask_path(ONE).replace(ONE, ONE.upper())
    (root / mask_path(ONE)).rename(root / renamed)
    return Planted("names_differ", "error", [image_path(ONE), renamed], "fixed")


@defect
def mask_with_decomposed_accents(root: Path) -> Planted:
    image, mask = image_path("train_03").replace(ONE, "Straße é"), mask_path("train_03").replace(ONE, "Straße é")
    mask = unicodedata.normalize("NFD", mask)
    (root / image_path(ONE)).rename(root / image)
    (root / mask_path(ONE)).rename(root / mask)
    return Planted("names_differ", "error", [image, mask], "fixed")


@defect
def two_images_of_one_name(root: Path) -> Planted:
    save(root / image_path(ONE).replace(".jpg", ".png"), picture(50))
    return Planted("duplicate_name", "error", [image_path(ONE).replace(".jpg", ".png")], "left out")


@defect
def image_in_two_splits(root: Path) -> Planted:
    shutil.copy(root / image_path(ONE), root / image_path(TWO))
    return Planted("same_image_in_two_splits", "error", [image_path(ONE), image_path(TWO)], "left out")


@defect
def image_in_two_splits_stored_again(root: Path) -> Planted:
    save(root / image_path(TWO), picture(seed_of(ONE)), quality=60)
    return Planted("similar_in_two_splits", "warning", [image_path(ONE), image_path(TWO)], "kept")


@defect
def image_in_two_splits_scaled(root: Path) -> Planted:
    with Image.open(root / image_path(ONE)) as image:
        image.resize((96, 72)).save(root / image_path(TWO))
    save(root / mask_path(TWO), label(seed_of(TWO), (72, 96)))
    return Planted("similar_in_two_splits", "warning", [image_path(ONE), image_path(TWO)], "kept")


@defect
def image_twice_in_a_split(root: Path) -> Planted:
    shutil.copy(root / image_path(ONE), root / image_path("train_05"))
    return Planted("duplicate_image", "warning", [image_path(ONE), image_path("train_05")], "left out")


@defect
def class_that_val_lacks(root: Path) -> Planted:
    for name in names("val"):
        save(root / mask_path(name), np.minimum(stored(root / mask_path(name)), 2))
    return Planted("class_absent", "warning", [], "kept")


@defect
def rare_class(root: Path) -> Planted:
    for path in MASKS:
        save(root / path, np.minimum(stored(root / path), 2))
    for name in (ONE, TWO):
        values = stored(root / mask_path(name))
        values[40:43, 40:43] = 3
        save(root / mask_path(name), values)
    return Planted("class_imbalance", "warning", [mask_path(ONE), mask_path(TWO)], "kept")


@defect
def split_without_masks(root: Path) -> Planted:
    paths = [f"images/test/test_{number}.jpg" for number in range(3)]
    for number, path in enumerate(paths):
        save(root / path, picture(300 + number))
    return Planted("split_without_masks", "warning", paths, "kept")
