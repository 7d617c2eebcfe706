"""Reading images of bands: stored values in every form of file, the choice of bands, missing pixels, and errors."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastfcn.data.bands import BandReader, needs_bands, read_header, read_stored
from fastfcn.data.decoding import DECODE_ERRORS
from fastfcn.data.description import Bands
from fastfcn.errors import DataError
from tests.helpers.band_sets import NAMES, NODATA, SIZE, png_16_bits, scene, write_tiff

MEAN, STD = (600, 900, 1100, 3000, 1700), (100, 100, 100, 700, 400)


def reader(chosen: tuple = NAMES, dtype: str = "uint16", nodata: float | None = None) -> BandReader:
    bands = Bands(names=NAMES, dtype=dtype, nodata=nodata)  # type: ignore[arg-type]
    places = [band - 1 if isinstance(band, int) else NAMES.index(band) for band in chosen]
    return BandReader(bands, chosen, [MEAN[place] for place in places], [STD[place] for place in places])


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_arrays_and_tiffs_keep_their_values(tmp_path: Path, dtype: str):
    pixels = (scene(1, dtype)[0] if dtype != "uint8" else scene(1)[0] // 32).astype(dtype)
    paths = [
        write_tiff(tmp_path / "a.tif", pixels),
        tmp_path / "last.npy",
        tmp_path / "first.npy",
        tmp_path / "order.npy",
    ]
    for path, values in zip(
        paths[1:], (pixels, pixels.transpose(2, 0, 1), pixels.astype(pixels.dtype.newbyteorder(">"))), strict=True
    ):
        np.save(path, values)
    for path in paths:
        for source in (path, path.read_bytes()):
            stored, file = read_stored(source)
            assert stored.dtype == np.dtype(dtype)
            assert np.array_equal(stored, pixels)
            assert (file.size, file.bands, file.dtype) == (SIZE, 5, dtype)
        assert read_header(path).names == (NAMES if path.suffix == ".tif" else ("",) * 5)
        assert needs_bands(path)


def test_pages_of_a_tiff_are_bands(tmp_path: Path):
    pixels = scene(2)[0]
    pages = [Image.fromarray(np.ascontiguousarray(pixels[..., band])) for band in range(5)]
    small = Image.fromarray(np.zeros((8, 8), np.uint16))  # a thumbnail
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=[*pages[1:], small])
    assert np.array_equal(read_stored(tmp_path / "a.tif")[0], pixels)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("filter", [0, 1, 2])
def test_png_files_keep_all_16_bits(channels: int, filter: int):
    pixels = np.random.default_rng(0).integers(0, 65536, (7, 11, channels)).astype(np.uint16)
    stored, file = read_stored(png_16_bits(pixels, filter))
    assert np.array_equal(stored, pixels)
    assert file.names == (("red", "green", "blue", "alpha")[:channels] if channels > 1 else ("",))


def test_8_bit_images_keep_transparency_and_are_not_scaled(tmp_path: Path):
    pixels = np.random.default_rng(0).integers(0, 256, (7, 11, 4)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert np.array_equal(read_stored(tmp_path / "a.png")[0], pixels)
    assert not needs_bands(tmp_path / "a.png")
    for count, form in ((3, "uint8"), (4, "uint8"), (3, "uint16")):
        assert not needs_bands(write_tiff(tmp_path / f"{count}{form}.tif", scene(1)[0][..., :count].astype(form), ()))


def test_bands_are_chosen_by_name_and_by_number_in_the_order_given(tmp_path: Path):
    pixels = scene(3)[0]
    path = write_tiff(tmp_path / "a.tif", pixels)
    for chosen, places in ((("nir", "blue"), [3, 0]), ((5, 1, 2), [4, 0, 1]), (NAMES, [0, 1, 2, 3, 4])):
        image = reader(chosen).read(path)
        assert image.dtype == np.float32
        assert np.array_equal(image, pixels[..., places])
    assert reader().size(path) == SIZE
    again = BandReader.from_json(reader(("nir", "blue")).as_json())
    assert np.array_equal(again.read(path), pixels[..., [3, 0]])
    for chosen, message in (("nri", 'did you mean "nir"'), (6, "no band 6; the files have 5 bands")):
        with pytest.raises(ValueError, match=message):
            BandReader(Bands(names=NAMES, dtype="uint16"), (chosen,), (0,), (1,))


def test_missing_pixels_get_the_mean_of_their_band(tmp_path: Path):
    pixels = scene(4)[0]
    pixels[0, 0, 3] = NODATA
    for tag, described in ((NODATA, None), (None, NODATA)):
        image = reader(("nir", "red"), nodata=described).read(write_tiff(tmp_path / "a.tif", pixels, nodata=tag))
        assert image[0, 0].tolist() == [3000, pixels[0, 0, 2]]
        assert np.array_equal(image[1:], pixels[1:, :, [3, 2]])
    floats = scene(4, "float32")[0]
    floats[0, :4, 0] = np.nan, np.inf, -3.4028235e38, 0.25
    np.save(tmp_path / "a.npy", floats)
    assert reader(("blue",), "float32").read(tmp_path / "a.npy")[0, :4, 0].tolist() == [600, 600, 600, 0.25]


def test_files_with_other_bands_are_refused(tmp_path: Path):
    pixels = scene(5)[0]
    cases = {
        "it has 4 bands": write_tiff(tmp_path / "four.tif", pixels[..., :4], ()),
        "its values are int16": write_tiff(tmp_path / "type.tif", pixels.astype(np.int16), ()),
        "have another order": write_tiff(tmp_path / "order.tif", pixels, NAMES[::-1]),
        "does not exist": tmp_path / "missing.tif",
    }
    for message, path in cases.items():
        with pytest.raises(DataError, match=message) as caught:
            reader().read(path)
        assert path.name in caught.value.message


def test_damaged_files_raise_the_errors_of_decoders(tmp_path: Path):
    whole = write_tiff(tmp_path / "a.tif", scene(6)[0]).read_bytes()
    np.save(tmp_path / "a.npy", scene(6)[0])
    array = (tmp_path / "a.npy").read_bytes()
    np.save(tmp_path / "objects.npy", np.array([[object()]]), allow_pickle=True)
    complex_values, flat = tmp_path / "complex.npy", tmp_path / "flat.npy"
    np.save(complex_values, np.zeros((4, 4), np.complex64))
    np.save(flat, np.zeros(4, np.uint8))
    contents = [whole[: len(whole) // 2], array[:200], array[:4], b"", b"text", (tmp_path / "objects.npy").read_bytes()]
    for content in (*contents, complex_values.read_bytes(), flat.read_bytes()):
        with pytest.raises(DECODE_ERRORS):
            read_stored(content)


def test_previews_show_red_green_and_blue():
    image = np.asarray(MEAN, np.float32)[None, None].repeat(2, 1)
    image[0, 1] += 2 * np.asarray(STD)
    assert reader().preview(image).tolist() == [[[128] * 3, [255] * 3]]
    assert reader().displayed == [2, 1, 0]
    assert reader(("nir", "red")).displayed == [0, 0, 0]
    assert reader(("nir", "swir", "red")).displayed == [0, 1, 2]
