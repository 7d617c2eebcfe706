"""The Enc head for predictions on a processor, with the operators of `fastfcn.kernels`."""

import torch
from torch import Tensor

from fastfcn.kernels import weights as forms
from fastfcn.models.heads import EncHead, Encoding


class FastEncoding(Encoding):
    packed: Tensor

    def forward(self, features: Tensor) -> Tensor:
        return torch.ops.fastfcn.encode(features, self.packed, self.scale)


class FastEncHead(EncHead):
    def classified(self, narrow: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        scores = [
            torch.ops.fastfcn.pointwise(image[None], forms.pack(own.T), bias, False, 1)
            for image, own in zip(narrow, weight, strict=True)
        ]
        return scores[0] if len(scores) == 1 else torch.cat(scores)


def make_fast(head: EncHead) -> None:
    """Have `head` use the kernels. Its weights stay where they are; the codewords are packed besides."""
    head.encoding.register_buffer("packed", forms.pack_pointwise(head.encoding.codewords[:, :, None, None]))
    head.encoding.__class__ = FastEncoding
    head.__class__ = FastEncHead
