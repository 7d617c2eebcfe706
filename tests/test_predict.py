"""`predict` and `load`: every kind of image, any size, right ids and colours; a broken image stops nothing."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import fastfcn
from fastfcn import build, weights
from fastfcn.errors import DataError, OutputError, UserError, WeightsError
from fastfcn.predict import Predictor, find_images, output_names, predict
from tests import command
from tests.tiny import tiny_model, tiny_recipe, tiny_weights


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_weights(tmp_path_factory.mktemp("weights") / "weights.safetensors")


@pytest.fixture(scope="module")
def predictor(path: Path) -> Predictor:
    return fastfcn.load(path, "cpu")


def picture(height: int = 64, width: int = 96, seed: int = 0) -> np.ndarray:
    """Coarse coloured blocks, RGB uint8 (height, width, 3)."""
    blocks = np.random.default_rng(seed).integers(0, 256, (16, 24, 3), dtype=np.uint8)
    return np.array(Image.fromarray(blocks).resize((width, height), Image.Resampling.BICUBIC))


def save(path: Path, pixels: np.ndarray | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture() if pixels is None else pixels).save(path)
    return path


def names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


def test_a_predictor_says_what_it_is(predictor: Predictor):
    assert predictor.recipe == tiny_recipe()
    assert predictor.classes[:3] == ("sky", "building", "road")
    assert predictor.device == torch.device("cpu")
    assert not predictor.model.training
    assert predictor.model.state_dict().keys() == tiny_model().state_dict().keys()  # the plain network


def test_path_picture_and_array_are_the_same(predictor: Predictor, tmp_path: Path):
    pixels = picture()
    expected = predictor(pixels)
    assert expected.labels.shape == (64, 96)
    assert expected.labels.dtype == np.uint8
    assert len(np.unique(expected.labels)) > 2  # or the rest would say little
    given = [save(tmp_path / "a.png"), str(tmp_path / "a.png"), Image.fromarray(pixels)]
    given += [Image.fromarray(pixels).convert("RGBA"), np.asfortranarray(pixels), pixels[::-1][::-1]]
    read_only = pixels.copy()
    read_only.flags.writeable = False
    for each in [*given, read_only]:
        assert np.array_equal(predictor(each).labels, expected.labels)
        assert np.array_equal(predictor(each).image, pixels)


def test_labels_are_those_of_the_network(predictor: Predictor):
    """Normalised as the recipe says, and the fast form equal to the plain one."""
    pixels, data = picture(), predictor.recipe.data
    image = (torch.from_numpy(pixels).permute(2, 0, 1).float() - torch.tensor(data.mean)[:, None, None]) / torch.tensor(
        data.std
    )[:, None, None]
    with torch.no_grad():
        scores = tiny_model()(image[None])[0]
    best = scores.topk(2, dim=0).values
    clear = (best[0] - best[1] > 1e-3).numpy()
    assert clear.mean() > 0.98
    assert np.array_equal(predictor(pixels).labels[clear], scores.argmax(0).numpy()[clear])


@pytest.mark.parametrize("name", ["test_efficientnet", "test_convnext", "regnetx_002"])
@torch.no_grad()
def test_the_fast_form_is_the_network_on_any_backbone(name: str):
    """Some keep an activation inside their batch norms, or have them before the convolution."""
    torch.manual_seed(0)
    used = tiny_recipe(f'backbone={{kind="pyramid", name="{name}", pretrained="none"}}')
    model = build.create(used).eval()
    for norm in (each for each in model.modules() if isinstance(each, nn.BatchNorm2d)):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias, std=0.1)
        nn.init.normal_(norm.running_mean, std=0.1)
    image = torch.randn(1, 3, 64, 96)
    plain, fast = model.scores(image), Predictor(model, used, build.description(used), "cpu")._fast.scores(image)
    torch.testing.assert_close(fast / plain.std(), plain / plain.std(), rtol=0, atol=1e-4)


@pytest.mark.parametrize("size", [(1, 1), (7, 300), (33, 65), (200, 3), (64, 96)])
def test_any_size(predictor: Predictor, size: tuple[int, int]):
    prediction = predictor(picture(*size))
    assert prediction.labels.shape == size
    assert prediction.labels.max() < 9
    assert prediction.colors.shape == prediction.overlay().shape == (*size, 3)
    assert prediction.label_image().size == size[::-1]


def test_a_batch_is_its_images(predictor: Predictor):
    images = np.stack([picture(seed=seed) for seed in range(3)])
    labels = predictor.labels(images)
    assert labels.shape == (3, 64, 96)
    for image, label in zip(images, labels, strict=True):
        assert (predictor(image).labels == label).mean() > 0.999


def test_a_prediction_in_colours_and_shares(predictor: Predictor):
    prediction = predictor(picture())
    for index, entry in enumerate(predictor.description.classes):
        assert (prediction.colors[prediction.labels == index] == entry.color).all()
    shares = prediction.shares()
    assert sum(shares.values()) == pytest.approx(1)
    assert set(shares) == {predictor.classes[index] for index in np.unique(prediction.labels)}
    assert np.array_equal(prediction.overlay(0.0).shape, prediction.image.shape)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((1, 4, 4, 3), np.uint8),
        [[1, 2, 3]],
        None,
    ],
)
def test_other_arrays_are_refused(predictor: Predictor, image: object):
    with pytest.raises(DataError, match="An image"):
        predictor(image)  # type: ignore[arg-type]


def test_label_ids_are_those_of_the_data_set():
    """Cityscapes calls road 7, not 0; the numbers are stored, the colours shown."""
    used = tiny_recipe("data.dataset=cityscapes")
    about = build.description(used)
    predictor = Predictor(build.create(used), used, about, "cpu")
    prediction = predictor(picture())
    prediction.labels[:] = np.arange(64 * 96).reshape(64, 96) % 19
    image = prediction.label_image()
    assert image.mode == "P"
    stored = np.array(image)
    for index, entry in enumerate(about.classes):
        assert (stored[prediction.labels == index] == entry.ids[0]).all()
        assert tuple(image.getpalette()[3 * entry.ids[0] :][:3]) == entry.color
    assert (about.classes[0].name, stored[0, 0]) == ("road", 7)
    assert np.array_equal(np.array(image.convert("RGB")), prediction.colors)


def test_ids_above_a_byte_are_stored_in_two():
    used = tiny_recipe()
    about = build.description(used)
    entries = [entry.model_copy(update={"ids": (1000 + index,)}) for index, entry in enumerate(about.classes)]
    about = about.model_copy(update={"classes": tuple(entries)})
    prediction = Predictor(tiny_model(), used, about, "cpu")(picture())
    assert np.array_equal(np.array(prediction.label_image()), 1000 + prediction.labels.astype(int))


def test_files_folders_and_patterns(tmp_path: Path):
    for name in ("b.jpg", "a.png", "deep/er/c.JPEG", "deep/d.tif", "._b.jpg", "deep/.hidden.png"):
        save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("x")
    everything = [tmp_path / name for name in ("a.png", "b.jpg", "deep/d.tif", "deep/er/c.JPEG")]
    assert find_images([str(tmp_path)]) == everything
    assert find_images([f"{tmp_path}/*"]) == everything[:2]
    assert find_images([f"{tmp_path}/**/*.[Jj]*"]) == [everything[1], everything[3]]
    assert find_images([f"{tmp_path}/?.png", str(tmp_path / "b.jpg")]) == everything[:2]
    assert find_images([str(tmp_path / "b.jpg"), str(tmp_path)]) == [everything[1], *everything[:1], *everything[2:]]
    assert find_images([str(tmp_path / "notes.txt")]) == [tmp_path / "notes.txt"]  # named, so tried


def test_patterns_are_relative_to_where_one_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    save(tmp_path / "photos" / "a.png")
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    assert find_images(["../photos/*.png"]) == [Path("../photos/a.png")]
    monkeypatch.chdir(tmp_path)
    assert find_images(["photos", "./photos/a.png", "photos/*"]) == [Path("photos/a.png")]


def test_names_with_signs_of_a_pattern(tmp_path: Path):
    odd = save(tmp_path / "set [1]" / "a[2]*.png")
    assert find_images([str(odd)]) == [odd]
    assert find_images([str(odd.parent)]) == [odd]


@pytest.mark.parametrize("given", ["missing.jpg", "*.jpg", "empty", "a**b", "missing/**"])
def test_nothing_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    save(tmp_path / "a.png")
    with pytest.raises(DataError, match="there is no image of that name, folder or pattern") as error:
        find_images(["a.png", given])
    assert error.value.message.startswith(given)
    assert ".jpg" in error.value.hint


def test_images_of_one_name_are_told_apart():
    given = ["x/a.jpg", "y/a.jpg", "y/a.png", "a_2.jpg", "b.jpg", "legend.jpg"]
    assert output_names([Path(each) for each in given]) == ["a", "a_2", "a_3", "a_2_2", "b", "legend_2"]


def test_pictures_are_written(predictor: Predictor, tmp_path: Path):
    images = [save(tmp_path / "x" / "a.png"), save(tmp_path / "y" / "a.jpg", picture(33, 65, seed=1))]
    assert list(predict(predictor, images, tmp_path / "out")) == [None, None]
    assert names(tmp_path / "out") == ["a.png", "a_2.png", "a_2_overlay.jpg", "a_overlay.jpg", "legend.png"]
    for image, name in zip(images, ("a", "a_2"), strict=True):
        prediction = predictor(image)
        with Image.open(tmp_path / "out" / f"{name}.png") as written:
            assert np.array_equal(np.array(written), prediction.labels)  # streets: the ids are the indices
            assert np.array_equal(np.array(written.convert("RGB")), prediction.colors)
        with Image.open(tmp_path / "out" / f"{name}_overlay.jpg") as written:
            overlay = np.array(written).astype(int)
        assert np.abs(overlay - prediction.overlay()).mean() < 8  # JPEG
    with Image.open(tmp_path / "out" / "legend.png") as legend:
        assert legend.size > (50, 50)


def broken(path: Path, kind: str) -> Path:
    save(path)
    match kind:
        case "truncated":
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        case "empty":
            path.write_bytes(b"")
        case "text":
            path.write_text("not an image")
    return path


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@pytest.mark.parametrize("kind", ["truncated", "empty", "text"])
def test_a_broken_image_is_reported_and_the_rest_goes_on(
    predictor: Predictor, tmp_path: Path, kind: str, suffix: str
):
    images = [save(tmp_path / "a.png"), broken(tmp_path / f"b{suffix}", kind), save(tmp_path / "c.png")]
    first, error, last = predict(predictor, images, tmp_path / "out")
    assert first is None
    assert last is None
    assert isinstance(error, DataError)
    assert str(images[1]) in error.message
    assert names(tmp_path / "out") == ["a.png", "a_overlay.jpg", "c.png", "c_overlay.jpg", "legend.png"]


@pytest.mark.parametrize("name", ["a.png", "b_overlay.jpg", "legend.png"])
def test_an_image_is_never_written_over(predictor: Predictor, tmp_path: Path, name: str):
    """The class map of a.png is called a.png: into the same folder it would replace the photograph."""
    images = sorted([save(tmp_path / name), save(tmp_path / "b.tif")])
    before = (tmp_path / name).read_bytes()
    with pytest.raises(OutputError, match=f"{name} would be overwritten"):
        list(predict(predictor, images, tmp_path / "." / "below" / ".."))
    assert (tmp_path / name).read_bytes() == before
    assert [each for each in names(tmp_path) if each != "below"] == sorted([name, "b.tif"])


def test_an_output_that_cannot_be_written(predictor: Predictor, tmp_path: Path):
    image = save(tmp_path / "a.png")
    with pytest.raises(OutputError):
        list(predict(predictor, [image], image / "out"))


@pytest.mark.parametrize("device", ["cuda:99", "nonsense"])
def test_a_device_that_is_not_there(path: Path, device: str):
    with pytest.raises(UserError, match=f"Cannot use the device '{device}'"):
        fastfcn.load(path, device)


def test_weights_that_do_not_fit_their_recipe(tmp_path: Path):
    used = tiny_recipe("neck.width=16")
    weights.save(tmp_path / "w.safetensors", tiny_model(), used, build.description(used))
    with pytest.raises(WeightsError, match="does not fit the network"):
        fastfcn.load(tmp_path / "w.safetensors")


def test_the_command(path: Path, tmp_path: Path):
    save(tmp_path / "photos" / "a.png")
    done = command.fastfcn("predict", path, tmp_path / "photos", "--out", tmp_path / "out", "--device", "cpu")
    assert done.code == 0
    assert "1 of 1 images" in done.out
    assert names(tmp_path / "out") == ["a.png", "a_overlay.jpg", "legend.png"]


def test_the_command_says_by_its_exit_code_that_an_image_was_skipped(path: Path, tmp_path: Path):
    save(tmp_path / "photos" / "a.png")
    broken(tmp_path / "photos" / "b.png", "truncated")
    done = command.fastfcn("predict", path, tmp_path / "photos", "--out", tmp_path / "out", "--device", "cpu")
    assert done.code == 1
    assert "1 of 2 images" in done.out
    assert f"{tmp_path / 'photos' / 'b.png'} cannot be read" in done.err
    assert "Traceback" not in done.err
    assert names(tmp_path / "out") == ["a.png", "a_overlay.jpg", "legend.png"]
