"""The stem of a ResNet over large images, in strips of rows: its maps at half the image's size never exist whole."""

import torch
from torch import Tensor, nn

PIXELS = 2**19  # of the image in a strip: a map of 64 channels at half its size has 32 MiB, about what stays in cache
STRIDE = 4
MARGIN = 2  # results at either end of a strip, which see zeros where the image goes on: 7x7, or three 3x3, and pooling


class StripedStem(nn.Module):
    """Convolutions, activation and pooling, at stride 4 in all; equal to them in a row, to rounding."""

    def __init__(self, layers: nn.Sequential):
        super().__init__()
        self.layers = layers

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, C, ceil(H / 4), ceil(W / 4))."""
        batch, _, height, width = images.shape
        rows = max(STRIDE, PIXELS // (batch * width) // STRIDE * STRIDE)
        if height <= rows:
            return self.layers(images)
        result: Tensor | None = None
        for top in range(0, height, rows):
            before, after = min(top, MARGIN * STRIDE), MARGIN * STRIDE
            strip = self.layers(images[:, :, top - before : top + rows + after])
            first, last = top // STRIDE, -(-min(top + rows, height) // STRIDE)
            if result is None:
                shape = (batch, strip.shape[1], -(-height // STRIDE), strip.shape[3])
                result = torch.empty(shape, dtype=strip.dtype, device=strip.device, memory_format=torch.channels_last)
            result[:, :, first:last] = strip[:, :, before // STRIDE :][:, :, : last - first]
        assert result is not None  # a strip at least
        return result


def stripe_stem(backbone: nn.Module) -> None:
    """Have the stem of a ResNet, batch norms folded, work in strips; other networks stay as they are."""
    names = "conv1", "bn1", "act1", "maxpool"
    layers = [getattr(backbone, name, None) for name in names]
    conv, norm, activation, pool = layers
    if conv is None or type(norm) is not nn.Identity or not isinstance(activation, nn.ReLU) or not _halves(pool):
        return
    backbone.conv1 = StripedStem(nn.Sequential(conv, activation, pool))  # type: ignore[assignment]
    for name in names[1:]:
        setattr(backbone, name, nn.Identity())


def _halves(pool: nn.Module | None) -> bool:
    """Whether it is the usual pooling, each result of 3x3 pixels."""
    return isinstance(pool, nn.MaxPool2d) and (pool.kernel_size, pool.stride, pool.padding) == (3, 2, 1)
