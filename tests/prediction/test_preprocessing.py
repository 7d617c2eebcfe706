"""From an image file to a segmentation map and a score as in mmsegmentation, restated with plain interpolation."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from PIL import Image
from torch import Tensor
from torch.nn import functional

from fastfcn import build
from fastfcn.data.opencv_resize import resize_image
from fastfcn.evaluation import evaluate
from fastfcn.evaluation.scores import as_json
from fastfcn.metrics import Scores
from fastfcn.models.segmenter import Segmenter
from fastfcn.prediction import inference
from fastfcn.recipes.inference import inference_settings
from fastfcn.recipes.recipe import Recipe
from tests.helpers.tiny import picture, save_picture, tiny_model, tiny_recipe

SIZE = (50, 71)
SEEN = (128, 182)  # SIZE fitted into 128 x 512, as ADE20K's images are into 512 x 2048
SCALES = {0.5: (25, 36), 0.75: (37, 53), 1.5: (75, 107)}  # rounded as in mmcv 2.1.0
ADE20K_LIKE = ("eval.resize=[128, 512]", f"eval.scales={list(SCALES)}")


@pytest.fixture(scope="module")
def used() -> Recipe:
    return tiny_recipe(*ADE20K_LIKE)


@pytest.fixture(scope="module")
def model() -> Segmenter:
    return tiny_model(*ADE20K_LIKE)


@pytest.fixture
def image() -> np.ndarray:
    return picture(*SIZE)


def normalized(image: np.ndarray, used: Recipe) -> Tensor:
    values = (image.astype(np.float64) - used.data.mean) / used.data.std
    return torch.from_numpy(values.transpose(2, 0, 1)[None]).float()


def resized(logits: Tensor, size: tuple[int, int]) -> Tensor:
    return functional.interpolate(logits, size, mode="bilinear", align_corners=False)


@torch.no_grad()
def plain_scores(model: Segmenter, used: Recipe, image: np.ndarray, seen: tuple[int, int], flip: bool) -> Tensor:
    """Logits (1, C, H, W): resized to the network's input size, flipped back, and resized to the image's size."""
    pixels = normalized(resize_image(image, seen), used)
    logits = resized(model.logits(pixels.flip(-1) if flip else pixels), seen)
    return resized(logits.flip(-1) if flip else logits, SIZE)


def plain_labels(model: Segmenter, used: Recipe, image: np.ndarray, tta: bool) -> Tensor:
    if not tta:
        return plain_scores(model, used, image, SEEN, flip=False)[0].argmax(0)
    views = [(size, flip) for size in SCALES.values() for flip in (False, True)]
    votes = [plain_scores(model, used, image, size, flip).softmax(1) for size, flip in views]
    return torch.stack(votes).mean(0)[0].argmax(0)


def our_labels(model: Segmenter, used: Recipe, image: np.ndarray, tta: bool) -> Tensor:
    settings = inference_settings(used, tta=tta)
    sizes = inference.input_sizes(settings, SIZE)
    images = [torch.from_numpy(resize_image(image, size).transpose(2, 0, 1).copy())[None] for size in sizes]
    with torch.no_grad():
        return inference.predict_labels(model, settings, images, SIZE)[0]


def equal(one: Tensor, other: Tensor) -> float:
    return float((one == other).double().mean())


def test_sizes_seen(used):
    assert inference.input_sizes(inference_settings(used), SIZE) == [SEEN]
    assert inference.input_sizes(inference_settings(used, tta=True), SIZE) == list(SCALES.values())


@pytest.mark.parametrize("tta", [False, True], ids=["one view", "all views"])
def test_scores_go_through_the_size_that_the_network_sees(model, used, image, tta):
    labels = our_labels(model, used, image, tta)
    assert labels.shape == SIZE
    assert len(labels.unique()) >= 3
    assert equal(labels, plain_labels(model, used, image, tta)) == 1.0


def test_resizing_once_gives_another_class_map(model, used, image):
    """Otherwise the test above would prove nothing."""
    with torch.no_grad():
        logits = model.logits(normalized(resize_image(image, SEEN), used))
    assert equal(resized(logits, SIZE)[0].argmax(0), plain_labels(model, used, image, tta=False)) < 0.999


def test_views_differ(model, used, image):
    assert equal(our_labels(model, used, image, tta=True), our_labels(model, used, image, tta=False)) < 0.99


@pytest.mark.parametrize("tta", [False, True], ids=["one view", "all views"])
def test_from_files_to_the_score(model, used, image, tta, tmp_path: Path):
    """With the plain segmentation map as mask every pixel is correct; a wrong stripe makes as many wrong."""
    label = plain_labels(model, used, image, tta).to(torch.uint8).numpy()
    wrong = label.copy()
    wrong[:5] = (wrong[:5] + 1) % 9
    save_picture(tmp_path / "images/val/0.png", image)
    mask = save_picture(tmp_path / "labels/val/0.png", label)
    dataset = build.dataset(used, build.description(used), tmp_path, "val", train=False)
    fabric = Fabric(accelerator="cpu", devices=1)
    assert evaluate.measure(model, inference_settings(used, tta=tta), dataset, fabric).pixel_accuracy == 100.0
    Image.fromarray(wrong).save(mask)
    assert evaluate.measure(model, inference_settings(used, tta=tta), dataset, fabric).pixel_accuracy == pytest.approx(
        90.0
    )


def test_final_score_is_the_mean_of_pixel_accuracy_and_miou():
    description = build.description(tiny_recipe())
    counts = np.zeros((9, 9), np.int64)
    counts[0, :2] = 60, 20  # IoU 60 / 80, with 80 of 100 pixels correct
    counts[1, 1] = 20  # IoU 20 / 40
    written = as_json(Scores(counts), description)
    assert written["pixel_accuracy"] == 80.0
    assert written["miou"] == 62.5
    assert written["final_score"] == pytest.approx((0.8 + 0.625) / 2, abs=1e-4)


def test_final_score_as_published():
    """The pixel accuracy and mIoU of a submission to the challenge, and the paper's final score from these two."""
    scores = Scores(np.eye(9, dtype=np.int64))
    scores.pixel_accuracy, scores.miou = 73.34, 38.34
    assert as_json(scores, build.description(tiny_recipe()))["final_score"] == 0.5584


def test_final_score_of_nothing():
    scores = Scores(np.zeros((9, 9), np.int64))
    assert math.isnan(scores.miou)
    assert as_json(scores, build.description(tiny_recipe()))["final_score"] is None
