"""Predictions equal those that evaluation scores, for every kind of `eval`."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

import fastfcn
from fastfcn import build, weights
from fastfcn.data.dataset import Dataset
from fastfcn.data.transforms import normalize_batch
from fastfcn.errors import UserError, WeightsError
from fastfcn.evaluation.evaluate import evaluate, load_setup, measure
from fastfcn.prediction import inference
from fastfcn.prediction.inference import input_sizes, predict_labels, resized_batch
from fastfcn.prediction.predictor import Predictor
from fastfcn.recipes.inference import image_size, inference_settings
from fastfcn.utils.machine import Machine
from tests.helpers import command
from tests.helpers.gpu_waits import no_gpu_waits
from tests.helpers.tiny import picture, tiny_model, tiny_recipe, tiny_weights, write_streets

SLIDING = 'eval={kind="sliding", every=4, base_size=80, crop=48, stride=32, scales=[1.0, 1.25], flip=true}'
KINDS = {
    "own size": "eval.resize=none",
    "smaller": "eval.resize=[48, 80]",
    "larger": "eval.resize=[128, 200]",
    "turned": "eval.resize=[90, 40]",
    "without flip": "eval.flip=false",
    "sliding": SLIDING,
}
CHANGES = {
    "as the recipe says": {},
    "tta": {"tta": True},
    "size": {"size": (50, 70)},
    "size image": {"size": "image"},
    "window": {"window": "40x48"},
    "size, window, tta": {"size": "100x150", "window": (64, 64), "tta": True},
    "window larger than the image": {"window": "500x500", "size": "image"},
}
MACHINE = Machine("cpu", workers=0)


@pytest.fixture(scope="module")
def streets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_streets(tmp_path_factory.mktemp("streets"), val=2)


@pytest.fixture(scope="module", params=KINDS.values(), ids=KINDS)
def file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_weights(tmp_path_factory.mktemp("weights") / "weights.safetensors", request.param)


def scored_labels(file: Path, streets: Path, changes: dict) -> tuple[Dataset, list[np.ndarray]]:
    """The segmentation maps that `fastfcn evaluate` counts, recorded from its calls."""
    setup = load_setup(file, streets, MACHINE, size=changes.get("size"), window=changes.get("window"))
    settings = setup.inference.with_tta(changes.get("tta", False))
    maps = []
    for index in range(len(setup.dataset)):
        pixels = setup.dataset[index].image
        with torch.inference_mode():
            inputs = resized_batch(settings, pixels[None])
            maps.append(predict_labels(setup.model, settings, inputs, pixels.shape[:2])[0].numpy())
    counts = measure(setup.model, settings, setup.dataset, setup.fabric).counts
    assert np.array_equal(counts, confusion(setup.dataset, maps))
    return setup.dataset, maps


def confusion(dataset: Dataset, maps: Sequence[np.ndarray]) -> np.ndarray:
    classes = len(dataset.description.classes)
    total = np.zeros((classes, classes), np.int64)
    for example, labels in zip((dataset[index] for index in range(len(dataset))), maps, strict=True):
        valid = example.label != 255
        np.add.at(total, (example.label[valid], labels[valid]), 1)
    return total


@pytest.mark.parametrize("changes", CHANGES.values(), ids=CHANGES)
def test_predictions_equal_the_scored_labels(file: Path, streets: Path, changes: dict):
    dataset, expected = scored_labels(file, streets, changes)
    predictor = fastfcn.load(file, "cpu", **changes)
    images = [dataset[index].image for index in range(len(dataset))]
    for image, labels in zip(images, expected, strict=True):
        prediction = predictor(image)
        assert np.array_equal(prediction.labels, labels)
        assert len(np.unique(labels)) > 1 or "tta" in changes
    for prediction, labels in zip(predictor(images), expected, strict=True):  # in one batch
        assert (prediction.labels == labels).mean() > 0.999


@pytest.mark.parametrize("changes", [{}, {"tta": True}, {"window": "40x48"}], ids=["one view", "tta", "window"])
@pytest.mark.parametrize("kind", ["own size", "larger", "sliding"])
def test_probabilities_belong_to_the_labels(tmp_path: Path, kind: str, changes: dict):
    predictor = fastfcn.load(tiny_weights(tmp_path / "w.safetensors", KINDS[kind]), "cpu", **changes)
    pixels = picture(61, 90)
    plain = predictor(pixels)
    for prediction in (predictor(pixels, probabilities=True), predictor(pixels, logits=True, probabilities=True)):
        probabilities = prediction.probabilities
        assert probabilities is not None
        assert probabilities.dtype == np.float32
        assert probabilities.shape == (9, 61, 90)
        assert np.allclose(probabilities.sum(0), 1, atol=1e-5)
        assert probabilities.min() >= 0
        assert (prediction.labels == plain.labels).mean() > 0.999
        assert np.array_equal(prediction.labels, probabilities.argmax(0))
        assert np.array_equal(prediction.confidence(), probabilities.max(0))
    logits = predictor(pixels, logits=True).logits
    assert logits is not None
    assert np.isfinite(logits).all()
    softmax = torch.from_numpy(logits).softmax(0).numpy()
    reference = predictor(pixels, probabilities=True).probabilities
    assert np.abs(softmax - reference).max() < 1e-4
    assert plain.probabilities is None
    with pytest.raises(UserError, match="confidence needs probabilities"):
        plain.confidence()


def test_the_changes_change_something(streets: Path, tmp_path: Path):
    """Otherwise the comparison above would prove little."""
    file = tiny_weights(tmp_path / "weights.safetensors", "eval.resize=[48, 80]")
    image = picture()
    maps = [fastfcn.load(file, "cpu", **changes).labels(image[None]) for changes in CHANGES.values()]
    different = {labels.tobytes() for labels in maps}
    assert len(different) == len(CHANGES) - 1  # a window larger than the image is the image's own size


def test_case_84_the_mask_files_have_the_miou_of_evaluate(streets: Path, tmp_path: Path):
    """The recipe resizes: masks written by `predict` must have the score that `evaluate` prints."""
    for name, change in {"resized": "eval.resize=[40, 60]", "sliding": SLIDING}.items():
        file, out = tiny_weights(tmp_path / f"{name}.safetensors", change), tmp_path / name
        scores = tmp_path / f"{name}.json"
        options = ("--accelerator", "cpu", "--workers", 0, "--json", scores)
        assert command.fastfcn("evaluate", file, "--data", streets, *options).code == 0
        folder = streets / "images" / "val"
        assert command.fastfcn("predict", file, folder, "--out", out, "--device", "cpu", "--no-overlay").code == 0
        dataset = build.dataset(tiny_recipe(), build.description(tiny_recipe()), streets, "val", train=False)
        maps = [np.array(Image.open(out / f"{path.stem}.png")) for path in sorted(folder.iterdir())]
        counts = confusion(dataset, maps)
        union = counts.sum(0) + counts.sum(1) - counts.diagonal()
        miou = 100 * (counts.diagonal() / np.maximum(union, 1))[union > 0].mean()
        assert json.loads(scores.read_text())["miou"] == pytest.approx(miou, abs=5e-3)
        own = command.fastfcn("predict", file, folder, "--out", tmp_path / "own", "--device", "cpu", "--size", "image")
        assert own.code == 0
        others = [np.array(Image.open(tmp_path / "own" / f"{path.stem}.png")) for path in sorted(folder.iterdir())]
        assert any((one != other).any() for one, other in zip(maps, others, strict=True))


@pytest.mark.parametrize("options", [("--size", "48x80"), ("--window", "48x48"), ("--size", "image", "--tta")])
def test_commands_take_the_same_options(streets: Path, tmp_path: Path, weights_file: Path, options: Sequence[str]):
    scores = tmp_path / "scores.json"
    common = ("--accelerator", "cpu", "--workers", 0, "--json", scores)
    assert command.fastfcn("evaluate", weights_file, "--data", streets, *common, *options).code == 0
    named = {"size": None, "window": None} | {
        name: value for name, value in zip(("size", "window"), ("48x80", "48x48"), strict=True) if value in options
    }
    named |= {"size": "image"} if "image" in options else {}
    result = evaluate(weights_file, streets, MACHINE, tta="--tta" in options, **named)
    assert json.loads(scores.read_text())["miou"] == pytest.approx(result.miou, abs=1e-3)
    out = tmp_path / "out"
    done = command.fastfcn("predict", weights_file, streets / "images/val", "--out", out, "--device", "cpu", *options)
    assert done.code == 0
    predictor = fastfcn.load(weights_file, "cpu", tta="--tta" in options, **named)
    for path in (streets / "images" / "val").iterdir():
        assert np.array_equal(np.array(Image.open(out / f"{path.stem}.png")), predictor(path).labels)


@pytest.mark.parametrize("value", ["512", "0x64", "64x", "axb", "1x2x3", "99999x64", (64,), (0, 64), (1.5, 3), "-1x5"])
def test_invalid_sizes(weights_file: Path, value: object):
    with pytest.raises(UserError, match="Invalid image size"):
        fastfcn.load(weights_file, "cpu", size=value)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="Invalid image size"):
        inference_settings(tiny_recipe(), window=value)  # type: ignore[arg-type]


def test_sizes_of_commands_are_checked_before_anything_is_loaded(tmp_path: Path):
    for arguments in (("predict", "--out", tmp_path), ("serve",), ("evaluate", "--data", tmp_path)):
        name, *rest = arguments
        extra = [tmp_path] if name == "predict" else []
        (tmp_path / "w.safetensors").write_bytes(b"no weights")
        done = command.fastfcn(name, tmp_path / "w.safetensors", *extra, *rest, "--size", "big")
        assert (done.code, "Invalid image size 'big'" in done.err) == (2, True)


def test_image_sizes():
    assert image_size("512X1024") == image_size((512, 1024)) == image_size([512, 1024]) == (512, 1024)


def test_sizes_of_views():
    resizing = tiny_recipe("eval.resize=[48, 80]", "eval.scales=[0.5, 1.0]")
    assert input_sizes(inference_settings(resizing), (96, 160)) == [(48, 80)]
    assert input_sizes(inference_settings(resizing, tta=True), (96, 160)) == [(48, 80), (96, 160)]  # as OpenMMLab
    assert input_sizes(inference_settings(resizing, "32x64", tta=True), (96, 160)) == [(16, 27), (32, 53)]
    assert input_sizes(inference_settings(resizing, "image"), (96, 160)) == [(96, 160)]


@pytest.mark.parametrize(
    ("recipe", "changes", "words"),
    [
        ("eval.resize=none", {}, "original image size, whole image"),
        ("eval.resize=[48, 80]", {}, "resized to fit 48x80, whole image"),
        ("eval.resize=[48, 80]", {"size": "image", "tta": True}, "original image size, whole image; 2 scales"),
        ("eval.resize=none", {"window": "32x64"}, "original image size, sliding windows of 32x64"),
        (SLIDING, {}, "resized to a longer side of 80, sliding windows of 48x48"),
        (SLIDING, {"size": "32x64"}, "resized to fit 32x64, whole image"),
    ],
)
def test_the_settings_in_words(recipe: str, changes: dict, words: str):
    assert inference_settings(tiny_recipe(recipe), **changes).description.startswith(words)


def test_info_shows_the_settings(tmp_path: Path):
    file = tiny_weights(tmp_path / "w.safetensors", "eval.resize=[48, 80]")
    assert "resized to fit 48x80, whole image" in command.fastfcn("info", file).out
    shown = json.loads(command.fastfcn("info", file, "--json").out)["inference"]
    assert shown["text"] == "resized to fit 48x80, whole image"
    assert shown["tta"].startswith("resized to fit 48x80, whole image; 2 scales")


def test_without_resizing_the_network_makes_the_segmentation_map(predictor: Predictor, monkeypatch):
    """The optimized network uses one kernel: full-size logits are not computed, and the image is not copied."""
    called = []
    plain = type(predictor.network).labels

    def labels(self: object, images: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        called.append((tuple(images.shape), size))
        return plain(self, images, size)  # type: ignore[arg-type]

    monkeypatch.setattr(type(predictor.network), "labels", labels)
    predictor(picture())
    assert called == [((1, 3, 64, 96), (64, 96))]
    assert np.shares_memory(resized_batch(predictor.inference, pixels := picture()[None])[0].numpy(), pixels)


@torch.no_grad()
def test_windows_against_a_plain_form():
    """For every pixel the mean of the logits of all windows that contain it; the last windows end at the edges."""
    model, used = tiny_model(), tiny_recipe()
    settings = inference_settings(used, "image", window=(40, 60))
    pixels = picture(70, 100)
    data = used.data
    image = (torch.from_numpy(pixels).permute(2, 0, 1).float() - torch.tensor(data.mean)[:, None, None]) / torch.tensor(
        data.std
    )[:, None, None]
    total, counts = torch.zeros(1, 9, 70, 100), torch.zeros(70, 100)
    for top in (0, 27, 30):
        for left in (0, 40):
            window = image[None, :, top : top + 40, left : left + 60]
            logits = functional.interpolate(model.logits(window), (40, 60), mode="bilinear")
            total[..., top : top + 40, left : left + 60] += logits
            counts[top : top + 40, left : left + 60] += 1
    assert counts.min() == 1
    expected = (total / counts)[0]
    actual = predict_labels(model, settings, resized_batch(settings, pixels[None]), (70, 100))[0]
    best = expected.topk(2, dim=0).values
    clear = best[0] - best[1] > 1e-3
    assert clear.float().mean() > 0.98
    assert torch.equal(actual[clear].long(), expected.argmax(0)[clear])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", ["all", "head.classifier.weight"])
def test_weights_that_are_not_finite_are_refused(tmp_path: Path, streets: Path, value: float, name: str):
    """Otherwise every pixel would have the first class."""
    model, used = tiny_model(), tiny_recipe()
    for key, parameter in model.named_parameters():
        if name in ("all", key):
            parameter.data.view(-1)[-1] = value
    file = tmp_path / "weights.safetensors"
    weights.save(file, model, used, build.description(used))
    with pytest.raises(WeightsError, match="NaN or infinite"):
        fastfcn.load(file, "cpu")
    with pytest.raises(WeightsError, match="NaN or infinite"):
        evaluate(file, streets, MACHINE)
    done = command.fastfcn("predict", file, streets, "--out", tmp_path / "out")
    assert (done.code, "NaN or infinite" in done.err) == (2, True)
    assert not (tmp_path / "out").exists()


def test_negative_variances_are_refused(tmp_path: Path):
    model, used = tiny_model(), tiny_recipe()
    next(buffer for key, buffer in model.named_buffers() if key.endswith("running_var"))[0] = -1.0
    weights.save(tmp_path / "w.safetensors", model, used, build.description(used))
    with pytest.raises(WeightsError, match="negative variances"):
        fastfcn.load(tmp_path / "w.safetensors", "cpu")


@pytest.mark.parametrize("changes", [{"tta": True}, {"window": "40x48"}, {"window": "40x48", "tta": True}], ids=str)
@pytest.mark.parametrize("kind", ["own size", "sliding"])
def test_views_and_windows_that_run_together(kind: str, changes: dict, monkeypatch: pytest.MonkeyPatch):
    """As on a GPU: fewer calls of the network, and the same probabilities, compared in float64."""
    model, pixels = tiny_model(KINDS[kind]).double(), picture(61, 90)
    settings = inference_settings(tiny_recipe(KINDS[kind]), **changes)
    images, batches = resized_batch(settings, pixels[None]), []
    monkeypatch.setattr(inference, "normalize_batch", lambda *given: normalize_batch(*given).double())
    model.backbone.register_forward_pre_hook(lambda _, inputs: batches.append(len(inputs[0])))
    results = []
    for model.batch_pixels in (0, 3 * 48 * 48):  # an attribute of the network
        batches.clear()
        strips = list(inference.predict_probabilities(model, settings, images, (61, 90)))
        results.append((torch.cat([strip for _, strip in strips], 2), list(batches)))
    (alone, calls), (together, fewer) = results
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)  # logits of windows are float32
    assert max(calls) == 1 < max(fewer)
    assert sum(calls) == sum(fewer)


def test_images_are_copied_to_a_gpu_from_pinned_memory(monkeypatch: pytest.MonkeyPatch):
    pinned = []
    monkeypatch.setattr(Tensor, "pin_memory", lambda batch: pinned.append(batch.shape) or batch)  # it needs a GPU
    with no_gpu_waits():
        batch = torch.zeros(2, 3, 4, 5, dtype=torch.uint8)
        assert inference._on_device(batch, torch.device("cuda")).device.type == "cuda"
        assert pinned == [batch.shape]
        assert inference._on_device(batch, torch.device("cpu")) is batch
    assert len(pinned) == 1
