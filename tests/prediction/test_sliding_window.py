"""Sliding windows against a plain implementation of the same arithmetic."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fastfcn.data.transforms import normalize
from fastfcn.evaluation.evaluate import TestImages
from fastfcn.prediction.inference import input_sizes, predict_labels
from fastfcn.prediction.sliding_window import long_side_size, sliding_window_votes, window_starts
from fastfcn.recipes.inference import inference_settings
from fastfcn.recipes.recipe import Recipe
from tests.helpers.tiny import picture, tiny_model, tiny_recipe

BLACK = torch.tensor([-2.1, -2.0, -1.8])
BASE, CROP, STRIDE = 52, 48, 32  # a tenth of the official code's values
SCALES = (0.5, 0.75, 1.0, 1.25, 1.75)
SIZES = [(40, 70), (70, 40), (48, 48), (5, 90), (33, 34)]
WINDOWS = (
    f'eval={{kind="sliding",every=4,base_size={BASE},crop={CROP},stride={STRIDE},scales=[0.5, 1.0, 1.75],flip=true}}'
)


def network(window: Tensor) -> Tensor:
    """Logits that depend on neighboring pixels and on the position in the window; 4 classes."""
    assert window.shape[1:] == (3, CROP, CROP)
    weight = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(1)) / 8
    rows, columns = torch.linspace(-1, 1, CROP)[:, None], torch.linspace(-1, 1, CROP)
    place = torch.stack([rows + columns, rows - columns, rows * columns, rows.square() + 0 * columns])
    return F.conv2d(window, weight, padding=2) + place


def image_of(size: tuple[int, int]) -> Tensor:
    return torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(0))


def plain_scores(network, image: Tensor, scales, flip: bool) -> Tensor:
    """Window by window and pixel by pixel: lists of probabilities, then their mean."""
    height, width = image.shape[-2:]
    total = torch.zeros(())
    for scale in scales:
        longer = math.ceil(BASE * scale)
        size = (longer, int(width * longer / height + 0.5))
        if width >= height:
            size = (int(height * longer / width + 0.5), longer)
        scaled = F.interpolate(image, size, mode="bilinear", align_corners=True)[0]
        canvas = BLACK[:, None, None].repeat(1, size[0] + 2 * CROP, size[1] + 2 * CROP)
        canvas[:, : size[0], : size[1]] = scaled
        votes: dict[tuple[int, int], list[Tensor]] = {}
        for top in starts(size[0]):
            for left in starts(size[1]):
                window = canvas[None, :, top : top + CROP, left : left + CROP]
                logits = network(window)
                if flip:
                    logits = logits + torch.flip(network(torch.flip(window, (3,))), (3,))
                for row in range(min(CROP, size[0] - top)):
                    for column in range(min(CROP, size[1] - left)):
                        votes.setdefault((top + row, left + column), []).append(logits[0, :, row, column].exp())
        mean = [[torch.stack(votes[row, column]).mean(0) for column in range(size[1])] for row in range(size[0])]
        average = torch.stack([torch.stack(row) for row in mean]).permute(2, 0, 1)[None]
        total = total + F.interpolate(average, (height, width), mode="bilinear", align_corners=True)
    return total


def starts(length: int) -> list[int]:
    offsets = [0]
    while offsets[-1] + CROP < length:
        offsets.append(offsets[-1] + STRIDE)
    return offsets


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_equals_the_plain_form(size: tuple[int, int], flip: bool):
    votes = sliding_window_votes(network, image_of(size), BLACK, BASE, (CROP, CROP), (STRIDE, STRIDE), SCALES, flip)
    expected = plain_scores(network, image_of(size), SCALES, flip)
    assert votes.shape == (1, 4, *size)
    torch.testing.assert_close(votes, expected, rtol=1e-5, atol=1e-5)
    assert len(votes.argmax(1).unique()) > 1


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("count", [2, 3, 100])
def test_windows_that_run_together_have_the_same_votes(count: int, flip: bool):
    batches = []

    def recorded(windows: Tensor) -> Tensor:
        batches.append(len(windows))
        return network(windows)

    arguments = (image_of((61, 90)), BLACK, BASE, (CROP, CROP), (STRIDE, STRIDE), SCALES, flip)
    alone = sliding_window_votes(network, *arguments)
    together = sliding_window_votes(recorded, *arguments, batch_pixels=count * CROP * CROP)
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)
    assert 1 < max(batches) <= count


@pytest.mark.parametrize("length", [1, 47, 48, 49, 80, 81, 200])
def test_windows_cover_everything_and_none_is_needless(length: int):
    offsets = list(window_starts(length, CROP, STRIDE))
    assert offsets == starts(length)
    assert offsets[-1] + CROP >= length


def test_the_longer_side_is_the_scales():
    """Sizes of the official code: base size 520, images of 375 x 500 and 500 x 375 as in Pascal Context."""
    assert long_side_size((375, 500), 520) == (390, 520)
    assert long_side_size((500, 375), 520) == (520, 390)
    assert long_side_size((375, 500), 260) == (195, 260)
    assert long_side_size((333, 500), math.ceil(520 * 1.25)) == (433, 650)  # 432.9
    assert long_side_size((7, 7), 910) == (910, 910)


def test_large_scores_of_half_precision_are_taken_to_the_power_in_float32():
    """In half precision e^12 is infinite."""

    def halves(window: Tensor) -> Tensor:
        return torch.stack([window[:, 0] * 0 + 12, window[:, 0] * 0 + 13], 1).half()

    votes = sliding_window_votes(halves, image_of((40, 70)), BLACK, BASE, (CROP, CROP), (STRIDE, STRIDE), (1.0,), False)
    torch.testing.assert_close(votes[0, :, 3, 5], torch.tensor([12.0, 13.0]).exp())


@pytest.fixture
def used() -> Recipe:
    return tiny_recipe(WINDOWS, "head.align_corners=true")


@pytest.mark.parametrize("tta", [False, True])
@torch.no_grad()
def test_evaluation_goes_by_the_kind_in_the_recipe(used: Recipe, tta: bool):
    """At one scale without flips, or with the recipe's TTA; the image is not resized before."""
    model, pixels = tiny_model(WINDOWS, "head.align_corners=true"), picture(61, 90)
    settings = inference_settings(used, tta=tta)
    assert input_sizes(settings, (61, 90)) == [(61, 90)]
    image = torch.from_numpy(pixels.transpose(2, 0, 1).copy())
    labels = predict_labels(model, settings, [image[None]], (61, 90))[0]
    mean, std = torch.tensor(used.data.mean), torch.tensor(used.data.std)
    scales, flip = (used.eval.scales, True) if tta else ((1.0,), False)
    normalized = normalize(pixels, used.data.mean, used.data.std)[None]
    expected = sliding_window_votes(model, normalized, -mean / std, BASE, (CROP, CROP), (STRIDE, STRIDE), scales, flip)
    assert labels.dtype == torch.uint8
    assert torch.equal(labels.long(), expected[0].argmax(0))
    assert len(labels.unique()) > 1


def test_images_keep_their_size(used: Recipe):
    class ImageList(list):
        def __getitem__(self, index: int):
            return type("Example", (), {"image": picture(61, 90), "label": picture(61, 90)[..., 0]})

    (image,), label = TestImages(ImageList(), inference_settings(used, tta=True))[0]  # type: ignore[arg-type]
    assert image.shape == (1, 3, 61, 90)
    assert label.shape == (61, 90)
