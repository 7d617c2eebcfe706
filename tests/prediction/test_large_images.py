"""`predict --tile` on files: GeoTIFF in, GeoTIFF out, part by part."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import fastfcn
from fastfcn.data import bands
from fastfcn.errors import DataError, MissingExtraError, UserError
from fastfcn.evaluation.evaluate import evaluate
from fastfcn.prediction import raster
from fastfcn.prediction.large_images import PREVIEW, Preview, open_sums, predict_raster
from fastfcn.prediction.predictor import Predictor
from fastfcn.prediction.sliding_window import Window
from fastfcn.utils import progress
from fastfcn.utils.machine import Machine
from tests.helpers.command import fastfcn as run
from tests.helpers.tiny import picture, save_picture, write_streets

rasterio = pytest.importorskip("rasterio", reason="needs rasterio (pip install 'fastfcn[geo]')")
SIZE = (150, 217)
PLACE = {"crs": "EPSG:32632", "transform": rasterio.transform.from_origin(500_000, 5_600_000, 0.5, 0.5)}


def write(path: Path, values: np.ndarray, **options: Any) -> Path:
    """A GeoTIFF of values (H, W, bands)."""
    height, width, bands = values.shape
    profile = {"driver": "GTiff", "height": height, "width": width, "count": bands, "dtype": values.dtype, **PLACE}
    colors = options.pop("colors", None)
    with rasterio.open(path, "w", **profile | options) as dataset:
        dataset.write(values.transpose(2, 0, 1))
        if colors:
            dataset.colorinterp = [rasterio.enums.ColorInterp[color] for color in colors]
    return path


@pytest.fixture(scope="module")
def tiled(weights_file: Path) -> Predictor:
    return fastfcn.load(weights_file, "cpu", tile=128)


@pytest.fixture(scope="module")
def whole(weights_file: Path) -> Predictor:
    return fastfcn.load(weights_file, "cpu", tile=128, context="whole")


def test_a_geotiff_becomes_a_geotiff_at_the_same_place(tmp_path: Path, tiled: Predictor, whole: Predictor):
    pixels = picture(*SIZE)
    source = write(tmp_path / "area.tif", pixels, tiled=True, blockxsize=64, blockysize=64, compress="deflate")
    for name, predictor in (("window", tiled), ("whole", whole)):
        reduced, counts = predict_raster(predictor, source, tmp_path / f"{name}.tif")
        with rasterio.open(tmp_path / f"{name}.tif") as written, rasterio.open(source) as original:
            assert written.crs == original.crs
            assert written.transform == original.transform
            assert written.nodata is None
            assert written.profile["tiled"]
            assert written.compression.name == "deflate"
            ids = written.read(1)
            assert [written.colormap(1)[value][:3] for value in range(9)] == list(predictor.description.colors)
        labels = predictor(pixels).labels
        assert np.array_equal(ids, labels)
        assert len(np.unique(labels)) > 1
        assert np.array_equal(reduced.labels, labels)
        assert np.array_equal(reduced.image, pixels)
        assert list(counts.values()) == [count for count in reduced.pixels() if count]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["area.tif", "whole.tif", "window.tif"]


def test_pixels_without_data_stay_without(tmp_path: Path, tiled: Predictor):
    pixels = picture(*SIZE)
    pixels[:40, :70] = 0
    alpha = np.full((*SIZE, 1), 255, np.uint8)
    alpha[:40, :70] = 0
    sources = [
        write(tmp_path / "value.tif", pixels, nodata=0),
        write(tmp_path / "alpha.tif", np.concatenate([pixels, alpha], 2), colors=["red", "green", "blue", "alpha"]),
    ]
    for source in sources:
        predict_raster(tiled, source, tmp_path / "out.tif")
        with rasterio.open(tmp_path / "out.tif") as written:
            assert written.nodata == 255
            ids = written.read(1)
        assert (ids[:40, :70] == 255).all()
        assert np.array_equal(ids[40:], tiled(pixels).labels[40:])


def test_bands_are_found_by_their_meaning(tmp_path: Path):
    pixels = picture(20, 30)
    everything = Window(0, 0, 20, 30)
    gray = pixels[..., :1]
    palette = write(tmp_path / "palette.tif", gray % 4, photometric="palette")
    with rasterio.open(palette, "r+") as dataset:
        dataset.write_colormap(1, {value: (value, 10 * value, 255 - value, 255) for value in range(4)})
    for path, expected in (
        (write(tmp_path / "bgr.tif", pixels[..., ::-1], colors=["blue", "green", "red"]), pixels),
        (write(tmp_path / "gray.tif", gray), gray.repeat(3, 2)),
        (write(tmp_path / "lossless.jp2", pixels, driver="JP2OpenJPEG", quality=100, reversible="yes"), pixels),
        (palette, np.stack([gray[..., 0] % 4, 10 * (gray[..., 0] % 4), 255 - gray[..., 0] % 4], 2)),
    ):
        with raster.open_raster(path, 10) as opened:
            assert np.array_equal(opened.read(everything), expected)
            assert np.array_equal(opened.read(Window(3, 5, 9, 21)), expected[3:9, 5:21])


def test_files_that_cannot_be_used_are_named(tmp_path: Path, tiled: Predictor):
    pixels = picture(*SIZE)
    cut = write(tmp_path / "cut.tif", pixels, compress="deflate")
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    (tmp_path / "text.tif").write_text("no image")
    save_picture(tmp_path / "a.png").rename(tmp_path / "png.tif")
    reference = tmp_path / "reference.tif"  # GDAL would follow it
    reference.write_text(
        '<VRTDataset rasterXSize="217" rasterYSize="150"><VRTRasterBand dataType="Byte" band="1"><SimpleSource>'
        f"<SourceFilename>{write(tmp_path / 'secret.tif', pixels)}</SourceFilename></SimpleSource></VRTRasterBand>"
        "</VRTDataset>"
    )
    for path, reason in (
        (cut, "cannot be read"),
        (tmp_path / "text.tif", "cannot be read: it is neither TIFF nor JPEG 2000"),
        (tmp_path / "png.tif", "cannot be read: it is neither TIFF nor JPEG 2000"),
        (reference, "cannot be read: it is neither TIFF nor JPEG 2000"),
        (tmp_path / "missing.tif", "does not exist"),
        (tmp_path, "directory"),
        (write(tmp_path / "deep.tif", pixels.astype(np.uint16)), "type uint16, not 8-bit"),
        (write(tmp_path / "five.tif", np.concatenate([pixels, pixels[..., :2]], 2)), "its bands are"),
    ):
        with pytest.raises(DataError, match=reason) as caught:
            predict_raster(tiled, path, tmp_path / "out" / "out.tif")
        assert str(path) in caught.value.message
        assert not list((tmp_path / "out").glob("*"))  # nor hidden ones


def test_networks_of_other_bands_are_refused(tmp_path: Path, tiled: Predictor, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tiled, "images", object())
    with pytest.raises(UserError, match="other bands than red, green and blue"):
        predict_raster(tiled, write(tmp_path / "area.tif", picture(*SIZE)), tmp_path / "out.tif")


def test_the_command(tmp_path: Path, weights_file: Path, monkeypatch: pytest.MonkeyPatch):
    """Ordinary images too, and beyond Pillow's limit."""
    pixels = picture(*SIZE)
    source = write(tmp_path / "area.tif", pixels)
    save_picture(tmp_path / "photo.png", pixels)
    out = tmp_path / "out"
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    monkeypatch.setattr(progress, "ESTIMATE_AFTER", 0.0)
    refused = run("predict", weights_file, tmp_path / "photo.png", "--out", out, "--device", "cpu")
    assert refused.code == 1
    assert "fastfcn predict --tile 2048" in refused.err
    done = run("predict", weights_file, source, tmp_path / "photo.png", "--out", out, "--tile", 128, "--device", "cpu")
    assert done.code == 0, done.err
    assert "area.tif: 9 windows of 64x96; the network processes 1.70 times the pixels" in " ".join(done.out.split())
    assert "area.tif: about " in done.out
    assert Image.MAX_IMAGE_PIXELS == 1000
    monkeypatch.undo()
    names = ["area.tif", "area_overlay.jpg", "legend.png", "manifest.jsonl", "photo.png", "photo_overlay.jpg"]
    assert sorted(path.name for path in out.glob("[!.]*")) == names
    with rasterio.open(out / "area.tif") as written:
        assert np.array_equal(written.read(1), np.asarray(Image.open(out / "photo.png")))
    entries = [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()[1:]]
    assert entries[0]["pixels"] == entries[1]["pixels"]
    resumed = run("predict", weights_file, source, tmp_path / "photo.png", "--out", out, "--tile", 128, "--resume")
    assert "2 were finished before" in resumed.out
    again = run("predict", weights_file, out / "area.tif", "--out", out, "--tile", 128)
    assert "would be overwritten" in again.err


def test_a_missing_package_is_named(tmp_path: Path, tiled: Predictor, monkeypatch: pytest.MonkeyPatch):
    source = write(tmp_path / "area.tif", picture(*SIZE))
    bands.rasterio.cache_clear()
    monkeypatch.setitem(__import__("sys").modules, "rasterio", None)
    with pytest.raises(MissingExtraError, match=r"fastfcn\[geo\]"):
        predict_raster(tiled, source, tmp_path / "out.tif")


def test_evaluation_in_tiles_scores_the_same_windows(tmp_path: Path, weights_file: Path):
    streets, machine = write_streets(tmp_path / "streets", train=1, val=1), Machine("cpu", workers=0)
    plain = evaluate(weights_file, streets, machine, size="image", window="32x48", overlap=0.125)
    tiled = evaluate(weights_file, streets, machine, window="32x48", tile=128)
    assert np.array_equal(plain.scores.counts, tiled.scores.counts)


def test_previews_have_every_nth_label():
    labels = np.random.default_rng(0).integers(0, 9, (50, 2 * PREVIEW + 3), np.uint8)
    preview = Preview((50, labels.shape[1]))
    for top, left in ((0, 0), (0, 1001), (17, 0), (17, 1001)):
        bottom, right = 17 if top == 0 else 50, 1001 if left == 0 else labels.shape[1]
        preview.add(Window(top, left, bottom, right), labels[top:bottom, left:right])
    assert np.array_equal(preview.labels, labels[::3, ::3])


def test_stored_sums_are_a_dictionary(tmp_path: Path):
    with open_sums(tmp_path / "area.tif") as sums:
        values = {key: torch.rand(1, 2, 3 + key, 4) for key in range(3)}
        for key, value in [*values.items(), (1, torch.rand(1, 2, 9, 4)), (0, torch.rand(1, 2, 0, 4))]:
            sums[key] = values[key] = value
        for key, value in values.items():
            assert key in sums
            assert torch.equal(sums[key], value)
        assert 3 not in sums
    assert list(tmp_path.iterdir()) == []
