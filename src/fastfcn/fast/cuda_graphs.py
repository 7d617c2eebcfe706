"""Inference on an NVIDIA GPU: a CUDA graph per input size, and the segmentation map in one Triton kernel."""

from collections.abc import Callable
from importlib.util import find_spec

import torch
from torch import Tensor

from fastfcn.models.segmenter import KernelSegmenter

Function = Callable[[Tensor], Tensor]
MAX_GRAPHS = 4  # each keeps the memory of its activations
WARMUP_RUNS = 3  # in which libraries choose their algorithms


class GPUSegmenter(KernelSegmenter):
    """A network whose segmentation maps come from CUDA graphs; without any if `graphs` is None."""

    graphs: "GraphCache | None" = None

    def logits_for_labels(self, images: Tensor) -> Tensor:
        return self.logits(images) if self.graphs is None else self.graphs(images)

    def kernel_labels(self, logits: Tensor, height: int, width: int) -> Tensor | None:
        if not find_spec("triton"):
            return None
        from fastfcn.kernels.labels_triton import upsample_labels

        return upsample_labels(logits, height, width, self.align_corners)


class GraphCache:
    """Calls of a function, captured at the second call with a shape, stride and precision, and replayed from then on.

    A result is valid until the next call. The first call is not captured, because sizes that occur once, as in a folder
    of images of different sizes, would fill the cache. `capture(function, example)` returns the function that replays;
    at most MAX_GRAPHS are kept.
    """

    def __init__(self, function: Function, capture: Callable[[Function, Tensor], Function]):
        self._function, self._capture = function, capture
        self._seen: set[tuple] = set()
        self._graphs: dict[tuple, Function] = {}

    def __call__(self, images: Tensor) -> Tensor:
        device = images.device.type
        precision = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
        key = (images.shape, images.stride(), precision)
        if key not in self._graphs:
            if key not in self._seen or len(self._graphs) == MAX_GRAPHS:
                self._seen.add(key)
                return self._function(images)
            self._graphs[key] = self._capture(_without_cache(self._function, device, precision), images)
        return self._graphs[key](images)


def _without_cache(function: Function, device: str, precision: torch.dtype | None) -> Function:
    """`function` without autocast's cache of converted weights: cached ones would be freed while a graph reads them."""

    def call(images: Tensor) -> Tensor:
        with torch.autocast(device, precision, enabled=precision is not None, cache_enabled=False):
            return function(images)

    return call


def capture_cuda_graph(function: Function, example: Tensor) -> Function:
    """A CUDA graph of `function`: one launch instead of hundreds."""
    static_input = example.clone()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARMUP_RUNS):
            function(static_input)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = function(static_input)

    def replay(images: Tensor) -> Tensor:
        static_input.copy_(images)
        graph.replay()
        return result

    return replay
