"""The Enc head for predictions on a processor, with the operators of `fastfcn.kernels`."""

import torch
from torch import Tensor

from fastfcn.kernels import packing
from fastfcn.models.heads import EncHead, Encoding, HeadOutput


class FastEncoding(Encoding):
    packed: Tensor

    def forward(self, features: Tensor) -> Tensor:
        return torch.ops.fastfcn.encode(features, self.packed, self.scale)


class FastEncHead(EncHead):
    """Without the logits for which classes the image holds: they are for training."""

    packed: Tensor

    def forward(self, features: Tensor) -> HeadOutput:
        narrow = self.bottleneck(features)
        codes = self.encoding(self.project(narrow))
        gate, bias = self.gate, self.classifier.bias
        weights = torch.ops.fastfcn.gated_classifier(
            codes, self.code_scale, self.code_shift, gate.weight, gate.bias, self.packed
        )
        logits = [
            torch.ops.fastfcn.pointwise(image[None], own, bias, False, 1)
            for image, own in zip(narrow, weights, strict=True)
        ]
        return HeadOutput(logits[0] if len(logits) == 1 else torch.cat(logits), {})


def make_fast(head: EncHead) -> None:
    """Have `head` use the kernels. Its weights stay where they are; codewords and classifier are packed besides."""
    norm = head.encoding_bn
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()  # type: ignore[operator]
    head.register_buffer("code_scale", scale)
    head.register_buffer("code_shift", norm.bias - norm.running_mean * scale)  # type: ignore[operator]
    head.register_buffer("packed", packing.pack_pointwise(head.classifier.weight))
    head.encoding.register_buffer("packed", packing.pack_pointwise(head.encoding.codewords[:, :, None, None]))
    head.encoding.__class__ = FastEncoding
    head.__class__ = FastEncHead
