import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from fastfcn.data.description import parse_description
from fastfcn.data.masks import UNNAMED, class_table, describe_value, read_mask
from fastfcn.errors import DataError
from fastfcn.utils.sizes import IGNORE_INDEX

VALUES = np.array([[0, 1, 2], [3, 2, 1]], dtype=np.uint8)
COLORS = np.array([[0, 0, 0], [128, 64, 128], [255, 0, 7], [1, 2, 3]], dtype=np.uint8)


def palette_image(values: np.ndarray) -> Image.Image:
    image = Image.fromarray(values).convert("L")
    image.putpalette(COLORS.ravel().tolist())
    return image


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_palette_masks_give_the_stored_numbers(tmp_path, bits):
    palette_image(VALUES).save(tmp_path / "mask.png", bits=bits)
    assert Image.open(tmp_path / "mask.png").mode == "P"
    assert np.array_equal(read_mask(tmp_path / "mask.png", "index"), VALUES)


def gray_png(path, values: np.ndarray, bits: int) -> None:
    """Store `values` as a gray PNG with `bits` per pixel: a palette file whose color type is changed to gray."""
    packed = b"".join(
        b"\0" + int("".join(f"{v:0{bits}b}" for v in row).ljust(8, "0"), 2).to_bytes(1, "big") for row in values
    )
    height, width = values.shape
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(packed)),
    ]
    data = b"\x89PNG\r\n\x1a\n"
    for kind, body in [*chunks, (b"IEND", b"")]:
        data += struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    path.write_bytes(data)


@pytest.mark.parametrize(("bits", "values"), [(1, VALUES % 2), (2, VALUES), (4, VALUES[:, :2] * 5)])
def test_gray_masks_with_few_bits_give_the_stored_ids(tmp_path, bits, values):
    gray_png(tmp_path / "mask.png", values, bits)
    assert np.array_equal(read_mask(tmp_path / "mask.png", "index"), values)


def test_gray_masks_with_8_and_16_bits(tmp_path):
    Image.fromarray(VALUES).save(tmp_path / "gray.png")
    assert np.array_equal(read_mask(tmp_path / "gray.png", "index"), VALUES)
    deep = VALUES.astype(np.uint16) * 9000
    Image.fromarray(deep).save(tmp_path / "deep.png")
    assert np.array_equal(read_mask(tmp_path / "deep.png", "index"), deep)


def test_rgb_mask_with_equal_channels_is_a_number(tmp_path):
    Image.fromarray(np.dstack([VALUES] * 3)).save(tmp_path / "rgb.png")
    Image.fromarray(np.dstack([VALUES] * 3 + [VALUES * 0 + 255])).save(tmp_path / "rgba.png")
    assert np.array_equal(read_mask(tmp_path / "rgb.png", "index"), VALUES)
    assert np.array_equal(read_mask(tmp_path / "rgba.png", "index"), VALUES)


def test_a_color_mask_if_ids_are_expected(tmp_path):
    Image.fromarray(COLORS[VALUES]).save(tmp_path / "color.png")
    with pytest.raises(DataError, match=r'color\.png .*it is a color mask.* labels_kind = "color"'):
        read_mask(tmp_path / "color.png", "index")


@pytest.mark.parametrize("palette", [False, True])
def test_color_masks(tmp_path, palette):
    image = palette_image(VALUES) if palette else Image.fromarray(COLORS[VALUES])
    image.save(tmp_path / "color.png")
    values = read_mask(tmp_path / "color.png", "color")
    assert values[0, 1] == 128 << 16 | 64 << 8 | 128
    assert describe_value(int(values[0, 2]), "color") == "[255, 0, 7]"


def test_floating_point_masks_are_refused(tmp_path):
    Image.fromarray(VALUES.astype(np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(DataError, match=r"float\.tif .*mode 'F'"):
        read_mask(tmp_path / "float.tif", "index")


DESCRIPTION = """
format = 1
name = "small"
title = "Small"
home = ""
labels_kind = "{kind}"
folders = ["."]
images = ["{{name}}.jpg"]
labels = ["{{name}}.png"]
lists = []
splits = {{ val = "val" }}
ignored = [{ignored}]
classes = [{classes}]
"""


def test_table_of_numbers():
    text = DESCRIPTION.format(
        kind="index",
        ignored='{ name = "x", ids = [9, 1000] }',
        classes='{ name = "a", color = [1, 1, 1], ids = [5] }, { name = "b", color = [1, 1, 1], ids = [0, 300] }',
    )
    table = class_table(parse_description(text, "x"))
    assert table.shape == (65536,)
    named = {5: 0, 0: 1, 300: 1, 9: IGNORE_INDEX, 1000: IGNORE_INDEX}
    assert {int(value): int(table[value]) for value in np.flatnonzero(table != UNNAMED)} == named


def test_table_of_colors():
    text = DESCRIPTION.format(
        kind="color",
        ignored='{ name = "x", color = [0, 0, 0] }',
        classes='{ name = "a", color = [0, 0, 1] }, { name = "b", color = [255, 255, 255] }',
    )
    table = class_table(parse_description(text, "x"))
    assert table.shape == (1 << 24,)
    assert [int(table[value]) for value in (0, 1, 2, 0xFFFFFF)] == [IGNORE_INDEX, 0, UNNAMED, 1]


def test_table_of_several_colors_for_one_class():
    text = DESCRIPTION.format(
        kind="color",
        ignored='{ name = "x", colors = [[0, 0, 3], [0, 0, 4]] }',
        classes='{ name = "a", color = [0, 0, 1], colors = [[0, 0, 2]] }',
    )
    table = class_table(parse_description(text, "x"))
    assert [int(table[value]) for value in range(6)] == [UNNAMED, 0, 0, IGNORE_INDEX, IGNORE_INDEX, UNNAMED]
