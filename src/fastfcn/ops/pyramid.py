"""Pyramid pooling, and convolution of what it pooled, as small matrix products.

Adaptive average pooling to s x s bins is `P_h x P_w^T` with two averaging matrices, and bilinear upsampling is
`R p C^T` with two interpolation matrices. Convolution is linear, so a convolution of the upsampled map can be
moved onto the s x s bins: each tap only shifts the rows of R and C. The upsampled map never exists, and neither
does the bulk of its arithmetic. Matrices made from the shape also stay right in programs traced for one size and
run at another, where `adaptive_avg_pool2d` does not.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def bin_matrix(length: int, bins: int, like: Tensor) -> Tensor:
    """Averaging matrix (bins, length) of adaptive average pooling along one axis.

    Bin i averages the positions floor(i * length / bins) up to, not including, ceil((i + 1) * length / bins),
    as `torch.nn.AdaptiveAvgPool2d` does.
    """
    index = torch.arange(bins, device=like.device)
    start = torch.div(index * length, bins, rounding_mode="floor")
    end = torch.div((index + 1) * length + bins - 1, bins, rounding_mode="floor")
    position = torch.arange(length, device=like.device)
    inside = ((position >= start[:, None]) & (position < end[:, None])).to(like.dtype)
    return inside / (end - start)[:, None].to(like.dtype)


def interpolation_matrix(length: int, bins: int, like: Tensor, align_corners: bool) -> Tensor:
    """Matrix (length, bins) that upsamples `bins` values to `length` linearly, as `F.interpolate` does."""
    identity = torch.eye(bins, device=like.device, dtype=torch.float32)[None]
    return F.interpolate(identity, size=length, mode="linear", align_corners=align_corners)[0].T.to(like.dtype)


def pyramid_pool(features: Tensor, pools: Sequence[int]) -> list[Tensor]:
    """Adaptive average pooling of (B, C, H, W) to each s x s of `pools`; returns maps (B, C, s, s).

    Equal to `F.adaptive_avg_pool2d` to rounding. The columns of all pyramid levels are pooled in one product.
    """
    height, width = features.shape[-2:]
    columns = torch.cat([bin_matrix(width, bins, features) for bins in pools])
    narrow = (features @ columns.T).split(list(pools), dim=-1)
    return [bin_matrix(height, bins, features) @ part for bins, part in zip(pools, narrow, strict=True)]


def convolve_upsampled(
    pooled: Sequence[Tensor], weights: Sequence[Tensor], size: tuple[int, int], align_corners: bool
) -> Tensor:
    """Sum over the levels of conv(upsample(pooled, size), weight), zero padded, without the upsampled maps.

    `pooled`: maps (B, C, s, s); `weights`: (O, C, k, k) with odd k, one each; `size`: (height, width) of the
    result (B, O, height, width). Equal to the direct form to rounding, gradients too.
    """
    height, width = size
    narrow, rows = [], []
    for bins, weight in zip(pooled, weights, strict=True):
        kernel = weight.shape[-1]
        columns = _shifted(interpolation_matrix(width, bins.shape[-1], bins, align_corners), kernel)
        narrow.append(_convolve_bins(bins, weight, columns))
        rows.append(_shifted(interpolation_matrix(height, bins.shape[-2], bins, align_corners), kernel))
    return torch.cat(rows, dim=1) @ torch.cat(narrow, dim=2)


def _shifted(matrix: Tensor, kernel: int) -> Tensor:
    """(L, s) -> (L, kernel * s): the matrix as each tap of a zero-padded kernel sees it, side by side."""
    margin = kernel // 2
    padded = F.pad(matrix, (0, 0, margin, margin))
    return torch.cat([padded[tap : tap + matrix.shape[0]] for tap in range(kernel)], dim=1)


def _convolve_bins(bins: Tensor, weight: Tensor, columns: Tensor) -> Tensor:
    """All taps of `weight` on the bins, upsampled along the columns: (B, O, kernel * s, width)."""
    batch, channels, size = bins.shape[0], bins.shape[1], bins.shape[-1]
    out, kernel = weight.shape[0], weight.shape[-1]
    taps = weight.permute(0, 2, 3, 1).reshape(out * kernel * kernel, channels)
    products = (taps @ bins.reshape(batch, channels, -1)).reshape(batch, out, kernel, kernel, size, size)
    by_row_tap = products.transpose(3, 4).reshape(batch, out, kernel * size, kernel * size)
    return by_row_tap @ columns.T
