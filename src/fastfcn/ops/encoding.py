"""The Encoding layer (Zhang et al., Context Encoding for Semantic Segmentation, eq. 1-2) as matrix products."""

from torch import Tensor
from torch.linalg import vector_norm


def encode(features: Tensor, codewords: Tensor, scale: Tensor) -> Tensor:
    """Residuals of the features to each codeword, weighted by a soft assignment and summed.

    `features`: (B, N, C); `codewords`: (K, C); `scale`: (K,), including the sign. Returns (B, K, C):
    e_k = sum_i a_ik (x_i - c_k) with a_ik = softmax_k(scale_k |x_i - c_k|^2).

    |x - c|^2 is expanded to |x|^2 - 2 x.c + |c|^2 and the sum to A^T x - (sum_i a_ik) c_k, so that the
    B x N x K x C tensor of differences never exists.
    """
    squares = vector_norm(features, dim=2, keepdim=True).square()  # does not store a map of squares
    distances = squares - 2 * (features @ codewords.T) + codewords.square().sum(1)
    assignment = (scale * distances).softmax(dim=2)
    return assignment.transpose(1, 2) @ features - assignment.sum(1)[..., None] * codewords
