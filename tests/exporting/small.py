"""A network of three convolutions, with the layers that exporters get wrong, that is exported in seconds."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastfcn.models.segmenter import Segmenter
from fastfcn.ops.pyramid import pyramid_pool

CLASSES = 9


class SmallNetwork(Segmenter):
    """Stride 8 by convolution, ResNet's pooling of shortcuts, and pyramid pooling; or PyTorch's own with `stock`."""

    def __init__(self, stock: bool = False):
        nn.Module.__init__(self)
        self.auxiliary, self.align_corners, self.stock = None, False, stock
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, 6, 5, stride=2, padding=2)
        self.shortcut = nn.AvgPool2d(2, 2, ceil_mode=True, count_include_pad=False)
        self.last = nn.Conv2d(6, CLASSES, 3, stride=2, padding=1)
        nn.init.normal_(self.last.weight, std=0.5)
        self.eval()

    def logits(self, images: Tensor) -> Tensor:
        maps = self.shortcut(self.stem(images).relu())
        pooled = F.adaptive_avg_pool2d(maps, 3) if self.stock else pyramid_pool(maps, (3,))[0]
        return self.last(maps - F.interpolate(pooled, maps.shape[-2:], mode="bilinear"))
