"""The tolerance of the verification follows the network: rounding of any size passes, small mistakes do not."""

from collections.abc import Callable
from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import nn

from fastfcn.exporting.network import ImageToClasses
from fastfcn.exporting.verification import Candidate, SizeResult, verify
from fastfcn.models.segmenter import Segmenter
from tests.exporting.small import SmallNetwork
from tests.helpers.tiny import tiny_model, tiny_recipe

SIZES = ((61, 83), (17, 40))


class TorchSession:
    """The network in the form that is exported, run by PyTorch: batch norms are folded, so it rounds differently."""

    def __init__(self, model: Segmenter):
        self.metadata: dict[str, str] = {}
        self.network = ImageToClasses(model, tiny_recipe(), True).eval()

    @torch.inference_mode()
    def run(self, images: np.ndarray) -> list[np.ndarray]:
        return [output.numpy() for output in self.network(torch.from_numpy(images))]


def verify_session(model: Segmenter, session, final=None) -> list[SizeResult]:
    candidate = Candidate(final or session, session, lambda images: None)
    return list(verify(model, tiny_recipe(), candidate, SIZES))


def scaled(model: Segmenter, factor: float) -> Segmenter:
    """The network with `factor` times its logits."""
    classifier = model.head.classifier if hasattr(model, "head") else model.last
    classifier.weight.data *= factor  # type: ignore[union-attr]
    if classifier.bias is not None:  # type: ignore[union-attr]
        classifier.bias.data *= factor  # type: ignore[union-attr]
    return model


@pytest.mark.parametrize("make", [tiny_model, SmallNetwork])
@pytest.mark.parametrize("factor", [1e-3, 1, 10, 100, 1000])
def test_rounding_passes_whatever_the_size_of_the_logits(make: Callable[[], Segmenter], factor: float):
    model = scaled(make(), factor)
    results = verify_session(model, TorchSession(model))
    assert [failure for result in results for failure in result.failures()] == []
    assert all(0 < result.difference <= result.tolerance for result in results)
    assert all(result.wrong == 0 for result in results)


def wrong_epsilon(model: Segmenter) -> None:
    for norm in (module for module in model.modules() if isinstance(module, nn.BatchNorm2d)):
        norm.eps *= 100  # 1e-3 instead of 1e-5


def wrong_corners(model: Segmenter) -> None:
    model.align_corners = not model.align_corners


def swapped_channels(model: Segmenter) -> None:
    weight = next(module for module in model.modules() if isinstance(module, nn.Conv2d)).weight.data
    weight.copy_(weight[:, [2, 1, 0]])


def swapped_classes(model: Segmenter) -> None:
    weight = model.head.classifier.weight.data  # type: ignore[union-attr]
    weight[:2] = weight[:2].flip(0).clone()


def one_weight(model: Segmenter) -> None:
    model.head.classifier.weight.data.view(-1)[0] *= 1.001  # type: ignore[union-attr]


def half_precision(model: Segmenter) -> None:
    for parameter in model.parameters():
        parameter.data = parameter.data.half().float()


@pytest.mark.parametrize(
    "mistake", [wrong_epsilon, wrong_corners, swapped_channels, swapped_classes, one_weight, half_precision]
)
@pytest.mark.parametrize("factor", [1, 1000])
def test_mistakes_are_refused_whatever_the_size_of_the_logits(mistake: Callable[[Segmenter], None], factor: float):
    model = scaled(tiny_model(), factor)
    other = deepcopy(model)
    mistake(other)
    failures = [failure for result in verify_session(model, TorchSession(other)) for failure in result.failures()]
    assert any("logits differ by up to" in failure for failure in failures), failures


class FixedPooling(SmallNetwork):
    """Pools with the windows of the traced size, like an exporter that computes them while tracing."""

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.shortcut(self.stem(images).relu())
        pooled = (
            nn.functional.avg_pool2d(maps, (6, 8), (5, 8))[..., :3, :3] if maps.shape[-1] > 16 else maps[..., :3, :3]
        )
        return self.last(maps - nn.functional.interpolate(pooled, maps.shape[-2:], mode="bilinear"))


def test_pooling_of_another_size_is_refused():
    failures = [
        failure
        for result in verify_session(SmallNetwork(), TorchSession(FixedPooling()))
        for failure in result.failures()
    ]
    assert any("at 61x83" in failure for failure in failures)
    assert any("at 17x40" in failure for failure in failures)


class OtherLabels(TorchSession):
    """Correct logits, but labels computed from other logits."""

    def run(self, images: np.ndarray) -> list[np.ndarray]:
        labels, logits = super().run(images)
        labels[0, 3, 5] = logits[0, :, 3, 5].argmin()
        return [labels, logits]


def test_one_wrong_label_is_refused_in_either_file():
    model = tiny_model()
    right, wrong = TorchSession(model), OtherLabels(model)
    for results in (verify_session(model, wrong), verify_session(model, right, wrong)):
        assert [result.wrong for result in results] == [1, 1]
        assert "1 pixels have wrong labels" in results[0].failures()[0]


def test_logits_that_are_not_finite_are_refused():
    model = scaled(tiny_model(), float("inf"))
    assert "PyTorch's own logits are not finite" in verify_session(model, TorchSession(model))[0].failures()[0]
    broken = verify_session(tiny_model(), TorchSession(model))[0].failures()
    assert "logits differ by up to" in broken[0]
