"""The observer of an evaluation: what it receives, and that it does not change the scores."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor

from fastfcn import build
from fastfcn.data.dataset import Dataset
from fastfcn.evaluation import evaluate
from fastfcn.evaluation.evaluate import TestImages, measure
from fastfcn.fast.optimize import optimize
from fastfcn.models.segmenter import Segmenter
from fastfcn.ops import upsample
from fastfcn.prediction.inference import predict_probabilities
from fastfcn.recipes.inference import inference_settings
from tests.helpers.tiny import tiny_model, tiny_recipe, write_streets

SLIDING = 'eval={kind="sliding", every=4, base_size=64, crop=48, stride=32, scales=[0.5, 1.0], flip=true}'


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Dataset:
    used = tiny_recipe()
    folder = write_streets(tmp_path_factory.mktemp("streets"))
    return build.dataset(used, build.description(used), folder, "val", train=False)


class Seen:
    """Records everything."""

    def __init__(self) -> None:
        self.strips: list[tuple[int, int]] = []
        self.shares: dict[int, list[Tensor]] = {}
        self.labels: dict[int, Tensor] = {}
        self.gathered = 0

    def strip(self, index: int, top: int, labels: Tensor, shares: Tensor, label: Tensor) -> None:
        assert labels.shape == label.shape == shares.shape[1:]
        assert torch.equal(shares.argmax(0).to(torch.uint8), labels)
        self.strips.append((index, top))
        self.shares.setdefault(index, []).append(shares)

    def image(self, index: int, labels: Tensor, label: Tensor) -> None:
        self.labels[index] = labels

    def gather(self, fabric: Fabric) -> None:
        self.gathered += 1


@pytest.mark.parametrize("changes", [(), (SLIDING,)], ids=["whole", "sliding"])
@pytest.mark.parametrize("tta", [False, True], ids=["one", "tta"])
def test_the_observer_sees_the_scored_labels(dataset, monkeypatch, changes: Sequence[str], tta: bool):
    monkeypatch.setattr(upsample, "STRIP_ELEMENTS", 96 * 11 * 20)  # strips of at most 20 rows
    used, model, fabric = tiny_recipe(*changes), tiny_model(), Fabric(accelerator="cpu", devices=1)
    settings = inference_settings(used, tta=tta)
    plain = measure(model, settings, dataset, fabric)
    seen = Seen()
    watched = measure(model, settings, dataset, fabric, observer=seen)
    np.testing.assert_array_equal(watched.counts, plain.counts)
    assert sorted(seen.labels) == [0, 1, 2]
    assert seen.gathered == 1
    for index in seen.labels:
        tops = [top for number, top in seen.strips if number == index]
        assert tops[0] == 0
        assert tops == sorted(set(tops))
        assert len(tops) > 1 or changes
        shares = torch.cat(seen.shares[index], dim=1)
        assert shares.shape[1:] == seen.labels[index].shape == (64, 96)
        torch.testing.assert_close(shares.sum(0), torch.ones(64, 96))
        assert shares.min() >= 0


def test_probabilities_are_the_softmax_of_full_size_logits(dataset):
    used, model = tiny_recipe(), tiny_model()
    (images, _), size = TestImages(dataset, inference_settings(used))[0], (64, 96)
    with torch.inference_mode():
        strips = predict_probabilities(model, inference_settings(used), images, size)
        shares = torch.cat([probabilities for _, (probabilities,) in strips], dim=1)
        mean, std = (torch.tensor(values)[:, None, None] for values in (used.data.mean, used.data.std))
        expected = model((images[0] - mean) / std)[0].softmax(0)
    torch.testing.assert_close(shares, expected, rtol=1e-4, atol=1e-5)


def test_without_an_observer_the_network_returns_labels(dataset, monkeypatch):
    """The optimized network does that with a kernel, without the code for observers."""
    called = []
    model = optimize(tiny_model())
    plain = type(model).labels

    def labels(self: Segmenter, images: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        called.append(size)
        return plain(self, images, size)

    monkeypatch.setattr(type(model), "labels", labels)
    monkeypatch.setattr(evaluate, "predict_probabilities", None)
    measure(model, inference_settings(tiny_recipe()), dataset, Fabric(accelerator="cpu", devices=1))
    assert called == [(64, 96)] * 3


def test_the_setup_is_read_from_a_weights_file(weights_file: Path, dataset):
    from fastfcn.utils.machine import Machine

    setup = evaluate.load_setup(weights_file, dataset.root, Machine("cpu", workers=0), overrides=["eval.flip=false"])
    assert not setup.recipe.eval.flip
    assert (setup.dataset.split, len(setup.dataset)) == ("val", 3)
    result = evaluate.evaluate(weights_file, dataset.root, Machine("cpu", workers=0))
    assert (result.description, result.split) == (setup.dataset.description, "val")
    np.testing.assert_array_equal(
        result.scores.counts, measure(setup.model, setup.inference, setup.dataset, setup.fabric).counts
    )


@pytest.mark.parametrize(
    ("device", "precision", "optimized"),
    [("cpu", "32-true", 1), ("cpu", "bf16-mixed", 0), ("cuda", "32-true", 1), ("cuda", "bf16-mixed", 1)],
)
def test_the_fast_form_is_used_at_any_precision_on_a_gpu(
    weights_file: Path, dataset, monkeypatch, device: str, precision: str, optimized: int
):
    from fastfcn.utils.machine import Machine

    calls = []
    monkeypatch.setattr(evaluate, "optimize", lambda model, autocast, **_: calls.append(autocast) or model)
    fabric: Any = SimpleNamespace(device=torch.device(device), to_device=lambda network: network)
    evaluate.load_setup(weights_file, dataset.root, Machine(device, workers=0, precision=precision), fabric=fabric)
    assert calls == [torch.bfloat16 if precision == "bf16-mixed" else None] * optimized
