"""Pyramid pooling, and convolution of upsampled pooled maps without upsampling them, as small matrix products.

Adaptive average pooling to s x s bins is `P_h x P_w^T` with two averaging matrices, and bilinear upsampling is
`R p C^T` with two interpolation matrices. Convolution is linear, so a convolution of the upsampled map can be applied
to the s x s bins: each tap only shifts the rows of R and C. This saves the upsampled map and most of the FLOPs. Unlike
`adaptive_avg_pool2d`, matrices computed from the shape also work in exported programs with dynamic sizes.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from fastfcn.ops.tiling import Span, active_tile
from fastfcn.ops.upsample import interpolation_matrix


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


def pyramid_pool(features: Tensor, pools: Sequence[int]) -> list[Tensor]:
    """Adaptive average pooling of (B, C, H, W) to each s x s of `pools`; returns maps (B, C, s, s).

    Equal to `F.adaptive_avg_pool2d` up to rounding. The rows of all levels are pooled in one product, which reads the
    map once; channels-last maps are not copied.
    """
    if (tile := active_tile()) is not None:
        return tile.total(features, lambda part, rows, columns: _pooled_part(part, pools, rows, columns))
    batch, channels, height, width = features.shape
    rows = torch.cat([bin_matrix(height, bins, features) for bins in pools])
    flat = features.permute(0, 2, 3, 1).reshape(batch, height, width * channels)
    low = (rows @ flat).reshape(batch, -1, width, channels).split(list(pools), dim=1)
    pooled = [bin_matrix(width, bins, features) @ part for bins, part in zip(pools, low, strict=True)]
    return [map_.permute(0, 3, 1, 2) for map_ in pooled]


def _pooled_part(part: Tensor, pools: Sequence[int], rows: Span, columns: Span) -> list[Tensor]:
    """What a part of a map adds to its bins: the sum over all parts is what `pyramid_pool` returns for the map."""
    return [
        bin_matrix(rows.length, bins, part)[:, rows.start : rows.stop]
        @ part
        @ bin_matrix(columns.length, bins, part)[:, columns.start : columns.stop].T
        for bins in pools
    ]


def convolve_upsampled(
    pooled: Sequence[Tensor], weights: Sequence[Tensor], size: tuple[int, int], align_corners: bool
) -> Tensor:
    """Sum over the levels of conv(upsample(pooled, size), weight), zero padded, without computing the upsampled maps.

    `pooled`: maps (B, C, s, s); `weights`: (O, C, k, k) with odd k, one per map; `size`: (height, width) of the result
    (B, O, height, width), in channels-last format. Equal to the direct form up to rounding, including gradients.
    """
    return convolve_bins(pooled, [tap_matrix(weight) for weight in weights], weights[0].shape[-1], size, align_corners)


def tap_matrix(weight: Tensor) -> Tensor:
    """(O, C, k, k) -> (C, k * k * O): all kernel taps in one matrix."""
    return weight.permute(1, 2, 3, 0).reshape(weight.shape[1], -1)


def convolve_bins(
    pooled: Sequence[Tensor], matrices: Sequence[Tensor], kernel: int, size: tuple[int, int], align_corners: bool
) -> Tensor:
    """As `convolve_upsampled`, with weights from `tap_matrix`."""
    height, width = size
    tile = active_tile()
    rows_of, columns_of = (None, None) if tile is None else tile.place(size)
    narrow, rows = [], []
    for bins, matrix in zip(pooled, matrices, strict=True):
        columns = _tap_rows(width, bins.shape[-1], bins, kernel, align_corners, columns_of)
        narrow.append(columns @ _tap_products(bins, matrix, kernel))
        rows.append(_tap_rows(height, bins.shape[-2], bins, kernel, align_corners, rows_of))
    joined = torch.cat(narrow, dim=1)  # (B, taps * bins of all levels, width, O)
    full = torch.cat(rows, dim=1) @ joined.flatten(2)
    return full.unflatten(2, (width, -1)).permute(0, 3, 1, 2)


def _tap_rows(length: int, bins: int, like: Tensor, kernel: int, align_corners: bool, part: Span | None) -> Tensor:
    """(length, kernel * bins): the interpolation matrix for each tap; its rows `part` if the map is one of a tile."""
    if part is None:
        return _shifted(interpolation_matrix(length, bins, like, align_corners), kernel)
    return _shifted(interpolation_matrix(part.length, bins, like, align_corners), kernel)[part.start : part.stop]


def _shifted(matrix: Tensor, kernel: int) -> Tensor:
    """(L, s) -> (L, kernel * s): the matrix shifted by each tap of a zero-padded kernel, concatenated."""
    margin = kernel // 2
    padded = F.pad(matrix, (0, 0, margin, margin))
    return torch.cat([padded[tap : tap + matrix.shape[0]] for tap in range(kernel)], dim=1)


def _tap_products(bins: Tensor, matrix: Tensor, kernel: int) -> Tensor:
    """Products of all taps and bins: (B, kernel * s, kernel * s, O), tap-major along both axes."""
    batch, size = bins.shape[0], bins.shape[-1]
    products = bins.permute(0, 2, 3, 1) @ matrix
    split = products.reshape(batch, size, size, kernel, kernel, -1).permute(0, 3, 1, 4, 2, 5)
    return split.reshape(batch, kernel * size, kernel * size, -1)
