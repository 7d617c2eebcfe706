"""Our networks against scores that mmsegmentation 1.2.2 computed with the same weights.

The weights are functions of OpenMMLab's key names (named_weights.py); the scores were stored by
benchmarks/parity/store_scores.py, so mmsegmentation itself is not needed here.
"""

import json
from pathlib import Path

import named_weights
import numpy as np
import pytest
import torch
from torch import Tensor

from fastfcn import build, recipe
from fastfcn.models.segmenter import Segmenter
from fastfcn.openmmlab import from_openmmlab

STORED = sorted((Path(__file__).parent / "stored_scores").glob("*.json"))
# For scores whose standard deviation is 3, a usual one for trained networks. Rounding alone gives less than a
# hundredth of it; a dilation, an order or a batch norm's eps that is wrong gives at least five times as much.
TOLERANCE = 2e-3
USUAL_STD = 3.0


def openmmlab_state(stored: dict) -> dict[str, Tensor]:
    drawn = named_weights.weights(stored["head"], stored["classes"], stored["jpu"])
    return {key: torch.from_numpy(value) for key, value in drawn}


def largest_difference(scores: Tensor, sample: dict) -> float:
    """Largest difference at the stored positions, in units where the scores' standard deviation is 3."""
    assert list(scores.shape) == sample["shape"]
    ours = scores.flatten()[torch.tensor(sample["positions"])].numpy()
    return float(np.abs(ours - np.array(sample["scores"])).max() / sample["std"] * USUAL_STD)


@torch.no_grad()
def differences(model: Segmenter, stored: dict) -> dict[str, float]:
    """Largest difference of the full-size, the auxiliary and the presence scores, over the stored images."""
    worst: dict[str, float] = {}
    for entry in stored["images"]:
        image = torch.from_numpy(named_weights.image(*entry["size"]))
        side = model.train_scores(image)
        found = {"main": model(image), "auxiliary": side.auxiliary, "presence": side.presence}
        for part in ("main", "auxiliary", "presence"):
            assert (found[part] is not None) == (part in entry)
            if part in entry:
                worst[part] = max(worst.get(part, 0.0), largest_difference(found[part], entry[part]))
    return worst


def network(stored: dict) -> Segmenter:
    model = build.network(recipe.load(stored["recipe"]), stored["classes"])
    model.load_state_dict(from_openmmlab(openmmlab_state(stored)), strict=True)
    return model.eval()


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.stem)
def test_scores_equal_mmsegmentation(path: Path):
    stored = json.loads(path.read_text())
    worst = differences(network(stored), stored)
    assert max(worst.values()) <= TOLERANCE, worst


def test_every_architecture_is_stored():
    assert [path.stem for path in STORED] == sorted(
        f"{family}_{head}_19" for family in ("fastfcn", "dilated") for head in ("psp", "aspp", "enc")
    )


def test_stored_scores_tell_wrong_networks():
    """Errors that load without complaint must show: what the test above is worth."""
    stored = json.loads((Path(__file__).parent / "stored_scores" / "fastfcn_psp_19.json").read_text())
    model = network(stored)
    wrong = model.backbone.net["layer3"][2].conv2
    right = wrong.dilation, wrong.padding
    wrong.dilation = wrong.padding = (1, 1)
    assert differences(model, stored)["main"] > 5 * TOLERANCE
    wrong.dilation, wrong.padding = right
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eps = 1e-3
    assert differences(model, stored)["main"] > 5 * TOLERANCE
