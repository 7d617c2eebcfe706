"""Inference on an NVIDIA GPU: a CUDA graph per input size, and the segmentation map in one Triton kernel."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache as once
from importlib.util import find_spec
from threading import Lock
from typing import Any

import torch
from torch import Tensor, nn

from fastfcn.models.heads import EncHead
from fastfcn.models.segmenter import KernelSegmenter
from fastfcn.utils.progress import warn

Function = Callable[[Tensor], Tensor]
MAX_GRAPHS = 4  # each keeps the memory of its activations
WARMUP_RUNS = 3  # in which libraries choose their algorithms


class GPUSegmenter(KernelSegmenter):
    """A network whose segmentation maps come from CUDA graphs; without any if `graphs` is None."""

    graphs: "GraphCache | None" = None
    batch_pixels = 2**21  # a Cityscapes image, or eight windows of 512x512

    def logits_for_labels(self, images: Tensor) -> Tensor:
        return self.logits(images) if self.graphs is None else self.graphs(images)

    def kernel_labels(self, logits: Tensor, height: int, width: int) -> Tensor | None:
        kernel = label_kernel(logits.device)
        return None if kernel is None else kernel(logits, height, width, self.align_corners)


def keep_half_weights(network: nn.Module, dtype: torch.dtype) -> None:
    """Convert weights, in place, as autocast to `dtype` does in every call: results under autocast stay the same.

    Only where nothing but that layer's own operator reads them: subclasses may compute with their weights first, and so
    does the Enc head with those of its classifier.
    """
    others = {head.classifier for head in network.modules() if isinstance(head, EncHead)}
    for layer in network.modules():
        if type(layer) in (nn.Conv2d, nn.Linear) and layer not in others:
            layer.to(dtype)


@once
def label_kernel(device: torch.device) -> Callable[[Tensor, int, int, bool], Tensor] | None:
    """`upsample_labels` in Triton; None, with a warning, if it does not run on `device`; None without Triton.

    Triton is more than a package: when it first runs, it needs a C compiler.
    """
    if not find_spec("triton"):
        return None
    try:
        from fastfcn.kernels.labels_triton import upsample_labels

        upsample_labels(torch.zeros(1, 2, 2, 2, device=device), 4, 4, False)
    except Exception as error:  # the type depends on what is missing
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        warn(
            f"Triton does not work on {device} ({reason}); segmentation maps are computed without it, which is slower. "
            "Triton needs a C compiler such as gcc."
        )
        return None
    return upsample_labels


class GraphCache:
    """Calls of a function, captured at the second call with a shape, stride and precision, and replayed from then on.

    Several threads may call it: the memory of a graph belongs to one call at a time, so results are copies. The first
    call is not captured, because sizes that occur once, as in a folder of images of different sizes, would fill the
    cache. `capture(function, example)` returns the function that replays; at most MAX_GRAPHS are kept. Where a capture
    fails, the function itself is called from then on.
    """

    def __init__(self, function: Function, capture: Callable[[Function, Tensor], Function]):
        self._function, self._capture = function, capture
        self._seen: set[tuple] = set()
        self._graphs: dict[tuple, Function | None] = {}  # None: not captured, because that failed
        self._lock = Lock()
        self._warned = False

    def __call__(self, images: Tensor) -> Tensor:
        device = images.device.type
        precision = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
        key = (images.device, images.shape, images.stride(), precision)
        with self._lock:
            graph = self._graph(key, images, precision)
            if graph is not None:
                return graph(images)
        return self._function(images)

    def __deepcopy__(self, memo: dict) -> None:
        """Copies of a network have no graphs: these read the weights of the original."""

    def _graph(self, key: tuple, images: Tensor, precision: torch.dtype | None) -> Function | None:
        """The function that replays calls like this one, captured if necessary; None if there is none."""
        if key not in self._graphs:
            if key not in self._seen or len(self._graphs) == MAX_GRAPHS:
                self._seen.add(key)
                return None
            function = _without_cache(self._function, images.device.type, precision)
            try:
                self._graphs[key] = self._capture(function, images)
            except RuntimeError as error:  # also errors of CUDA, and too little memory
                self._graphs[key] = None
                self._warn(error)
        return self._graphs[key]

    def _warn(self, error: RuntimeError) -> None:
        if not self._warned:
            self._warned = True
            reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
            warn(f"No CUDA graph could be captured ({reason}); predictions take longer without it.")


def _without_cache(function: Function, device: str, precision: torch.dtype | None) -> Function:
    """`function` without autocast's cache of converted weights: cached ones would be freed while a graph reads them."""

    def call(images: Tensor) -> Tensor:
        with torch.autocast(device, precision, enabled=precision is not None, cache_enabled=False):
            return function(images)

    return call


def capture_cuda_graph(function: Function, example: Tensor) -> Function:
    """A CUDA graph of `function`: one launch instead of hundreds. The function that replays it returns a new tensor.

    Calls may come from several streams, but one at a time. The capture has its own stream and allows other threads to
    use the GPU meanwhile.
    """
    with torch.cuda.device_of(example):
        static_input = example.clone()
        stream, before = torch.cuda.Stream(), torch.cuda.current_stream()
        stream.wait_stream(before)
        with fastest_convolutions():
            with torch.cuda.stream(stream):
                for _ in range(WARMUP_RUNS):
                    function(static_input)
            before.wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
                result = function(static_input)
        finished = torch.cuda.Event()

    def replay(images: Tensor) -> Tensor:
        with torch.cuda.device_of(images):
            current = torch.cuda.current_stream()
            current.wait_event(finished)  # the last call may have been in another stream
            static_input.copy_(images)
            graph.replay()
            copy = result.clone()
            finished.record(current)
        return copy

    return replay


@contextmanager
def fastest_convolutions() -> Iterator[None]:
    """Let cuDNN measure its algorithms for each convolution, unless results must be repeatable."""
    settings: Any = torch.backends.cudnn
    before = settings.benchmark
    settings.benchmark = not torch.are_deterministic_algorithms_enabled()
    try:
        yield
    finally:
        settings.benchmark = before
