"""GraphCache of a network, with a fake of CUDA graphs: what is captured when, and equal segmentation maps."""

import pytest
import torch
from torch import Tensor

from fastfcn import build, recipes
from fastfcn.fast import cuda_graphs as gpu
from fastfcn.fast.cuda_graphs import MAX_GRAPHS, GPUSegmenter, GraphCache
from fastfcn.utils.modules import change_class
from tests.helpers.tiny import NARROW


class Recorder:
    """Records like CUDA graphs: with a static input and output, which each replay overwrites."""

    def __init__(self):
        self.recorded = self.replayed = 0

    def __call__(self, function, example: Tensor):
        self.recorded += 1
        static = example.clone()
        result = function(static)

        def replay(images: Tensor) -> Tensor:
            self.replayed += 1
            static.copy_(images)
            result.copy_(function(static))
            return result

        return replay


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


def test_the_second_of_a_shape_is_recorded(recorder: Recorder):
    doubled = GraphCache(lambda images: images * 2, recorder)
    small, large = torch.ones(1, 3, 4, 4), torch.ones(1, 3, 8, 8)
    for images, recorded, replayed in ((small, 0, 0), (large, 0, 0), (small, 1, 1), (3 * small, 1, 2), (large, 2, 3)):
        assert torch.equal(doubled(images), images * 2)
        assert (recorder.recorded, recorder.replayed) == (recorded, replayed)


def test_other_strides_and_precisions_are_captured_separately(recorder: Recorder):
    multiplied = GraphCache(lambda images: images.flatten(1) @ images.flatten(1).T, recorder)
    images = torch.rand(2, 3, 4, 4)
    for _ in range(2):
        assert multiplied(images).dtype == torch.float32
        multiplied(images.contiguous(memory_format=torch.channels_last))
        with torch.autocast("cpu", torch.bfloat16):
            assert multiplied(images).dtype == torch.bfloat16
    assert recorder.recorded == 3


def test_there_are_only_so_many(recorder: Recorder):
    doubled = GraphCache(lambda images: images * 2, recorder)
    for _ in range(2):
        for size in range(1, MAX_GRAPHS + 3):
            assert torch.equal(doubled(torch.ones(1, size)), torch.full((1, size), 2.0))
    assert recorder.recorded == MAX_GRAPHS


@torch.inference_mode()
def test_labels_are_the_same(recorder: Recorder, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(gpu, "find_spec", lambda name: None)  # without Triton, whose kernel needs a GPU
    torch.manual_seed(0)
    network = build.create(recipes.load("demo", NARROW)).eval()
    images = torch.randn(3, 2, 3, 40, 56)
    expected = [[network.labels(image), network.labels(image, (30, 33))] for image in images]
    change_class(network, GPUSegmenter)
    network.graphs = GraphCache(network.logits, recorder)
    for image, (plain, resized) in zip(images, expected, strict=True):
        assert torch.equal(network.labels(image), plain)
        assert torch.equal(network.labels(image, (30, 33)), resized)
    assert recorder.replayed == 5
