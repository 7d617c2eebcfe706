"""Pyramid pooling and convolution of the pooled maps against the plain form they replace."""

from itertools import product

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fastfcn.ops.pyramid import bin_matrix, convolve_upsampled, pyramid_pool
from fastfcn.ops.upsample import interpolation_matrix

POOLS = (1, 2, 3, 6)
# Odd, prime, narrow, smaller than the largest bin, and a single pixel.
SIZES = [(13, 17), (64, 128), (61, 45), (1, 1), (1, 29), (5, 2), (6, 6), (4, 31)]


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def plain_convolution(
    pooled: list[Tensor], weights: list[Tensor], size: tuple[int, int], align_corners: bool
) -> Tensor:
    """The reference: upsample every map, concatenate them, convolve the result."""
    maps = [F.interpolate(map_, size=size, mode="bilinear", align_corners=align_corners) for map_ in pooled]
    return F.conv2d(torch.cat(maps, 1), torch.cat(weights, 1), padding=weights[0].shape[-1] // 2)


def levels(kernel: int, batch: int = 2, pools: tuple[int, ...] = POOLS) -> tuple[list[Tensor], list[Tensor]]:
    """Pooled maps of different widths, and their parts of a convolution to 5 channels."""
    pooled = [random(batch, 2 + i, bins, bins, seed=i) for i, bins in enumerate(pools)]
    weights = [random(5, 2 + i, kernel, kernel, seed=9 + i) for i in range(len(pools))]
    return pooled, weights


@pytest.mark.parametrize("size", SIZES)
def test_pools_like_adaptive_average_pooling(size: tuple[int, int]):
    features = random(3, 4, *size)
    actual = pyramid_pool(features, POOLS)
    assert [map_.shape for map_ in actual] == [(3, 4, bins, bins) for bins in POOLS]
    for bins, map_ in zip(POOLS, actual, strict=True):
        torch.testing.assert_close(map_, F.adaptive_avg_pool2d(features, bins))


def test_pools_in_any_order_and_number():
    features = random(1, 2, 11, 7)
    for pools in ((6,), (5, 1), (7, 7, 2)):
        for bins, map_ in zip(pools, pyramid_pool(features, pools), strict=True):
            torch.testing.assert_close(map_, F.adaptive_avg_pool2d(features, bins))


@pytest.mark.parametrize("bins", [1, 2, 3, 6, 7, 11])
def test_every_bin_is_a_mean(bins: int):
    for length in range(1, 40):
        matrix = bin_matrix(length, bins, random(1))
        torch.testing.assert_close(matrix.sum(1), torch.ones(bins, dtype=torch.float64))
        index = torch.arange(length, dtype=torch.float64)
        expected = F.adaptive_avg_pool1d(index[None], bins)[0]
        torch.testing.assert_close(matrix @ index, expected)


@pytest.mark.parametrize("align_corners", [False, True])
def test_upsamples_like_interpolate(align_corners: bool):
    for length, bins in product((1, 2, 6, 7, 30), (1, 2, 3, 6)):
        values = random(bins)
        matrix = interpolation_matrix(length, bins, values, align_corners)
        expected = F.interpolate(values[None, None], size=length, mode="linear", align_corners=align_corners)
        torch.testing.assert_close(matrix @ values, expected[0, 0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("layout", ["channels_last", "transposed", "sliced", "expanded"])
def test_any_memory_layout(layout: str):
    match layout:
        case "channels_last":
            features = random(2, 4, 13, 9).contiguous(memory_format=torch.channels_last)
        case "transposed":
            features = random(2, 4, 9, 13).transpose(2, 3)
        case "sliced":
            features = random(2, 8, 26, 18)[:, ::2, 1::2, ::2]
        case "expanded":
            features = random(1, 4, 13, 9).expand(2, -1, -1, -1)
    pooled = pyramid_pool(features, POOLS)
    for bins, map_ in zip(POOLS, pooled, strict=True):
        torch.testing.assert_close(map_, F.adaptive_avg_pool2d(features.contiguous(), bins))
    weights = [random(5, 4, 3, 3, seed=bins).transpose(2, 3) for bins in POOLS]
    actual = convolve_upsampled(pooled, weights, (13, 9), False)
    expected = plain_convolution(pooled, weights, (13, 9), False)
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("size", SIZES)
def test_convolves_like_the_concatenated_maps(size: tuple[int, int], kernel: int, align_corners: bool):
    pooled, weights = levels(kernel)
    actual = convolve_upsampled(pooled, weights, size, align_corners)
    assert actual.shape == (2, 5, *size)
    # The interpolation matrix is computed in float32 for any dtype of the maps.
    torch.testing.assert_close(actual, plain_convolution(pooled, weights, size, align_corners), rtol=1e-5, atol=2e-5)


def test_float32_and_bfloat16_keep_their_type():
    for dtype in (torch.float32, torch.bfloat16):
        features = random(2, 3, 10, 12).to(dtype)
        pooled = pyramid_pool(features, POOLS)
        assert all(map_.dtype == dtype for map_ in pooled)
        weights = [random(4, 3, 3, 3, seed=bins).to(dtype) for bins in POOLS]
        actual = convolve_upsampled(pooled, weights, (10, 12), False)
        assert actual.dtype == dtype
        exact = plain_convolution(
            [map_.double() for map_ in pooled], [weight.double() for weight in weights], (10, 12), False
        )
        tolerance = 1e-4 if dtype == torch.float32 else 0.1
        assert (actual.double() - exact).abs().max() < tolerance * exact.abs().max()


def test_gradient_of_pooling():
    features = random(2, 3, 7, 5).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: tuple(pyramid_pool(x, (1, 2, 3))), features)


@pytest.mark.parametrize("align_corners", [False, True])
def test_gradients_of_the_convolution(align_corners: bool):
    size = (11, 8)
    inputs = [tensor.requires_grad_() for part in levels(3) for tensor in part]
    upstream = random(2, 5, *size, seed=99)
    pooled, weights = inputs[: len(POOLS)], inputs[len(POOLS) :]
    actual = torch.autograd.grad(convolve_upsampled(pooled, weights, size, align_corners), inputs, upstream)
    plain = torch.autograd.grad(plain_convolution(pooled, weights, size, align_corners), inputs, upstream)
    for ours, theirs in zip(actual, plain, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-4)
