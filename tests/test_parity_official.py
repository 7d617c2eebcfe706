"""Networks against logits that the official FastFCN code (wuhuikai/FastFCN) computed with the same weights.

The weights are functions of its key names (official_weights.py); the logits were stored by
`benchmarks/parity/official.py --store`, so that the code is not needed here.
"""

import copy
import json
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from fastfcn import build, recipes
from fastfcn.models.segmenter import Segmenter
from fastfcn.ops.upsample import upsample
from fastfcn.weights.official import from_official
from tests.helpers import named_weights, official_weights
from tests.helpers.official_weights import JPU_X
from tests.helpers.paths import STORED

FILES = sorted((STORED / "logits").glob("official_*.json"))
# For logits whose standard deviation is 3; each of the MISTAKES below gives at least ten times as much.
TOLERANCE = 5e-4
USUAL_STD = 3.0


def largest_difference(logits: Tensor, sample: dict) -> float:
    """Largest difference at the stored positions, in units where the logits' standard deviation is 3."""
    assert list(logits.shape) == sample["shape"]
    ours = logits.flatten()[torch.tensor(sample["positions"])].numpy()
    return float(np.abs(ours - np.array(sample["logits"])).max() / sample["std"] * USUAL_STD)


@torch.no_grad()
def differences(model: Segmenter, stored: dict) -> dict[str, float]:
    """Largest difference of the full-size, the auxiliary and the SE logits, over the stored images.

    The official code gives the auxiliary logits at the image's size.
    """
    worst: dict[str, float] = {}
    for entry in stored["images"]:
        image = torch.from_numpy(named_weights.image(*entry["size"]))
        _, extras = model.forward_train(image)
        auxiliary = upsample(extras["auxiliary"], entry["size"], model.align_corners)
        logits = {"main": model(image), "auxiliary": auxiliary, "se": extras.get("se")}
        assert ("se" in extras) == ("se" in entry)
        for part in logits.keys() & entry.keys():
            worst[part] = max(worst.get(part, 0.0), largest_difference(logits[part], entry[part]))
    return worst


def network(stored: dict) -> Segmenter:
    changes = [JPU_X] if stored["neck"] == "jpu_x" else []
    model = build.network(recipes.load(f"official_r50_{stored['head']}_pcontext", changes), stored["classes"])
    drawn = official_weights.weights(stored["head"], stored["neck"], stored["classes"])
    model.load_state_dict(from_official({key: torch.from_numpy(value) for key, value in drawn}), strict=True)
    return model.eval()


@pytest.fixture(scope="module")
def networks() -> dict[str, tuple[Segmenter, dict]]:
    """By file name: the network with the weights, and the stored values."""
    contents = {path.stem: json.loads(path.read_text()) for path in FILES}
    return {name: (network(stored), stored) for name, stored in contents.items()}


@pytest.mark.parametrize("name", [path.stem for path in FILES])
def test_logits_equal_the_official_code(name: str, networks: dict[str, tuple[Segmenter, dict]]):
    worst = differences(*networks[name])
    assert {"main", "auxiliary"} <= worst.keys()
    assert max(worst.values()) <= TOLERANCE, worst


def test_every_head_and_neck_is_stored():
    assert [path.stem for path in FILES] == ["official_deeplabv3_jpu", "official_enc_jpu_x", "official_psp_jpu"]


def dilated_backbone(model: Segmenter) -> None:
    for block in model.backbone.layer4[1:]:
        block.conv2.dilation = block.conv2.padding = (2, 2)


def corners_not_aligned(model: Segmenter) -> None:
    model.align_corners = False


def coarsest_map_first(model: Segmenter) -> None:
    for branch in model.neck.dilated:
        weight = branch.pointwise.conv.weight
        weight.data = torch.cat(weight.data.chunk(3, dim=1)[::-1], dim=1)


def image_pooling_last(model: Segmenter) -> None:
    weight = model.head.bottleneck.conv.weight
    weight.data = weight.data.roll(-256, dims=1)


def one_dilation(model: Segmenter) -> None:
    layer = model.neck.steps[1].dilated[2].depthwise
    layer.dilation = layer.padding = (7, 7)


def other_groups(model: Segmenter) -> None:
    for branch in model.neck.steps[0].dilated:
        branch.pointwise_norm.num_groups = 16


MISTAKES = [
    ("official_psp_jpu", dilated_backbone),
    ("official_psp_jpu", corners_not_aligned),
    ("official_psp_jpu", coarsest_map_first),
    ("official_deeplabv3_jpu", image_pooling_last),
    ("official_enc_jpu_x", one_dilation),
    ("official_enc_jpu_x", other_groups),
]


@pytest.mark.parametrize(("name", "mistake"), MISTAKES, ids=lambda entry: getattr(entry, "__name__", entry))
def test_a_mistake_shows(name: str, mistake: Callable[[Segmenter], None], networks: dict[str, tuple[Segmenter, dict]]):
    """A slightly different network does not pass the test above."""
    model, stored = networks[name]
    model, stored = copy.deepcopy(model), stored | {"images": stored["images"][:1]}
    mistake(model)
    assert differences(model, stored)["main"] > 10 * TOLERANCE
