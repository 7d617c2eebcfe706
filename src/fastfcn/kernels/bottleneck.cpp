// A bottleneck block of a ResNet without a convolution in its shortcut: what goes in is written over with the result.
//
// In one call, since between two operators Python finds little of its own left in the caches.
#include "operators.h"

namespace fastfcn {

// `weights` and `biases`: of the 1x1, the 3x3 and the 1x1 convolution, as `pointwise` and `winograd` take them.
void bottleneck_onto(const Tensor& features, const at::TensorList& weights, const at::TensorList& biases,
                     int64_t dilation, int64_t longest) {
  TORCH_CHECK(weights.size() == 3 && biases.size() == 3, "three convolutions are needed");
  const auto narrow = pointwise(features, weights[0], biases[0], true, 1);
  const auto context = winograd(narrow, weights[1], biases[1], true, 1, dilation, longest);
  pointwise_onto(features, context, weights[2], biases[2], true, 1);
}

}  // namespace fastfcn
