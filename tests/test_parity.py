"""Networks against logits that mmsegmentation 1.2.2 computed with the same weights.

The weights are functions of OpenMMLab's key names (named_weights.py); the logits were stored by
benchmarks/parity/store_logits.py, so mmsegmentation itself is not needed here.
"""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fastfcn import build, recipes
from fastfcn.models.segmenter import Segmenter
from fastfcn.weights.openmmlab import from_openmmlab
from tests.helpers import named_weights
from tests.helpers.paths import STORED

FILES = sorted((STORED / "logits").glob("*_19.json"))
# For logits whose standard deviation is 3. Rounding alone gives up to 2e-5; each of the MISTAKES below, which
# load without an error, gives at least ten times the tolerance.
TOLERANCE = 5e-4
USUAL_STD = 3.0


def openmmlab_state(stored: dict) -> dict[str, Tensor]:
    drawn = named_weights.weights(stored["head"], stored["classes"], stored["jpu"])
    return {key: torch.from_numpy(value) for key, value in drawn}


def largest_difference(logits: Tensor, sample: dict) -> float:
    """Largest difference at the stored positions, in units where the logits' standard deviation is 3."""
    assert list(logits.shape) == sample["shape"]
    ours = logits.flatten()[torch.tensor(sample["positions"])].numpy()
    return float(np.abs(ours - np.array(sample["logits"])).max() / sample["std"] * USUAL_STD)


@torch.no_grad()
def differences(model: Segmenter, stored: dict) -> dict[str, float]:
    """Largest difference of the full-size, the auxiliary and the SE logits, over the stored images."""
    worst: dict[str, float] = {}
    for entry in stored["images"]:
        image = torch.from_numpy(named_weights.image(*entry["size"]))
        _, extras = model.forward_train(image)
        logits = {"main": model(image), "auxiliary": extras["auxiliary"], "se": extras.get("se")}
        for part in ("main", "auxiliary", "se"):
            assert (logits[part] is not None) == (part in entry)
            if part in entry:
                worst[part] = max(worst.get(part, 0.0), largest_difference(logits[part], entry[part]))
    return worst


def network(stored: dict) -> Segmenter:
    model = build.network(recipes.load(stored["recipe"]), stored["classes"])
    model.load_state_dict(from_openmmlab(openmmlab_state(stored)), strict=True)
    return model.eval()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_scores_equal_mmsegmentation(path: Path):
    stored = json.loads(path.read_text())
    worst = differences(network(stored), stored)
    assert max(worst.values()) <= TOLERANCE, worst


def test_every_architecture_is_stored():
    assert [path.stem for path in FILES] == sorted(
        f"{family}_{head}_19" for family in ("fastfcn", "dilated") for head in ("psp", "aspp", "enc")
    )


MISTAKES = {
    "dilation in the backbone": ("backbone.layer3.2.conv2", {"dilation": (1, 1), "padding": (1, 1)}),
    "dilation in the JPU": ("neck.dilated.3.depthwise.conv", {"dilation": (4, 4), "padding": (4, 4)}),
    "stride in the other convolution": ("backbone.layer3.0", {"conv1.stride": 2, "conv2.stride": 1}),
    "corners aligned": ("neck", {"align_corners": True}),
    "order of the pools": ("head", {"pools": (1, 2, 6, 3)}),
    "no ReLU": ("head.pooled.0", {"relu": nn.Identity()}),
    "a ReLU too many": ("neck.dilated.0.depthwise", {"relu": nn.ReLU()}),
    "eps of one batch norm": ("backbone.bn1", {"eps": 1e-3}),
}


@pytest.fixture(scope="module")
def psp() -> tuple[Segmenter, dict]:
    stored = json.loads((STORED / "logits" / "fastfcn_psp_19.json").read_text())
    return network(stored), stored | {"images": stored["images"][:1]}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_shows(mistake: str, psp: tuple[Segmenter, dict]):
    """A slightly different network does not pass the test above."""
    model, stored = copy.deepcopy(psp)
    part, changes = MISTAKES[mistake]
    for name, value in changes.items():
        *inner, attribute = name.split(".")
        setattr(model.get_submodule(".".join([part, *inner])), attribute, value)
    assert differences(model, stored)["main"] > 10 * TOLERANCE
