"""Kinds of damage, each planted in a clean folder; `DAMAGE` names what must be found, and what --fix makes of it."""

import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from tests.doctor.clean import image_path, label, mask_path, names, picture, save, seed_of, stored

ONE, TWO = "train_03", "val_01"
ALL = names("train") + names("val")
COLORS = np.array([[0, 0, 0], [128, 64, 128], [220, 20, 60], [70, 130, 180]], np.uint8)
MASKS = [mask_path(name) for name in ALL]
TURN_RIGHT = 6  # EXIF: turn by 90 degrees to see it upright


class Planted(NamedTuple):
    """What must be found: `files` are all that must be named; `outcome` is what --fix does: "mended", "left out" (of
    the copy) or "kept" (nothing, for it is for a person to decide)."""

    kind: str
    severity: str
    files: list[str]
    outcome: str


DAMAGE: dict[str, Callable[[Path], Planted]] = {}


def damage(plant: Callable[[Path], Planted]) -> Callable[[Path], Planted]:
    DAMAGE[plant.__name__] = plant
    return plant


def cut(path: Path, share: float) -> None:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


def all_masks(root: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    for path in MASKS:
        save(root / path, change(stored(root / path)))


def enlarged(values: np.ndarray) -> np.ndarray:
    """Scaled to two thirds and back with bilinear interpolation, the usual mistake."""
    height, width = values.shape[:2]
    small = Image.fromarray(values).resize((width * 2 // 3, height * 2 // 3), Image.Resampling.BILINEAR)
    return np.array(small.resize((width, height), Image.Resampling.BILINEAR))


@damage
def image_truncated(root: Path) -> Planted:
    cut(root / image_path(ONE), 0.6)
    return Planted("image_truncated", "error", [image_path(ONE)], "left out")


@damage
def image_truncated_by_a_little(root: Path) -> Planted:
    cut(root / image_path(TWO), 0.97)
    return Planted("image_truncated", "error", [image_path(TWO)], "left out")


@damage
def image_of_text(root: Path) -> Planted:
    (root / image_path(ONE)).write_text("not found")
    return Planted("image_unreadable", "error", [image_path(ONE)], "left out")


@damage
def image_without_bytes(root: Path) -> Planted:
    (root / image_path(ONE)).write_bytes(b"")
    return Planted("image_unreadable", "error", [image_path(ONE)], "left out")


@damage
def image_that_is_a_pointer(root: Path) -> Planted:
    (root / image_path(ONE)).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 13\n")
    return Planted("image_unreadable", "error", [image_path(ONE)], "left out")


@damage
def image_of_floats(root: Path) -> Planted:
    values = picture(3)[..., 0].astype(np.float32) / 255
    (root / image_path(ONE)).unlink()
    Image.fromarray(values).save(root / image_path(ONE).replace(".jpg", ".tif"))
    return Planted("image_mode", "error", [image_path(ONE).replace(".jpg", ".tif")], "left out")


@damage
def image_of_16_bits(root: Path) -> Planted:
    (root / image_path(ONE)).unlink()
    save(root / image_path(ONE).replace(".jpg", ".png"), picture(3)[..., 0].astype(np.uint16) * 257)
    return Planted("image_16_bit", "warning", [image_path(ONE).replace(".jpg", ".png")], "mended")


@damage
def image_of_12_bits_in_16(root: Path) -> Planted:
    (root / image_path(ONE)).unlink()
    save(root / image_path(ONE).replace(".jpg", ".png"), picture(3)[..., 0].astype(np.uint16) * 16)
    return Planted("image_16_bit_dark", "error", [image_path(ONE).replace(".jpg", ".png")], "mended")


@damage
def image_with_transparency(root: Path) -> Planted:
    (root / image_path(ONE)).unlink()
    pixels = np.dstack([picture(3), np.full((48, 64), 100, np.uint8)])
    save(root / image_path(ONE).replace(".jpg", ".png"), pixels)
    return Planted("image_channels", "warning", [image_path(ONE).replace(".jpg", ".png")], "mended")


@damage
def image_of_cmyk(root: Path) -> Planted:
    Image.fromarray(picture(3)).convert("CMYK").save(root / image_path(ONE))
    return Planted("image_channels", "warning", [image_path(ONE)], "mended")


@damage
def image_of_two_frames(root: Path) -> Planted:
    (root / image_path(ONE)).unlink()
    path = image_path(ONE).replace(".jpg", ".tif")
    Image.fromarray(picture(3)).save(root / path, save_all=True, append_images=[Image.fromarray(picture(4))])
    return Planted("image_frames", "warning", [path], "mended")


@damage
def image_of_one_colour(root: Path) -> Planted:
    save(root / image_path(ONE), np.full((48, 64, 3), 90, np.uint8))
    return Planted("image_blank", "warning", [image_path(ONE)], "kept")


@damage
def image_turned_by_exif(root: Path) -> Planted:
    exif = Image.Exif()
    exif[274] = TURN_RIGHT
    pixels = np.rot90(picture(3))  # as the camera, held upright, stores what is upright when turned right
    Image.fromarray(np.ascontiguousarray(pixels)).save(root / image_path(ONE), exif=exif)
    return Planted("exif_rotated", "warning", [image_path(ONE)], "mended")


@damage
def image_turned_by_exif_and_mask_is_not(root: Path) -> Planted:
    exif = Image.Exif()
    exif[274] = TURN_RIGHT
    Image.fromarray(picture(3)).save(root / image_path(ONE), exif=exif)
    return Planted("exif_against_mask", "error", [image_path(ONE)], "mended")


@damage
def mask_truncated(root: Path) -> Planted:
    cut(root / mask_path(ONE), 0.5)
    return Planted("mask_truncated", "error", [mask_path(ONE)], "left out")


@damage
def mask_of_text(root: Path) -> Planted:
    (root / mask_path(ONE)).write_text("<html>404</html>")
    return Planted("mask_unreadable", "error", [mask_path(ONE)], "left out")


@damage
def mask_of_instances(root: Path) -> Planted:
    save(root / mask_path(ONE), label(3).astype(np.uint16) * 1000)
    return Planted("mask_ids_too_large", "error", [mask_path(ONE)], "left out")


@damage
def mask_of_16_bits(root: Path) -> Planted:
    save(root / mask_path(ONE), label(3).astype(np.uint16))
    return Planted("mask_16_bit", "warning", [mask_path(ONE)], "mended")


@damage
def mask_of_floats(root: Path) -> Planted:
    (root / mask_path(ONE)).unlink()
    path = mask_path(ONE).replace(".png", ".tif")
    Image.fromarray(label(3).astype(np.float32)).save(root / path)
    return Planted("mask_mode", "error", [path], "left out")


@damage
def mask_of_another_shape(root: Path) -> Planted:
    save(root / mask_path(ONE), label(3)[:, :40])
    return Planted("sizes_differ", "error", [image_path(ONE), mask_path(ONE)], "left out")


@damage
def mask_of_half_the_size(root: Path) -> Planted:
    save(root / mask_path(ONE), label(3)[::2, ::2])
    return Planted("sizes_differ", "error", [image_path(ONE), mask_path(ONE)], "mended")


@damage
def mask_as_jpeg(root: Path) -> Planted:
    (root / mask_path(ONE)).unlink()
    path = mask_path(ONE).replace(".png", ".jpg")
    save(root / path, label(3), quality=80)
    return Planted("mask_lossy", "error", [path], "mended")


@damage
def mask_as_jpeg_under_another_name(root: Path) -> Planted:
    Image.fromarray(label(3)).save(root / mask_path(ONE), format="JPEG")
    return Planted("mask_lossy", "error", [mask_path(ONE)], "mended")


@damage
def mask_with_blurred_edges(root: Path) -> Planted:
    save(root / mask_path(ONE), enlarged(np.where(label(3) == 1, 3, 0).astype(np.uint8)))
    return Planted("mask_blurred", "error", [mask_path(ONE)], "mended")


@damage
def all_binary_masks_blurred(root: Path) -> Planted:
    all_masks(root, lambda values: enlarged((values > 0).astype(np.uint8) * 255))
    return Planted("mask_blurred", "error", MASKS, "mended")


@damage
def mask_that_is_a_photograph(root: Path) -> Planted:
    noise = np.random.default_rng(0).integers(-30, 30, (48, 64, 3))
    save(root / mask_path(ONE), np.clip(picture(3) + noise, 0, 255).astype(np.uint8))
    return Planted("mask_is_picture", "error", [mask_path(ONE)], "left out")


@damage
def masks_of_0_and_255(root: Path) -> Planted:
    all_masks(root, lambda values: (values > 0).astype(np.uint8) * 255)
    return Planted("binary_255", "error", MASKS, "mended")


@damage
def one_mask_of_0_and_255(root: Path) -> Planted:
    all_masks(root, lambda values: (values > 0).astype(np.uint8))
    save(root / mask_path(TWO), stored(root / mask_path(TWO)) * 255)
    return Planted("some_binary_masks", "error", [mask_path(TWO)], "mended")


@damage
def one_mask_of_0_and_255_among_classes(root: Path) -> Planted:
    save(root / mask_path(TWO), (label(seed_of(TWO)) > 0).astype(np.uint8) * 255)
    return Planted("some_binary_masks", "error", [mask_path(TWO)], "left out")


@damage
def masks_stretched_to_be_seen(root: Path) -> Planted:
    all_masks(root, lambda values: values * 85)
    return Planted("stretched_ids", "error", [mask_path(name) for name in ALL if seed_of(name) % 2], "mended")


@damage
def masks_of_colours(root: Path) -> Planted:
    all_masks(root, lambda values: COLORS[values])
    return Planted("color_masks", "warning", MASKS, "mended")


@damage
def masks_of_colours_with_a_slip(root: Path) -> Planted:
    all_masks(root, lambda values: COLORS[values])
    pixels = stored(root / mask_path(ONE))
    pixels[20:22, 20:22] = pixels[20, 20] + np.array([2, 1, 0], np.uint8)
    save(root / mask_path(ONE), pixels)
    return Planted("near_colors", "error", [mask_path(ONE)], "mended")


@damage
def masks_of_colours_as_jpeg(root: Path) -> Planted:
    for path in MASKS:
        save((root / path).with_suffix(".jpg"), COLORS[stored(root / path)], quality=90)
        (root / path).unlink()
    return Planted("mask_lossy", "error", [path.replace(".png", ".jpg") for path in MASKS], "mended")


@damage
def one_mask_of_colours(root: Path) -> Planted:
    save(root / mask_path(ONE), COLORS[label(3)])
    return Planted("mask_kinds_differ", "error", [mask_path(ONE)], "left out")


@damage
def one_mask_of_colours_among_palettes(root: Path) -> Planted:
    for path in MASKS:
        write_palette(root / path, stored(root / path), COLORS)
    save(root / mask_path(ONE), COLORS[label(3)])
    return Planted("mask_kinds_differ", "error", [mask_path(ONE)], "mended")


def write_palette(path: Path, values: np.ndarray, colors: np.ndarray) -> None:
    image = Image.fromarray(values)
    image.putpalette(colors.ravel().tolist())
    image.save(path)


@damage
def palette_in_another_order(root: Path) -> Planted:
    for path in MASKS:
        write_palette(root / path, stored(root / path), COLORS)
    write_palette(root / mask_path(ONE), 3 - label(3), COLORS[::-1])
    return Planted("palettes_differ", "error", [mask_path(ONE)], "mended")


@damage
def numbers_from_1(root: Path) -> Planted:
    all_masks(root, lambda values: values + 1)
    return Planted("ids_from_one", "warning", MASKS, "mended")


@damage
def one_mask_off_by_one(root: Path) -> Planted:
    save(root / mask_path(ONE), label(3) + 1)
    return Planted("ids_off_by_one", "error", [mask_path(ONE)], "mended")


@damage
def gaps(root: Path) -> Planted:
    all_masks(root, lambda values: np.array([0, 1, 5, 9], np.uint8)[values])
    return Planted("id_gaps", "warning", MASKS, "mended")


@damage
def a_number_far_off(root: Path) -> Planted:
    values = label(3)
    values[10:16, 10:16] = 77
    save(root / mask_path(ONE), values)
    return Planted("lonely_ids", "error", [mask_path(ONE)], "mended")


@damage
def empty_mask(root: Path) -> Planted:
    save(root / mask_path(ONE), label(3) * 0)
    return Planted("mask_empty", "warning", [mask_path(ONE)], "kept")


@damage
def mask_all_ignored(root: Path) -> Planted:
    save(root / mask_path(ONE), np.full((48, 64), 255, np.uint8))
    return Planted("mask_all_ignored", "warning", [mask_path(ONE)], "kept")


@damage
def nothing_to_tell_apart(root: Path) -> Planted:
    all_masks(root, lambda values: values * 0)
    return Planted("one_class", "error", MASKS, "kept")


@damage
def image_without_mask(root: Path) -> Planted:
    (root / mask_path(ONE)).unlink()
    return Planted("image_without_mask", "error", [image_path(ONE)], "left out")


@damage
def mask_without_image(root: Path) -> Planted:
    (root / image_path(ONE)).unlink()
    return Planted("mask_without_image", "error", [mask_path(ONE)], "left out")


@damage
def mask_in_other_capitals(root: Path) -> Planted:
    renamed = mask_path(ONE).replace(ONE, ONE.upper())
    (root / mask_path(ONE)).rename(root / renamed)
    return Planted("names_differ", "error", [image_path(ONE), renamed], "mended")


@damage
def mask_with_decomposed_accents(root: Path) -> Planted:
    image, mask = image_path("train_03").replace(ONE, "Straße é"), mask_path("train_03").replace(ONE, "Straße é")
    mask = unicodedata.normalize("NFD", mask)
    (root / image_path(ONE)).rename(root / image)
    (root / mask_path(ONE)).rename(root / mask)
    return Planted("names_differ", "error", [image, mask], "mended")


@damage
def two_images_of_one_name(root: Path) -> Planted:
    save(root / image_path(ONE).replace(".jpg", ".png"), picture(50))
    return Planted("same_name_twice", "error", [image_path(ONE).replace(".jpg", ".png")], "left out")


@damage
def image_in_two_splits(root: Path) -> Planted:
    shutil.copy(root / image_path(ONE), root / image_path(TWO))
    return Planted("same_image_in_two_splits", "error", [image_path(ONE), image_path(TWO)], "left out")


@damage
def image_in_two_splits_stored_again(root: Path) -> Planted:
    save(root / image_path(TWO), picture(seed_of(ONE)), quality=60)
    return Planted("alike_in_two_splits", "warning", [image_path(ONE), image_path(TWO)], "kept")


@damage
def image_in_two_splits_scaled(root: Path) -> Planted:
    with Image.open(root / image_path(ONE)) as image:
        image.resize((96, 72)).save(root / image_path(TWO))
    save(root / mask_path(TWO), label(seed_of(TWO), (72, 96)))
    return Planted("alike_in_two_splits", "warning", [image_path(ONE), image_path(TWO)], "kept")


@damage
def image_twice_in_a_split(root: Path) -> Planted:
    shutil.copy(root / image_path(ONE), root / image_path("train_05"))
    return Planted("image_twice", "warning", [image_path(ONE), image_path("train_05")], "left out")


@damage
def class_that_val_lacks(root: Path) -> Planted:
    for name in names("val"):
        save(root / mask_path(name), np.minimum(stored(root / mask_path(name)), 2))
    return Planted("class_absent", "warning", [], "kept")


@damage
def rare_class(root: Path) -> Planted:
    for path in MASKS:
        save(root / path, np.minimum(stored(root / path), 2))
    for name in (ONE, TWO):
        values = stored(root / mask_path(name))
        values[40:43, 40:43] = 3
        save(root / mask_path(name), values)
    return Planted("class_imbalance", "warning", [mask_path(ONE), mask_path(TWO)], "kept")


@damage
def split_without_masks(root: Path) -> Planted:
    paths = [f"images/test/test_{number}.jpg" for number in range(3)]
    for number, path in enumerate(paths):
        save(root / path, picture(300 + number))
    return Planted("split_without_masks", "warning", paths, "kept")
