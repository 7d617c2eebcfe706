"""GraphCache of a network, with a fake of CUDA graphs: what is captured when, and equal segmentation maps."""

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from copy import deepcopy
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from fastfcn import build, recipes
from fastfcn.fast import cuda_graphs as gpu
from fastfcn.fast.cuda_graphs import MAX_GRAPHS, GPUSegmenter, GraphCache
from fastfcn.fast.fold_batch_norm import fold_batch_norms
from fastfcn.models import jpu_x, layers
from fastfcn.utils.modules import change_class
from tests.helpers.tiny import NARROW


class Recorder:
    """Records like CUDA graphs: with a static input and output, which each replay overwrites.

    `pause`: seconds between the parts of a replay, in which another thread runs.
    """

    def __init__(self, pause: float = 0.0):
        self.recorded = self.replayed = 0
        self.pause = pause

    def __call__(self, function, example: Tensor):
        self.recorded += 1
        static = example.clone()
        result = function(static)

        def replay(images: Tensor) -> Tensor:
            self.replayed += 1
            static.copy_(images)
            time.sleep(self.pause)
            result.copy_(function(static))
            time.sleep(self.pause)
            return result.clone()

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
    monkeypatch.setattr(gpu, "label_kernel", lambda device: None)  # it needs a GPU
    torch.manual_seed(0)
    network = build.create(recipes.load("demo", NARROW)).eval()
    images = torch.randn(3, 2, 3, 40, 56)
    expected = [[network.labels(image), network.labels(image, (30, 33))] for image in images]
    change_class(network, GPUSegmenter)
    network.graphs = GraphCache(network.logits, recorder)  # type: ignore[assignment]
    for image, (plain, resized) in zip(images, expected, strict=True):
        assert torch.equal(network.labels(image), plain)
        assert torch.equal(network.labels(image, (30, 33)), resized)
    assert recorder.replayed == 5


def test_threads_do_not_share_a_replay():
    doubled = GraphCache(lambda images: images * 2, Recorder(pause=0.001))
    example = torch.zeros(1, 3, 4, 4)
    doubled(example)

    def wrong(number: int) -> int:
        inputs = [torch.full_like(example, number * 100 + index) for index in range(20)]
        return sum(not torch.equal(doubled(images), images * 2) for images in inputs)

    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(wrong, range(2))) == [0, 0]


def test_results_outlive_the_next_call(recorder: Recorder):
    doubled = GraphCache(lambda images: images * 2, recorder)
    results = [doubled(torch.full((1, 2), float(number))) for number in range(4)]
    assert [result[0, 0].item() for result in results] == [0, 2, 4, 6]


def test_a_failed_capture_is_reported_once_and_not_repeated(capsys: pytest.CaptureFixture):
    captures = []

    def fail(function, example: Tensor):
        captures.append(example.shape)
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    doubled = GraphCache(lambda images: images * 2, fail)
    for size in (2, 3) * 3:
        images = torch.rand(1, size)
        assert torch.equal(doubled(images), images * 2)
    assert len(captures) == 2
    message = capsys.readouterr().err
    assert message.count("Warning:") == 1
    assert "No CUDA graph could be captured (operation not permitted when stream is capturing);" in message


def test_copies_of_a_network_have_no_graphs(recorder: Recorder):
    network = build.create(recipes.load("demo", NARROW)).eval()
    change_class(network, GPUSegmenter)
    network.graphs = GraphCache(network.logits, recorder)  # type: ignore[assignment]
    assert deepcopy(network).graphs is None


@pytest.mark.parametrize("error", [RuntimeError("Failed to find C compiler.\nSet CC."), FileNotFoundError()])
def test_without_a_c_compiler_triton_is_not_used(error, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    def broken(*arguments):
        raise error

    monkeypatch.setattr(gpu, "find_spec", lambda name: name)
    monkeypatch.setitem(sys.modules, "fastfcn.kernels.labels_triton", SimpleNamespace(upsample_labels=broken))
    gpu.label_kernel.cache_clear()
    try:
        assert [gpu.label_kernel(torch.device("cpu")) for _ in range(3)] == [None] * 3
    finally:
        gpu.label_kernel.cache_clear()
    message = capsys.readouterr().err
    assert message.count("Warning:") == 1
    assert (str(error).splitlines() or ["FileNotFoundError"])[0] in message
    assert "gcc" in message


class WeightCasts(TorchDispatchMode):
    """Names of the parameters of `network` that are converted to another dtype inside."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.parameters = {value.data_ptr(): name for name, value in network.named_parameters()}
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten._to_copy.default:
            self.names += filter(None, [self.parameters.get(args[0].data_ptr())])
        return func(*args, **(kwargs or {}))


TINY = 'backbone={kind="pyramid", name="test_resnet", pretrained="none"}'
WIDTHS = ("neck.width=16", "head.width=16")
HALF: dict[str, tuple[str, ...]] = {
    "fastfcn_r50_psp_camvid": (TINY, *WIDTHS),
    "fastfcn_r50_aspp_cityscapes_80k_b8": (TINY, *WIDTHS),
    "official_r50_enc_ade20k": (TINY, "neck.width=64", "head.width=16"),
    "fastfcn_r18_ocr_camvid": (TINY, *WIDTHS),
    "upernet_r50_camvid": (TINY, "head.width=16"),
    "fastfcn_swin_tiny_jpu_m_camvid": WIDTHS,
}


@pytest.mark.parametrize("recipe", HALF)
@torch.no_grad()
def test_weights_kept_in_half_precision_change_nothing(recipe: str, monkeypatch: pytest.MonkeyPatch):
    for module in (layers, jpu_x):  # what it does on a CPU is not done on a GPU
        monkeypatch.setattr(module, "depthwise", lambda layer, features: layer(features))
    torch.manual_seed(0)
    network = fold_batch_norms(build.network(recipes.load(recipe, HALF[recipe]), 5).eval())
    half, images = deepcopy(network), torch.randn(1, 3, 64, 96)
    gpu.keep_half_weights(half, torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        with WeightCasts(network) as before:
            expected = network.logits(images)
        with WeightCasts(half) as after:
            assert torch.equal(half.logits(images), expected)
    assert not any(name.endswith("conv.weight") for name in after.names)
    assert len(after.names) < len(before.names) / 2


class FakeGraph(TorchDispatchMode):
    """Stands in for `torch.cuda.CUDAGraph`: records operators on the CPU and replays them into the same tensors."""

    def __init__(self):
        super().__init__()
        self.operators: list[tuple] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.operators.append((func, args, kwargs or {}, result))
        return result

    def replay(self) -> None:
        assert fake_cuda.current == "device"
        for func, args, kwargs, result in self.operators:
            result.copy_(func(*args, **kwargs))


class FakeCUDA:
    """The parts of `torch.cuda` that a capture uses; all of them must run on the device of the images."""

    def __init__(self):
        self.current, self.calls = "another device", []
        self.CUDAGraph, self.Stream = FakeGraph, self.new_stream
        self.Event = lambda: SimpleNamespace(record=lambda stream: self._called("record"))

    def _called(self, name: str):
        assert self.current == "device", name
        self.calls.append(name)

    @contextmanager
    def device_of(self, tensor: Tensor):
        self.current = "device"
        yield
        self.current = "another device"

    def new_stream(self):
        self._called("Stream")
        return self.current_stream()

    def current_stream(self):
        self._called("current_stream")
        return SimpleNamespace(
            wait_stream=lambda stream: self._called("wait_stream"), wait_event=lambda event: self._called("wait_event")
        )

    @contextmanager
    def stream(self, stream):
        self._called("stream")
        yield

    @contextmanager
    def graph(self, graph: FakeGraph, stream, capture_error_mode: str):
        self._called("graph")
        assert capture_error_mode == "thread_local"
        with graph:
            yield


fake_cuda = FakeCUDA()


def test_captures_and_replays_run_on_the_device_of_the_images(monkeypatch: pytest.MonkeyPatch):
    benchmarked = []

    def function(images: Tensor) -> Tensor:
        benchmarked.append(torch.backends.cudnn.benchmark)
        return images.exp() * 2 + 1

    monkeypatch.setattr(gpu.torch, "cuda", fake_cuda)
    replay = gpu.capture_cuda_graph(function, torch.zeros(2, 3))
    assert benchmarked == [True] * (gpu.WARMUP_RUNS + 1)
    assert not torch.backends.cudnn.benchmark
    fake_cuda.calls.clear()
    inputs = torch.rand(4, 2, 3)
    results = [replay(images) for images in inputs]
    assert torch.equal(torch.stack(results), inputs.exp() * 2 + 1)
    assert fake_cuda.calls == ["current_stream", "wait_event", "record"] * 4
    assert len(benchmarked) == gpu.WARMUP_RUNS + 1, "replayed, not called"
