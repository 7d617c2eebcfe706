"""`check` on images of bands: what is recognized and measured, and problems of files and bands."""

from pathlib import Path

import numpy as np
import pytest

from fastfcn.checking.bands import BandSettings
from fastfcn.checking.check import FolderReport, check_folder
from fastfcn.checking.fixing import write_fixed_copy
from fastfcn.errors import DataError
from tests.helpers.band_sets import NAMES, png_16_bits, scene, write_set, write_tiff
from tests.helpers.tiny import save_picture


def checked(root: Path, *names: str, nodata: float | None = None) -> FolderReport:
    return check_folder(root, show_progress=False, bands=BandSettings(names, nodata))


def image(root: Path, number: int) -> Path:
    return next((root / "images").rglob(f"scene{number}.*"))


def kinds(report: FolderReport) -> dict[str, list[str]]:
    return {problem.kind: list(problem.files) for problem in report.problems}


def test_bands_are_recognized_and_measured(tmp_path: Path):
    report = checked(write_set(tmp_path))
    assert kinds(report) == {"band_nodata": []}
    assert report.bands
    described = report.bands.description
    assert (described.names, described.dtype, described.nodata) == (NAMES, "uint16", 0)
    pixels = np.stack([scene(number)[0] for number in range(6)]).astype(np.float64)
    pixels[0, :2, :3] = np.nan
    for band, entry in enumerate(report.bands.counts):
        values = pixels[..., band]
        assert (entry.low, entry.high) == (np.nanmin(values), np.nanmax(values))
        assert (entry.mean, entry.std) == pytest.approx((np.nanmean(values), np.nanstd(values)))
        assert entry.missing == pytest.approx(6 / values.size)
    assert report.as_json()["bands"]["names"] == list(NAMES)


def test_files_with_other_bands_are_named(tmp_path: Path):
    root = write_set(tmp_path)
    pixels = scene(9)[0]
    write_tiff(image(root, 1), pixels[..., :4], NAMES[:4])
    write_tiff(image(root, 2), pixels.astype(np.int16))
    write_tiff(image(root, 3), pixels, NAMES[::-1])
    write_tiff(image(root, 4), pixels, ())  # without names: as all others
    image(root, 5).write_bytes(image(root, 5).read_bytes()[:900])
    problems = kinds(checked(root))
    assert problems["bands_differ"] == [f"images/train/scene{number}.tif" for number in (1, 2, 3)]
    assert problems["image_unreadable"] == ["images/val/scene5.tif"]


def test_constant_bands_and_likely_missing_pixels(tmp_path: Path):
    root = write_set(tmp_path, suffix=".npy")
    for number in range(6):
        pixels = scene(number)[0]
        pixels[..., 4] = 7
        pixels[:4] = 0
        np.save(image(root, number), pixels)
    assert {"band_zeros"} == kinds(checked(root)).keys()
    report = checked(root, *NAMES, nodata=0)
    assert kinds(report).keys() == {"band_constant", "band_nodata"}
    assert "swir (7)" in next(problem.message for problem in report.problems if problem.kind == "band_constant")
    with pytest.raises(DataError, match="2 bands are named"):
        assert checked(root, "red", "nir").bands.description  # type: ignore[union-attr]


def test_fixing_copies_bands_unchanged(tmp_path: Path):
    root = write_set(tmp_path / "scenes")
    write_fixed_copy(checked(root), tmp_path / "fixed", (), show_progress=False)
    assert (tmp_path / "fixed" / image(root, 1).relative_to(root)).read_bytes() == image(root, 1).read_bytes()
    assert checked(tmp_path / "fixed").bands


def test_12_bit_rgb_is_an_error_unless_its_values_are_used(tmp_path: Path):
    root = write_set(tmp_path / "scenes", suffix=".npy")
    for number in range(6):
        pixels = np.random.default_rng(number).integers(0, 4096, (32, 48, 3)).astype(np.uint16)
        path = image(root, number)
        path.unlink()
        path.with_suffix(".png").write_bytes(png_16_bits(pixels))
    report = checked(root)
    assert report.bands is None
    assert len(kinds(report)["image_16_bit_dark"]) == 6
    write_fixed_copy(report, tmp_path / "fixed", (), show_progress=False)
    assert not kinds(checked(tmp_path / "fixed"))
    report = checked(root, "red", "green", "blue")
    assert not report.errors
    assert report.bands
    assert report.bands.description.dtype == "uint16"


def test_rgb_folders_stay_rgb(tmp_path: Path):
    root = write_set(tmp_path, suffix=".npy")
    for number in range(6):
        path = image(root, number)
        path.rename(root / f"{number}.npy")  # somewhere else: not an image
        save_picture(path.with_suffix(".png"), scene(number)[0][..., :3].astype(np.uint8))
    assert checked(root).bands is None
