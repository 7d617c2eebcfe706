// A ResNet stage of bottleneck blocks: 1x1, 3x3 and 1x1 convolutions, and a 1x1 convolution in the first shortcut.
//
// One operator for the whole stage: between operators the interpreter would find its own data evicted from the caches.
#include "common/convolutions.h"
#include "common/register.h"

namespace fastfcn {

// `weights`: three per block, packed as for `pointwise` and `winograd`, then the shortcut's; `biases`: three per block,
// the shortcut's bias added to that of the first block's last convolution. `stride`: of the first block.
at::Tensor bottleneck_stage(const at::Tensor& features, const at::TensorList& weights, const at::TensorList& biases,
                            int64_t stride, at::IntArrayRef dilations, int64_t max_tile) {
  const size_t blocks = dilations.size();
  TORCH_CHECK(blocks > 0 && weights.size() == 3 * blocks + 1 && biases.size() == 3 * blocks,
              "expected three convolutions for each block and one for the shortcut");
  at::Tensor map;
  for (size_t block = 0; block < blocks; ++block) {
    const auto weight = weights.slice(3 * block, 3), bias = biases.slice(3 * block, 3);
    auto inner = pointwise(block ? map : features, weight[0], bias[0], true, 1);
    inner = winograd(inner, weight[1], bias[1], true, block ? 1 : stride, dilations[block], max_tile, false);
    if (block)
      pointwise_add_(map, inner, weight[2], bias[2], true, 1);
    else
      map = pointwise_pair(inner, weight[2], bias[2], true, features, weights.back(), stride);
  }
  return map;
}

FASTFCN_OPERATOR(bottleneck_stage)

}  // namespace fastfcn
