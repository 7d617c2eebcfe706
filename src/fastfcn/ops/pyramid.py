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

    Equal to `F.adaptive_avg_pool2d` to rounding. The rows of all pyramid levels are pooled in one product, which
    reads the map once; maps stored channels last are read as they lie.
    """
    batch, channels, height, width = features.shape
    rows = torch.cat([bin_matrix(height, bins, features) for bins in pools])
    flat = features.permute(0, 2, 3, 1).reshape(batch, height, width * channels)
    low = (rows @ flat).reshape(batch, -1, width, channels).split(list(pools), dim=1)
    pooled = [bin_matrix(width, bins, features) @ part for bins, part in zip(pools, low, strict=True)]
    return [each.permute(0, 3, 1, 2) for each in pooled]


def convolve_upsampled(
    pooled: Sequence[Tensor], weights: Sequence[Tensor], size: tuple[int, int], align_corners: bool
) -> Tensor:
    """Sum over the levels of conv(upsample(pooled, size), weight), zero padded, without the upsampled maps.

    `pooled`: maps (B, C, s, s); `weights`: (O, C, k, k) with odd k, one each; `size`: (height, width) of the
    result (B, O, height, width), stored channels last. Equal to the direct form to rounding, gradients too.
    """
    return convolve_bins(pooled, [tap_matrix(each) for each in weights], weights[0].shape[-1], size, align_corners)


def tap_matrix(weight: Tensor) -> Tensor:
    """(O, C, k, k) -> (C, k * k * O): all taps as one matrix."""
    return weight.permute(1, 2, 3, 0).reshape(weight.shape[1], -1)


def convolve_bins(
    pooled: Sequence[Tensor], matrices: Sequence[Tensor], kernel: int, size: tuple[int, int], align_corners: bool
) -> Tensor:
    """As `convolve_upsampled`, of weights in the form that `tap_matrix` gives."""
    height, width = size
    narrow, rows = [], []
    for bins, matrix in zip(pooled, matrices, strict=True):
        columns = _shifted(interpolation_matrix(width, bins.shape[-1], bins, align_corners), kernel)
        narrow.append(columns @ _tap_products(bins, matrix, kernel))
        rows.append(_shifted(interpolation_matrix(height, bins.shape[-2], bins, align_corners), kernel))
    joined = torch.cat(narrow, dim=1)  # (B, all rows of taps and bins, width, O)
    full = torch.cat(rows, dim=1) @ joined.flatten(2)
    return full.unflatten(2, (width, -1)).permute(0, 3, 1, 2)


def _shifted(matrix: Tensor, kernel: int) -> Tensor:
    """(L, s) -> (L, kernel * s): the matrix as each tap of a zero-padded kernel sees it, side by side."""
    margin = kernel // 2
    padded = F.pad(matrix, (0, 0, margin, margin))
    return torch.cat([padded[tap : tap + matrix.shape[0]] for tap in range(kernel)], dim=1)


def _tap_products(bins: Tensor, matrix: Tensor, kernel: int) -> Tensor:
    """All taps on the bins: (B, kernel * s, kernel * s, O), for each row the taps' rows before the bins'."""
    batch, size = bins.shape[0], bins.shape[-1]
    products = bins.permute(0, 2, 3, 1) @ matrix
    apart = products.reshape(batch, size, size, kernel, kernel, -1).permute(0, 3, 1, 4, 2, 5)
    return apart.reshape(batch, kernel * size, kernel * size, -1)
