"""The whole network: backbone -> neck -> head."""

from typing import NamedTuple

from torch import Tensor, nn

from fastfcn.ops.upsample import upsample, upsample_labels


class TrainLogits(NamedTuple):
    """What the losses need: logits at their own strides, and the Enc head's class presence; None where absent."""

    main: Tensor
    auxiliary: Tensor | None
    presence: Tensor | None


class Segmenter(nn.Module):
    """Backbone of four stages, neck over the last three, context head, and an auxiliary head for training.

    Images are RGB, normalised, (B, 3, H, W) of any size.
    """

    def __init__(
        self,
        backbone: nn.Module,
        neck: nn.Module,
        head: nn.Module,
        auxiliary: nn.Module | None = None,
        auxiliary_stage: int = 2,
        align_corners: bool = False,
    ):
        super().__init__()
        self.backbone = backbone
        self.neck = neck
        self.head = head
        self.auxiliary = auxiliary
        self.auxiliary_stage = auxiliary_stage
        self.align_corners = align_corners

    def train_logits(self, images: Tensor) -> TrainLogits:
        """Logits at stride 8, auxiliary logits at their stage's stride, and class presence (B, classes)."""
        stages = self.backbone(images)
        main, presence = self.head(self.neck(stages[1:]))
        auxiliary = None if self.auxiliary is None else self.auxiliary(stages[self.auxiliary_stage])[0]
        return TrainLogits(main, auxiliary, presence)

    def logits(self, images: Tensor) -> Tensor:
        """Logits (B, classes, ceil(H/8), ceil(W/8)), without the auxiliary head."""
        return self.head(self.neck(self.backbone(images)[1:]))[0]

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, classes, H, W) before softmax."""
        return upsample(self.logits(images), images.shape[-2:], self.align_corners)

    def labels(self, images: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """Class map (B, H, W); with `size` resized on to it, as logits. Full-size logits never exist."""
        sizes = [tuple(images.shape[-2:])] + ([size] if size else [])
        return upsample_labels(self.logits(images), sizes, self.align_corners)


class KernelSegmenter(Segmenter):
    """A network whose class map one kernel makes of the logits, where it can: of one size, with up to 256 classes."""

    def kernel_labels(self, logits: Tensor, height: int, width: int) -> Tensor | None:
        """The class map (B, height, width); None where there is no kernel after all."""
        raise NotImplementedError

    def logits_for_labels(self, images: Tensor) -> Tensor:
        """As `logits`; what is returned may be written over by the next call."""
        return self.logits(images)

    def labels(self, images: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        height, width = images.shape[-2:]
        logits, found = self.logits_for_labels(images), None
        if (size is None or tuple(size) == (height, width)) and logits.shape[1] <= 256:
            found = self.kernel_labels(logits, height, width)
        sizes = [(height, width)] + ([size] if size else [])
        return upsample_labels(logits, sizes, self.align_corners) if found is None else found
