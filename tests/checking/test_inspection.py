"""Inspection of single images and masks, on files written byte by byte."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastfcn.checking.images import inspect_image
from fastfcn.checking.masks import inspect_mask
from fastfcn.checking.problem import Flag
from tests.helpers.image_files import png, pnm, tiff


def test_an_8_bit_tiff_is_not_called_16_bit(tmp_path: Path):
    """Compressed TIFF: the arguments of its decoder contain an offset, in which "16" can occur."""
    for number in range(4):
        path = tmp_path / f"{number}.tif"
        tag = "x" * (16 * number)
        Image.fromarray(np.full((160, 160, 3), 16 * number, np.uint8)).save(path, compression="tiff_lzw", software=tag)
        assert not inspect_image(path).flags & Flag.IMAGE_16_BIT
    Image.fromarray(np.full((16, 16), 1616, np.uint16)).save(tmp_path / "deep.tif", compression="tiff_lzw")
    assert inspect_image(tmp_path / "deep.tif").flags & Flag.IMAGE_16_BIT


@pytest.mark.parametrize(
    ("content", "flag"),
    [
        (png(np.ones((8, 8), np.uint8), 16, 2), Flag.MASK_MODE),
        (png(np.ones((8, 8), np.uint8), 16, 4), Flag.MASK_MODE),
        (tiff(np.full((8, 8), 300), 16), Flag.MASK_IDS_TOO_LARGE),
        (tiff(np.full((8, 8), 70000), 32), Flag.MASK_IDS_TOO_LARGE),
    ],
)
def test_masks_whose_numbers_cannot_be_used(tmp_path: Path, content: bytes, flag: Flag):
    (tmp_path / "mask").write_bytes(content)
    info = inspect_mask(tmp_path / "mask")
    assert info.flags & flag
    assert info.failure


@pytest.mark.parametrize(
    "content",
    [tiff(np.eye(8, dtype=int) * 2, bits, photometric) for bits in (2, 4, 8) for photometric in (0, 1)]
    + [pnm(np.eye(8, dtype=int) * 2, largest) for largest in (2, 11, 255, 300)],
)
def test_masks_are_counted_by_their_stored_numbers(tmp_path: Path, content: bytes):
    (tmp_path / "mask").write_bytes(content)
    counts = inspect_mask(tmp_path / "mask").counts
    assert counts is not None
    assert {value: int(counts[value]) for value in np.flatnonzero(counts)} == {0: 56, 2: 8}


def test_an_image_beyond_pillows_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "big.png").write_bytes(png(np.ones((40, 40), np.uint8), 8, 0))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    assert inspect_image(tmp_path / "big.png").flags == Flag.IMAGE_TOO_LARGE
    assert inspect_mask(tmp_path / "big.png").flags == Flag.MASK_TOO_LARGE


def test_a_sparse_file_is_not_read(tmp_path: Path):
    with (tmp_path / "sparse.png").open("wb") as file:
        file.truncate(2**40)
    assert "larger than 1 GiB" in inspect_image(tmp_path / "sparse.png").failure
    assert "larger than 1 GiB" in inspect_mask(tmp_path / "sparse.png").failure
