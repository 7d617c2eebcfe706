"""The Encoding layer as matrix products against its definition with explicit differences."""

import pytest
import torch
from torch import Tensor

from fastfcn.ops.encoding import encode


def plain_encode(features: Tensor, codewords: Tensor, scale: Tensor) -> Tensor:
    """Equations 1 and 2 of EncNet literally, with the (B, N, K, C) tensor of differences."""
    difference = features[:, :, None] - codewords  # (B, N, K, C)
    assignment = (scale * difference.square().sum(3)).softmax(2)
    return (assignment[..., None] * difference).sum(1)


def inputs(batch: int, pixels: int, channels: int, codes: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    generator = torch.Generator().manual_seed(batch * pixels + channels)
    features = torch.randn(batch, pixels, channels, generator=generator, dtype=dtype)
    codewords = torch.randn(codes, channels, generator=generator, dtype=dtype)
    return [features, codewords, -torch.rand(codes, generator=generator, dtype=dtype)]


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 35, 7, 5), (3, 391, 16, 32), (1, 4, 64, 32)])
def test_equals_the_definition(shape: tuple[int, int, int, int]):
    features, codewords, scale = inputs(*shape)
    actual = encode(features, codewords, scale)
    assert actual.shape == (shape[0], shape[3], shape[2])
    torch.testing.assert_close(actual, plain_encode(features, codewords, scale))


def test_float32_stays_close_to_the_definition():
    features, codewords, scale = inputs(2, 500, 64, 32)
    features = features.abs() * 3  # after a ReLU, larger than the codewords
    exact = plain_encode(features, codewords, scale)
    actual = encode(features.float(), codewords.float(), scale.float())
    assert (actual - exact).abs().max() < 1e-4 * exact.abs().max()


def test_scales_of_either_sign():
    features, codewords, scale = inputs(2, 20, 6, 4)
    for sign in (-1.0, 0.0, 1.0):
        torch.testing.assert_close(
            encode(features, codewords, sign * scale), plain_encode(features, codewords, sign * scale)
        )


def test_a_feature_on_a_codeword_leaves_no_residual():
    _, codewords, _ = inputs(1, 1, 5, 3)
    codewords = codewords * 100  # so far apart that each feature belongs to one codeword alone
    actual = encode(codewords[None], codewords, -torch.ones(3, dtype=torch.float64))
    torch.testing.assert_close(actual, torch.zeros(1, 3, 5, dtype=torch.float64))


def test_memory_layout_of_a_flattened_map():
    _, codewords, scale = inputs(2, 12, 5, 4)
    maps = torch.randn(2, 5, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    for map_ in (maps, maps.contiguous(memory_format=torch.channels_last)):
        features = map_.flatten(2).transpose(1, 2)
        torch.testing.assert_close(
            encode(features, codewords, scale), plain_encode(features.contiguous(), codewords, scale)
        )


def test_gradients():
    tensors = [tensor.requires_grad_() for tensor in inputs(2, 9, 4, 3)]
    assert torch.autograd.gradcheck(encode, tensors)
