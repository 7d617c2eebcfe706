// A stage of a ResNet of bottleneck blocks: 1x1, 3x3, 1x1, and a 1x1 convolution in the first one's shortcut.
//
// In one call, since between two operators Python finds little of its own left in the caches.
#include "common/convolutions.h"
#include "common/register.h"

namespace fastfcn {

// `weights` and `biases`: of the three convolutions of each block, as `pointwise` and `winograd` take them, and behind
// all of them the weights of the shortcut, whose bias is in that of the first block's last. `stride`: the first
// block's.
at::Tensor bottleneck_stage(const at::Tensor& features, const at::TensorList& weights, const at::TensorList& biases,
                            int64_t stride, at::IntArrayRef dilations, int64_t longest) {
  const size_t blocks = dilations.size();
  TORCH_CHECK(blocks > 0 && weights.size() == 3 * blocks + 1 && biases.size() == 3 * blocks,
              "three convolutions for each block and one for the shortcut are needed");
  at::Tensor map;
  for (size_t block = 0; block < blocks; ++block) {
    const auto weight = weights.slice(3 * block, 3), bias = biases.slice(3 * block, 3);
    auto inner = pointwise(block ? map : features, weight[0], bias[0], true, 1);
    inner = winograd(inner, weight[1], bias[1], true, block ? 1 : stride, dilations[block], longest, false);
    if (block)
      pointwise_add_(map, inner, weight[2], bias[2], true, 1);
    else
      map = pointwise_pair(inner, weight[2], bias[2], true, features, weights.back(), stride);
  }
  return map;
}

FASTFCN_OPERATOR(bottleneck_stage)

}  // namespace fastfcn
