"""The whole network: backbone -> neck -> head."""

from collections.abc import Sequence

from torch import Tensor, nn

from fastfcn.models.heads import Head, HeadOutput
from fastfcn.ops.upsample import upsample, upsample_labels


class Segmenter(nn.Module):
    """Backbone of four stages, neck over the last three, head, and optionally an auxiliary head for training.

    Images are normalized, (B, C, H, W) of any size; C is 3 for RGB. The logits of `forward_train` and `logits` have the
    stride of the map that the head reads: 8 with JPU, 32 without a neck, 4 for a head that reads the finest stage.
    """

    batch_pixels = 0  # how many pixels of views and windows of an image run together; 0: one view or window at a time

    def __init__(
        self, backbone: nn.Module, neck: nn.Module, head: Head, auxiliary: Head | None = None, auxiliary_stage: int = 2
    ):
        super().__init__()
        self.backbone = backbone
        self.neck = neck
        self.head = head
        self.auxiliary = auxiliary
        self.auxiliary_stage = auxiliary_stage
        self.align_corners = head.align_corners

    def decode(self, stages: Sequence[Tensor]) -> HeadOutput:
        """Output of the head for the backbone's four maps."""
        if self.head.needs_stages:
            return self.head(stages)
        joined = self.neck(stages[1:])
        return self.head((joined, stages[0]) if self.head.needs_finest else joined)

    def forward_train(self, images: Tensor) -> HeadOutput:
        """Logits (B, classes, h, w) and all extra outputs: the head's and the auxiliary head's logits "auxiliary"."""
        stages = self.backbone(images)
        logits, extras = self.decode(stages)
        if self.auxiliary is not None:
            extras = {"auxiliary": self.auxiliary(stages[self.auxiliary_stage]).logits} | extras
        return HeadOutput(logits, extras)

    def logits(self, images: Tensor) -> Tensor:
        """Logits (B, classes, h, w), without extra outputs."""
        return self.decode(self.backbone(images)).logits

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, classes, H, W)."""
        return upsample(self.logits(images), images.shape[-2:], self.align_corners)

    def labels(self, images: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """Segmentation map (B, H, W), or (B, *size): the argmax of logits resized once more, to `size`.

        It is computed in strips: full-size logits never exist.
        """
        sizes = [tuple(images.shape[-2:])] + ([size] if size else [])
        return upsample_labels(self.logits(images), sizes, self.align_corners)


class KernelSegmenter(Segmenter):
    """A network whose segmentation map is computed by one kernel if possible: no resize, at most 256 classes."""

    def kernel_labels(self, logits: Tensor, height: int, width: int) -> Tensor | None:
        """Segmentation map (B, height, width), or None if no kernel is available."""
        raise NotImplementedError

    def logits_for_labels(self, images: Tensor) -> Tensor:
        """As `logits`, but the next call may overwrite the result."""
        return self.logits(images)

    def labels(self, images: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        height, width = images.shape[-2:]
        logits, labels = self.logits_for_labels(images), None
        if (size is None or tuple(size) == (height, width)) and logits.shape[1] <= 256:
            labels = self.kernel_labels(logits, height, width)
        sizes = [(height, width)] + ([size] if size else [])
        return upsample_labels(logits, sizes, self.align_corners) if labels is None else labels
