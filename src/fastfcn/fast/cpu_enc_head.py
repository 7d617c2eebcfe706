"""The Enc head for inference on a CPU, with the operators of `fastfcn.kernels`."""

import torch
from torch import Tensor

from fastfcn.kernels import packing
from fastfcn.models.heads import EncHead, Encoding, HeadOutput
from fastfcn.utils.modules import change_class


class FastEncoding(Encoding):
    """The Encoding layer as one operator."""

    packed: Tensor

    def forward(self, features: Tensor) -> Tensor:
        return torch.ops.fastfcn.encode(features, self.packed, self.scale)


class FastEncHead(EncHead):
    """The Enc head without the SE logits, which only training needs."""

    packed: Tensor

    def forward(self, features: Tensor) -> HeadOutput:
        narrow = self.bottleneck(features)
        encoded = self.encoding(self.project(narrow))
        gate, bias = self.gate, self.classifier.bias
        weights = torch.ops.fastfcn.gated_classifier(
            encoded, self.code_scale, self.code_shift, gate.weight, gate.bias, self.packed
        )
        logits = [
            torch.ops.fastfcn.pointwise(image[None], weight, bias, False, 1)
            for image, weight in zip(narrow, weights, strict=True)
        ] or [torch.ops.fastfcn.pointwise(narrow, self.packed, bias, False, 1)]  # of no images
        return HeadOutput(logits[0] if len(logits) == 1 else torch.cat(logits), {})


def use_kernels(head: EncHead) -> None:
    """Let `head` use the kernels, in place: parameters stay, packed codewords and classifier become buffers."""
    norm = head.encoding_bn
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()  # type: ignore[operator]
    head.register_buffer("code_scale", scale)
    head.register_buffer("code_shift", norm.bias - norm.running_mean * scale)  # type: ignore[operator]
    head.register_buffer("packed", packing.pack_pointwise(head.classifier.weight))
    head.encoding.register_buffer("packed", packing.pack_pointwise(head.encoding.codewords[:, :, None, None]))
    change_class(head.encoding, FastEncoding)
    change_class(head, FastEncHead)
