"""The network on an NVIDIA GPU: launched from a recording for each size, its class map made in one kernel."""

from collections.abc import Callable
from importlib.util import find_spec

import torch
from torch import Tensor

from fastfcn.models.segmenter import KernelSegmenter

Function = Callable[[Tensor], Tensor]
MOST_RECORDINGS = 4  # each keeps the memory of its maps
WARM_RUNS = 3  # in which libraries choose their algorithms


class GPUSegmenter(KernelSegmenter):
    """A network whose class maps come from recordings (`recordings`; None: every call launches anew)."""

    recordings: "Recordings | None" = None

    def logits_for_labels(self, images: Tensor) -> Tensor:
        return self.logits(images) if self.recordings is None else self.recordings(images)

    def kernel_labels(self, logits: Tensor, height: int, width: int) -> Tensor | None:
        if not find_spec("triton"):
            return None
        from fastfcn.kernels.labels_triton import upsample_labels

        return upsample_labels(logits, height, width, self.align_corners)


class Recordings:
    """Calls of a function, recorded at the second one of a shape and precision, and replayed from then on.

    A result is good until the next call. Sizes that come but once, as of a folder of unequal photographs, are not
    recorded; `record(function, example)` gives what replays it.
    """

    def __init__(self, function: Function, record: Callable[[Function, Tensor], Function]):
        self._function, self._record = function, record
        self._seen: set[tuple] = set()
        self._recorded: dict[tuple, Function] = {}

    def __call__(self, images: Tensor) -> Tensor:
        kind = images.device.type
        half = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
        key = (images.shape, images.stride(), half)
        if key not in self._recorded:
            if key not in self._seen or len(self._recorded) == MOST_RECORDINGS:
                self._seen.add(key)
                return self._function(images)
            self._recorded[key] = self._record(_without_cache(self._function, kind, half), images)
        return self._recorded[key](images)


def _without_cache(function: Function, kind: str, half: torch.dtype | None) -> Function:
    """`function` with its casts of weights inside: cached ones would be freed while a recording reads them."""

    def call(images: Tensor) -> Tensor:
        with torch.autocast(kind, half, enabled=half is not None, cache_enabled=False):
            return function(images)

    return call


def record_cuda_graph(function: Function, example: Tensor) -> Function:
    """A CUDA graph of `function`, which replays with one launch what otherwise takes hundreds."""
    held = example.clone()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_RUNS):
            function(held)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = function(held)

    def replay(images: Tensor) -> Tensor:
        held.copy_(images)
        graph.replay()
        return result

    return replay
