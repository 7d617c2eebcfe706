"""How far a network sees: the receptive field of its logits, from the layers that it runs.

The network runs once on the meta device, without computing. For each map it is recorded which pixels of the image a
position can depend on; operations that would make this the whole image, such as a global mean, are refused.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from fastfcn.errors import UserError
from fastfcn.models.backbone import SamePaddedConv2d
from fastfcn.models.segmenter import Segmenter
from fastfcn.ops.tiling import ALIGNMENT, Partial, Place, Span, processing

SIZE = (2, 3, 128, 128)  # two images, because batch norms of single values refuse one
# Operations that keep positions, besides those that PyTorch tags as pointwise.
POINTWISE = {
    *("native_batch_norm", "_native_batch_norm_legit", "cudnn_batch_norm"),
    *("clone", "detach", "alias", "_to_copy"),
}
DRAWS = {"empty_like", "new_empty", "bernoulli_", "bernoulli", "rand_like"}  # of dropout: results depend on no pixel


class Reach(NamedTuple):
    """Position i of a map depends on pixels `i * stride + first` to `i * stride + last` of the image, on both axes."""

    stride: int
    first: int
    last: int

    def after(self, kernel: int, stride: int, padding: int, dilation: int) -> "Reach":
        """The reach after a convolution or pooling."""
        first = self.first - padding * self.stride
        last = self.last + ((kernel - 1) * dilation - padding) * self.stride
        return Reach(self.stride * stride, first, last)

    def union(self, other: "Reach") -> "Reach":
        if self.stride != other.stride:
            raise ValueError(f"maps of strides {self.stride} and {other.stride} are combined")
        return Reach(self.stride, min(self.first, other.first), max(self.last, other.last))

    @property
    def resized(self) -> "Reach":
        """With the two positions that bilinear resizing mixes, and the drift where its ratio is not that of strides."""
        return Reach(self.stride, self.first - 2 * self.stride, self.last + 2 * self.stride)

    @property
    def pixels(self) -> int:
        return max(-self.first, self.last)


class ReceptiveField(NamedTuple):
    """What tiles need to know about a network.

    `halo`: pixels around a tile that the labels in it depend on, a multiple of the largest stride; `totals`: number of
    sums over the whole image (`ops.tiling`); `needs_whole_cells`: whether padding depends on the parity of the image's
    sides, as TensorFlow's does.
    """

    halo: int
    totals: int
    needs_whole_cells: bool


def receptive_field(create: Callable[[], Segmenter]) -> ReceptiveField:
    """The receptive field of the network that `create` returns, apart from totals over the whole image.

    Raises UserError for a network that looks at the whole image in other ways, such as by attention or
    squeeze-and-excitation.
    """
    with torch.device("meta"), torch.inference_mode(False):  # which would hide the parts of composite operations
        model = create().train()  # the plain form of every layer
        model.auxiliary = None
        recorder = _Recorder()
        try:
            with torch.no_grad(), processing(recorder), recorder:
                images = torch.empty(SIZE)
                recorder.record(images, Reach(1, 0, 0))
                logits = model.forward_train(images).logits
        except ValueError as error:
            raise UserError(
                f"This network cannot process tiles with the context of the whole image: {error}.",
                'Use --context window (context="window").',
            ) from error
    needed = [*recorder.totals, recorder.reach(logits).resized]
    halo = -(-max(reach.pixels for reach in needed) // ALIGNMENT) * ALIGNMENT
    padded_same = any(isinstance(module, SamePaddedConv2d) for module in model.modules())
    return ReceptiveField(halo, len(recorder.totals), padded_same)


class _Recorder(TorchDispatchMode):
    """Records the reach of every tensor; the active tile of `ops.tiling` during a run on the meta device."""

    def __init__(self) -> None:
        super().__init__()
        self.totals: list[Reach] = []  # of the maps that are added up
        self._reaches: dict[int, tuple[Tensor, Reach]] = {}  # by id; the tensors are kept, so that ids stay unique
        self._paused = False

    def record(self, tensor: Tensor, reach: Reach) -> None:
        self._reaches[id(tensor)] = tensor, reach

    def reach(self, tensor: Tensor) -> Reach:
        return self._reaches[id(tensor)][1]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        inputs = [tensor for tensor in _tensors(args) if id(tensor) in self._reaches]
        if inputs and not self._paused:
            reach = self._result(func, args, inputs)
            if reach is not None:
                self.record(result[0] if isinstance(result, tuple | list) else result, reach)
        return result

    def _result(self, func: Any, args: Any, inputs: list[Tensor]) -> Reach | None:
        name = func.overloadpacket.__name__
        reach = self.reach(inputs[0])
        if name in DRAWS:
            return None
        if name == "cat" and args[1:] == (1,):
            pass
        elif name == "convolution":
            _, weight, _, stride, padding, dilation, transposed, *_ = args
            if transposed:
                raise ValueError("it has transposed convolutions")
            return _over_axes(reach, weight.shape[2:], stride, padding, dilation)
        elif name in ("max_pool2d_with_indices", "avg_pool2d"):
            kernel, stride, padding = (tuple(args[index]) if len(args) > index else () for index in (1, 2, 3))
            return _over_axes(reach, kernel, stride or kernel, padding or (0, 0), (1, 1))
        elif name == "constant_pad_nd":
            left, _, top, _ = (*args[1], 0, 0)[:4]
            return _over_axes(reach, (1, 1), (1, 1), (top, left), (1, 1))
        elif name == "slice" and (args[1] < 2 or args[2] in (0, None)):
            return reach
        elif not (name in POINTWISE or torch.Tag.pointwise in func.tags):
            raise ValueError(f"its operation {name!r} may look at the whole image")
        for tensor in inputs[1:]:
            reach = reach.union(self.reach(tensor))
        return reach

    @contextmanager
    def _pause(self) -> Iterator[None]:
        self._paused = True
        try:
            yield
        finally:
            self._paused = False

    def total(self, features: Tensor, partial: Partial) -> list[Tensor]:
        self.totals.append(self.reach(features))
        with self._pause():
            return [torch.zeros_like(part) for part in partial(features, *self.place(features.shape[-2:]))]

    def resize(self, maps: Tensor, size: Sequence[int], align_corners: bool) -> Tensor:
        stride = SIZE[-1] // size[-1]
        resized = maps.new_empty(*maps.shape[:2], *size)
        if id(maps) in self._reaches:
            reach = self.reach(maps).resized
            self.record(resized, Reach(stride, reach.first, reach.last))
        return resized

    def place(self, size: Sequence[int]) -> Place:
        height, width = size
        return Span(0, height, height), Span(0, width, width)


def _over_axes(reach: Reach, *settings: Sequence[int]) -> Reach:
    """The reach after a layer: the larger one of both axes. `settings`: kernel, stride, padding and dilation."""
    vertical, horizontal = (reach.after(*(setting[axis % len(setting)] for setting in settings)) for axis in (0, 1))
    return vertical.union(horizontal)


def _tensors(values: Any) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)
