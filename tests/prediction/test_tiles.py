"""Tiles: labels part by part are those of sliding windows, or of the whole image at once."""

from dataclasses import replace
from functools import partial
from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor

from fastfcn import build
from fastfcn.errors import DataError, UserError
from fastfcn.fast.optimize import optimize
from fastfcn.ops.tiling import Span, resize_part
from fastfcn.prediction.inference import predict_labels, predict_logits
from fastfcn.prediction.receptive_field import receptive_field
from fastfcn.prediction.sliding_window import mean_blocks, windows
from fastfcn.prediction.tiles import TiledLabels, prepare_tiles
from fastfcn.recipes.inference import InferenceSettings, inference_settings
from tests.helpers.tiny import picture, tiny_model, tiny_recipe

DILATED = (
    'neck={kind="none"}',
    'backbone={kind="resnet",name="resnet18",pretrained="none",strides=[1,2,1,1],dilations=[1,1,2,4],style="pytorch"}',
)
PSP = 'head={kind="psp",width=8,pools=[1,2,3,6],kernel=3,dropout=0.1,align_corners=true}'
ASPP = 'head={kind="aspp",width=8,dilations=[1,2,3],kernel=1,dropout=0.1,align_corners=false}'
ENC = 'head={kind="enc",width=8,codewords=4,kernel=1,dropout=0.1,align_corners=false,se_loss_weight=0.2}'
SKIP = (
    'head={kind="enc_skip",width=8,codewords=4,kernel=1,dropout=0.1,align_corners=false,skip_width=8,'
    "se_loss_weight=0.2,coarse_loss_weight=0.4}"
)
FCN = 'head={kind="fcn",width=8,depth=1,kernel=3,dropout=0.1,align_corners=false}'
OCR = 'head={kind="ocr",width=8,key_width=8,kernel=3,dropout=0.1,align_corners=false,regions_loss_weight=0.4}'
# A wide and low image is cheap, and has tiles whose halo does not reach its ends.
NETWORKS = {
    "psp on jpu, corners aligned": ((PSP, "neck.align_corners=true"), (40, 700)),
    "aspp, dilated": ((*DILATED, ASPP), (20, 660)),
    "enc on jpu": ((ENC,), (64, 704)),
    "enc on jpu, odd sides": ((ENC,), (45, 689)),
    "enc with skip": ((SKIP,), (39, 671)),
    "fcn without neck": (('neck={kind="none"}', FCN), (50, 705)),
}


def images_of(height: int, width: int) -> Tensor:
    return torch.from_numpy(picture(height, width)).permute(2, 0, 1)[None]


def whole_settings(*changes: str) -> InferenceSettings:
    recipe = tiny_recipe(*changes)
    return prepare_tiles(inference_settings(recipe, tile=256, context="whole"), partial(build.network, recipe, 9))


@pytest.mark.parametrize(("changes", "size"), NETWORKS.values(), ids=NETWORKS)
@torch.inference_mode()
def test_with_the_whole_context_labels_are_those_of_the_whole_image(changes: tuple[str, ...], size: tuple[int, int]):
    settings, model, images = whole_settings(*changes), tiny_model(*changes), images_of(*size)
    assert settings.tiles
    assert settings.tiles.passes == (1 if FCN in changes else 2)
    expected = predict_labels(model, inference_settings(tiny_recipe(), size="image"), [images], size)
    labels = predict_labels(optimize(model, fuse=False), settings, [images], size)
    assert (labels == expected).float().mean() >= 0.9999
    assert len(expected.unique()) > 1


def test_without_what_is_beyond_the_tile_labels_differ():
    """The image of the test above notices a missing halo and totals of the tile alone."""
    changes, size = NETWORKS["psp on jpu, corners aligned"]
    model, images = tiny_model(*changes), images_of(*size) / 64 - 2
    with torch.inference_mode():
        expected = model.labels(images)
        alone = torch.cat([model.labels(images[..., left : left + 256]) for left in range(0, 700, 256)], 2)
    assert (alone != expected).float().mean() > 0.01


@pytest.mark.parametrize("align_corners", [False, True])
def test_parts_of_resized_maps(align_corners: bool):
    """Also where the ratio of the sizes is not that of the strides."""
    maps = torch.randn(1, 2, 5, 9, generator=torch.Generator().manual_seed(0))
    expected = torch.nn.functional.interpolate(maps, (17, 34), mode="bilinear", align_corners=align_corners)
    part = maps[..., 2:5, 3:8]
    rows, columns = Span(11, 17, 17), Span(16, 27, 34)
    resized = resize_part(part, (Span(2, 5, 5), Span(3, 8, 9)), (rows, columns), align_corners)
    torch.testing.assert_close(resized, expected[..., 11:17, 16:27])


def test_the_halo_is_how_far_the_network_sees():
    """A pixel beyond the halo changes no logit of a tile; one well inside changes some."""
    changes = ('neck={kind="none"}', FCN)
    halo = receptive_field(partial(build.network, tiny_recipe(*changes), 9)).halo
    model, images = tiny_model(*changes), torch.zeros(1, 3, 32, 2 * halo + 64)
    images.requires_grad_()
    logits = model.logits(images)
    columns = logits.shape[-1]
    tile = logits[..., columns // 2]  # pixels from halo + 32 on
    (gradient,) = torch.autograd.grad(tile.abs().sum(), images)
    touched = gradient.abs().sum((0, 1, 2)).nonzero().flatten()
    reach = halo + 32 - int(touched.min())
    assert halo / 2 < reach <= halo


@pytest.mark.parametrize(
    ("changes", "operation"),
    [
        ((OCR,), "view"),
        (('backbone={kind="pyramid",name="test_efficientnet",pretrained="none"}',), "mean"),
    ],
)
def test_networks_that_look_at_the_whole_image_in_other_ways_are_refused(changes: tuple[str, ...], operation: str):
    with pytest.raises(UserError, match=f"operation '{operation}'") as caught:
        whole_settings(*changes)
    assert "--context window" in caught.value.hint


def test_padding_that_depends_on_the_size_needs_whole_cells():
    settings = inference_settings(tiny_recipe(), tile=128, context="whole")
    settings = prepare_tiles(settings, partial(build.network, tiny_recipe(), 9))
    assert settings.tiles
    settings = replace(settings, tiles=replace(settings.tiles, whole_cells=True))
    TiledLabels(tiny_model(), settings, (320, 640), images_of)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="multiples of 32; this one has 641 x 320"):
        TiledLabels(tiny_model(), settings, (320, 641), images_of)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [(64, 96), (100, 150), (61, 203)])
@torch.inference_mode()
def test_windows_in_tiles_equal_windows_in_memory(size: tuple[int, int]):
    model, recipe, images = tiny_model(), tiny_recipe(), images_of(*size)
    tiled = inference_settings(recipe, tile=128, window=(32, 48), overlap=0.3)
    plain = inference_settings(recipe, size="image", window=(32, 48), overlap=0.3)
    labels = predict_labels(model, tiled, [images], size)
    assert (labels == predict_labels(model, plain, [images], size)).float().mean() >= 0.9999
    logits = predict_logits(model, plain, [images], size)
    assert (labels == logits.argmax(1)).float().mean() >= 0.9999
    torch.testing.assert_close(logits, plain_mean(model, images, tiled))


def plain_mean(model, images: Tensor, settings: InferenceSettings) -> Tensor:
    """The mean logits of windows: all sums at the size of the image, normalized images."""
    recipe = tiny_recipe()
    mean, std = (torch.tensor(value)[:, None, None] for value in (recipe.data.mean, recipe.data.std))
    images = (images.float() - mean) / std
    assert settings.window
    assert settings.stride
    total, count = torch.zeros(1, 9, *images.shape[2:]), torch.zeros(1, 1, *images.shape[2:])
    axes = zip(images.shape[2:], settings.window, settings.stride, strict=True)
    starts = [
        sorted({min(start, max(length - window, 0)) for start in range(0, length + stride, stride)})
        for length, window, stride in axes
    ]
    used = [
        [start for index, start in enumerate(axis) if index == 0 or axis[index - 1] + window < length]
        for axis, window, length in zip(starts, settings.window, images.shape[2:], strict=True)
    ]
    for top, left in product(*used):
        region = (..., slice(top, top + settings.window[0]), slice(left, left + settings.window[1]))
        total[region] += model(images[region])
        count[region] += 1
    return total / count


@pytest.mark.parametrize("stride", [(2, 3), (4, 6), (6, 8)])
def test_blocks_cover_the_image_once(stride: tuple[int, int]):
    """Also where more than two windows overlap along an axis."""
    size, window = (17, 29), (6, 8)
    places = windows(size, window, stride)
    values = torch.rand(len(places), 1, 2, *window)
    total, count = torch.zeros(1, 2, *size), torch.zeros(size)
    for value, (top, left, bottom, right) in zip(values, places, strict=True):
        total[..., top:bottom, left:right] += value
        count[top:bottom, left:right] += 1
    result, seen = torch.zeros(1, 2, *size), torch.zeros(size)
    for top, left, block in mean_blocks(values, places, size, {}):
        region = (slice(top, top + block.shape[-2]), slice(left, left + block.shape[-1]))
        result[(..., *region)] = block
        seen[region] += 1
    assert (seen == 1).all()
    torch.testing.assert_close(result, total / count)


INVALID = {
    "tile=100": "Invalid tile of 100 pixels",
    "tile=2048, tta=True": "own size in a single view",
    "tile=2048, size='64x64'": "own size in a single view",
    "context='whole'": "context is a setting of tiles",
    "tile=2048, context='all'": "Invalid context 'all'",
    "tile=2048, context='whole', window='64x64'": "there are no windows",
    "window='64x64', overlap=1.0": "Invalid overlap 1.0",
    "overlap=0.5": "An overlap needs windows",
}


@pytest.mark.parametrize(("arguments", "message"), INVALID.items())
def test_invalid_combinations(arguments: str, message: str):
    with pytest.raises(UserError, match=message):
        eval(f"inference_settings(tiny_recipe(), {arguments})")


def test_windows_have_the_size_of_the_training_crops():
    sliding = 'eval={kind="sliding",every=4,base_size=80,crop=48,stride=32,scales=[1.0],flip=true}'
    assert inference_settings(tiny_recipe(), tile=2048).window == (64, 96)
    assert inference_settings(tiny_recipe(sliding), tile=2048).window == (48, 48)
    assert inference_settings(tiny_recipe(), tile=2048).stride == (56, 84)
    assert inference_settings(tiny_recipe(), tile=2048, size="image", window="32x32").stride == (28, 28)


def test_the_plan_says_what_it_costs():
    settings = whole_settings(PSP)
    assert settings.tiles
    plan = TiledLabels(tiny_model(PSP), settings, (2000, 1000), images_of).plan  # type: ignore[arg-type]
    assert f"32 tiles of 256 pixels with a halo of {settings.tiles.halo}, 2 passes" in plan
    once = TiledLabels(tiny_model(PSP), settings, (100, 90), images_of)  # type: ignore[arg-type]
    assert once.steps == once.passes == 1
    windowed = TiledLabels(tiny_model(), inference_settings(tiny_recipe(), tile=128), (500, 700), images_of)  # type: ignore[arg-type]
    assert windowed.plan.startswith(f"{windowed.steps} windows of 64x96; ")
    assert np.isclose(float(windowed.plan.split()[-4]), windowed.steps * 64 * 96 / 350_000, atol=0.01)
