"""`load` and its predictor: every type of image, any size, any backbone, correct ids and colors."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import fastfcn
from fastfcn import build, weights
from fastfcn.errors import DataError, UserError, WeightsError
from fastfcn.prediction.predictor import Predictor, TorchPredictor
from tests.helpers.tiny import picture, save_picture, tiny_model, tiny_recipe


def test_attributes_of_a_predictor(predictor: Predictor):
    assert predictor.recipe == tiny_recipe()
    assert predictor.classes[:3] == ("sky", "building", "road")
    assert predictor.device == torch.device("cpu")
    assert not predictor.network.training
    assert not any(isinstance(module, nn.BatchNorm2d) for module in predictor.network.modules())  # optimized


def test_path_pil_image_and_array_give_equal_predictions(predictor: Predictor, tmp_path: Path):
    pixels = picture()
    expected = predictor(pixels)
    assert expected.labels.shape == (64, 96)
    assert expected.labels.dtype == np.uint8
    assert len(np.unique(expected.labels)) > 2  # or the comparisons below would be weak
    forms = [save_picture(tmp_path / "a.png"), str(tmp_path / "a.png"), Image.fromarray(pixels)]
    forms += [Image.fromarray(pixels).convert("RGBA"), np.asfortranarray(pixels), pixels[::-1][::-1]]
    read_only = pixels.copy()
    read_only.flags.writeable = False
    for form in [*forms, read_only]:
        assert np.array_equal(predictor(form).labels, expected.labels)
        assert np.array_equal(predictor(form).image, pixels)


def test_labels_equal_those_of_the_plain_network(predictor: Predictor):
    """Normalized as in the recipe; the optimized network equals the plain one."""
    pixels, data = picture(), predictor.recipe.data
    image = (torch.from_numpy(pixels).permute(2, 0, 1).float() - torch.tensor(data.mean)[:, None, None]) / torch.tensor(
        data.std
    )[:, None, None]
    with torch.no_grad():
        logits = tiny_model()(image[None])[0]
    best = logits.topk(2, dim=0).values
    clear = (best[0] - best[1] > 1e-3).numpy()
    assert clear.mean() > 0.98
    assert np.array_equal(predictor(pixels).labels[clear], logits.argmax(0).numpy()[clear])


def test_tensors_are_images_too(predictor: Predictor):
    pixels = picture()
    expected = predictor(pixels)
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    for form in (tensor, tensor.contiguous(), tensor / 255, (tensor / 255).half(), (tensor / 255.0).requires_grad_()):
        assert np.array_equal(predictor(form).image, pixels)
        assert np.array_equal(predictor(form).labels, expected.labels)


def test_several_images_of_different_sizes_and_forms(predictor: Predictor, tmp_path: Path):
    images = [picture(), picture(33, 65, seed=1), picture(33, 65, seed=2), picture(1, 300, seed=3)]
    forms = [save_picture(tmp_path / "a.png"), Image.fromarray(images[1]), torch.from_numpy(images[2]).permute(2, 0, 1)]
    predictions = predictor([*forms, images[3]])
    assert [prediction.labels.shape for prediction in predictions] == [(64, 96), (33, 65), (33, 65), (1, 300)]
    for image, prediction in zip(images, predictions, strict=True):
        assert np.array_equal(prediction.image, image)
        assert (prediction.labels == predictor(image).labels).mean() > 0.999
    assert predictor([]) == []
    assert len(predictor((images[0],))) == 1


def test_arrays_and_tensors_of_four_dimensions(predictor: Predictor):
    images = np.stack([picture(seed=seed) for seed in range(3)])
    expected = predictor.labels(images)
    for image in (images, torch.from_numpy(images).permute(0, 3, 1, 2), torch.from_numpy(images).movedim(3, 1) / 255):
        predictions = predictor(image)
        assert (np.stack([one.labels for one in predictions]) == expected).mean() > 0.999
    with pytest.raises(DataError, match="An image array"):
        predictor(np.zeros((2, 4, 4, 4), np.uint8))


def test_a_long_list_is_processed_in_batches(predictor: Predictor, monkeypatch: pytest.MonkeyPatch):
    """Its memory is then that of a few images."""
    monkeypatch.setattr("fastfcn.prediction.image_formats.BATCH_PIXELS", 4 * 40 * 40)
    sizes = []
    labels = predictor.labels
    monkeypatch.setattr(predictor, "labels", lambda images: sizes.append(len(images)) or labels(images))
    predictor([picture(40, 40, seed) for seed in range(9)] + [picture(80, 90)] * 2 + [picture(40, 40)])
    assert sizes == [4, 4, 1, 1, 1, 1]


def test_logits_on_request(predictor: Predictor):
    """They have the image's size and equal those of the plain network; the labels are their argmax."""
    pixels, data = picture(33, 65), predictor.recipe.data
    prediction = predictor(pixels, logits=True)
    assert prediction.logits is not None
    assert prediction.logits.dtype == np.float32
    assert prediction.logits.shape == (9, 33, 65)
    assert np.array_equal(prediction.labels, prediction.logits.argmax(0))
    assert prediction.labels.dtype == np.uint8
    mean, std = torch.tensor(data.mean)[:, None, None], torch.tensor(data.std)[:, None, None]
    with torch.no_grad():
        plain = tiny_model()((torch.from_numpy(pixels).permute(2, 0, 1).float() - mean)[None] / std)[0].numpy()
    assert np.abs(prediction.logits - plain).max() < 1e-3 * plain.std()
    assert predictor(pixels).logits is None
    first, second = predictor([pixels, picture()], logits=True)
    assert first.logits is not None
    assert np.abs(first.logits - prediction.logits).max() < 1e-3 * plain.std()
    assert second.logits is not None
    assert second.logits.shape == (9, 64, 96)


@pytest.mark.parametrize("name", ["test_efficientnet", "test_convnext", "regnetx_002"])
@torch.no_grad()
def test_the_optimized_form_equals_the_network_on_any_backbone(name: str):
    """Some have an activation inside their batch norms, or batch norms before convolutions."""
    torch.manual_seed(0)
    used = tiny_recipe(f'backbone={{kind="pyramid", name="{name}", pretrained="none"}}')
    model = build.create(used).eval()
    for norm in (module for module in model.modules() if isinstance(module, nn.BatchNorm2d)):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias, std=0.1)
        nn.init.normal_(norm.running_mean, std=0.1)
    image = torch.randn(1, 3, 64, 96)
    plain, fast = model.logits(image), TorchPredictor(model, used, build.description(used), "cpu").network.logits(image)
    torch.testing.assert_close(fast / plain.std(), plain / plain.std(), rtol=0, atol=1e-4)


@pytest.mark.parametrize("size", [(1, 1), (7, 300), (33, 65), (200, 3), (64, 96)])
def test_any_size(predictor: Predictor, size: tuple[int, int]):
    prediction = predictor(picture(*size))
    assert prediction.labels.shape == size
    assert prediction.labels.max() < 9
    assert prediction.colors.shape == prediction.overlay().shape == (*size, 3)
    assert prediction.label_image().size == size[::-1]


def test_a_batch_equals_its_images(predictor: Predictor):
    images = np.stack([picture(seed=seed) for seed in range(3)])
    labels = predictor.labels(images)
    assert labels.shape == (3, 64, 96)
    for image, label in zip(images, labels, strict=True):
        assert (predictor(image).labels == label).mean() > 0.999


def test_colors_and_shares_of_a_prediction(predictor: Predictor):
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
        np.zeros((1, 4, 4), np.uint8),
        [[1, 2, 3]],
        None,
        torch.zeros(4, 4),
        torch.zeros(4, 4, 3),
        torch.zeros(3, 4, 0),
        torch.zeros(3, 4, 4, dtype=torch.int64),
        torch.full((3, 4, 4), 1.5),
        torch.full((3, 4, 4), -0.1),
        torch.full((3, 4, 4), torch.nan),
    ],
)
def test_other_arrays_are_rejected(predictor: Predictor, image: object):
    with pytest.raises(DataError, match="An image"):
        predictor(image)  # type: ignore[arg-type]


def test_label_images_store_the_ids_of_the_dataset():
    """Road has id 7 in Cityscapes, not 0; ids are stored, colors are shown."""
    used = tiny_recipe("data.dataset=cityscapes")
    description = build.description(used)
    predictor = TorchPredictor(build.create(used), used, description, "cpu")
    prediction = predictor(picture())
    prediction.labels[:] = np.arange(64 * 96).reshape(64, 96) % 19
    image = prediction.label_image()
    assert image.mode == "P"
    stored = np.array(image)
    for index, entry in enumerate(description.classes):
        assert (stored[prediction.labels == index] == entry.ids[0]).all()
        assert tuple(image.getpalette()[3 * entry.ids[0] :][:3]) == entry.color
    assert (description.classes[0].name, stored[0, 0]) == ("road", 7)
    assert np.array_equal(np.array(image.convert("RGB")), prediction.colors)


def test_ids_above_255_are_stored_in_16_bits():
    used = tiny_recipe()
    description = build.description(used)
    entries = [entry.model_copy(update={"ids": (1000 + index,)}) for index, entry in enumerate(description.classes)]
    description = description.model_copy(update={"classes": tuple(entries)})
    prediction = TorchPredictor(tiny_model(), used, description, "cpu")(picture())
    assert np.array_equal(np.array(prediction.label_image()), 1000 + prediction.labels.astype(int))


@pytest.mark.parametrize("device", ["cuda:99", "nonsense"])
def test_a_missing_device(weights_file: Path, device: str):
    with pytest.raises(UserError, match=f"Cannot use the device '{device}'"):
        fastfcn.load(weights_file, device)


def test_weights_that_do_not_fit_their_recipe(tmp_path: Path):
    used = tiny_recipe("neck.width=16")
    weights.save(tmp_path / "w.safetensors", tiny_model(), used, build.description(used))
    with pytest.raises(WeightsError, match="does not fit the network"):
        fastfcn.load(tmp_path / "w.safetensors")
