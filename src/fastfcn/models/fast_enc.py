"""The Enc head for predictions on a processor: its matrix products with few columns go through the 1x1 kernel."""

import torch
from torch import Tensor

from fastfcn.kernels import weights as forms
from fastfcn.models.heads import EncHead, Encoding
from fastfcn.ops.encoding import assigned, residuals


class FastEncoding(Encoding):
    packed: Tensor

    def forward(self, features: Tensor) -> Tensor:
        products = torch.ops.fastfcn.pointwise(features, self.packed, torch.zeros_like(self.scale), False, 1)
        pixels, products = (each.flatten(2).transpose(1, 2) for each in (features, products))
        assignment = assigned(pixels, products, self.codewords, self.scale)
        sums = [
            torch.ops.fastfcn.pixel_sums(image[None], forms.pack(own)).T[: len(self.codewords)]
            for image, own in zip(features, assignment, strict=True)
        ]
        return residuals(torch.stack(sums), assignment, self.codewords)


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
