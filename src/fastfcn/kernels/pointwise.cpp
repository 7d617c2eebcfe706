// 1x1 convolution with batch norm's bias, a residual and ReLU in one pass.
//
// What is added is never a map of its own: a residual is written over, as the sums begin with it, and a second 1x1
// convolution, the shortcut of a residual block, adds to the same sums.
#include <ATen/Parallel.h>

#include "matmul.h"
#include "tensors.h"

namespace fastfcn {
namespace {

// A map and the weights it is multiplied by: (panels, inputs, PANEL).
struct Factor {
  at::Tensor x, packed;
  int64_t stride;

  // At (row, column) of the results.
  const float* at(int64_t image, int64_t row, int64_t column) const {
    return x.const_data_ptr<float>() + ((image * x.size(2) + row * stride) * x.size(3) + column * stride) * x.size(1);
  }
};

// The products of all factors into `out`, `onto` what it holds or not.
void convolve(const std::vector<Factor>& factors, const at::Tensor& bias, bool relu, const at::Tensor& out, bool onto) {
  bool dense = true;
  for (const auto& factor : factors) dense &= factor.stride == 1;
  // Without strides all rows are one.
  const int64_t outputs = bias.size(0), all = out.size(0) * out.size(2), rows = dense ? 1 : all;
  const int64_t columns = all * out.size(3) / rows, blocks = (columns + BLOCK - 1) / BLOCK, height = out.size(2);
  float* to = out.mutable_data_ptr<float>();
  const Ending ending{bias.const_data_ptr<float>(), nullptr, 0, relu};
  at::parallel_for(0, rows * blocks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t item = begin; item < end; ++item) {
      const int64_t row = item / blocks, first = item % blocks * BLOCK, count = std::min(BLOCK, columns - first);
      for (size_t index = 0; index < factors.size(); ++index) {
        const auto& factor = factors[index];
        const int64_t inputs = factor.x.size(1);
        multiply(count, outputs, inputs, factor.at(row / height, row % height, first), factor.stride * inputs,
                 factor.packed.const_data_ptr<float>(), to + (row * columns + first) * outputs, outputs,
                 onto || index > 0, index + 1 == factors.size() ? &ending : nullptr);
      }
    }
  });
}

}  // namespace

at::Tensor pointwise(const at::Tensor& features, const at::Tensor& packed, const at::Tensor& bias, bool relu,
                     int64_t stride) {
  const auto x = channels_last(features);
  auto out = empty_map(convolved_shape(x, bias, stride), x);
  convolve({{x, packed, stride}}, bias, relu, out, false);
  return out;
}

void pointwise_onto(const at::Tensor& residual, const at::Tensor& features, const at::Tensor& packed,
                    const at::Tensor& bias, bool relu, int64_t stride) {
  const auto x = channels_last(features);
  const auto out = residual_map(residual, convolved_shape(x, bias, stride));
  convolve({{x, packed, stride}}, bias, relu, out, true);
  if (!out.is_same(residual)) residual.copy_(out);
}

// `features` at stride 1 and `shortcut` at `stride`, each with its weights, into one sum.
at::Tensor pointwise_pair(const at::Tensor& features, const at::Tensor& packed, const at::Tensor& bias, bool relu,
                          const at::Tensor& shortcut, const at::Tensor& shortcut_packed, int64_t stride) {
  const auto x = channels_last(features), other = channels_last(shortcut);
  const auto shape = convolved_shape(x, bias, 1);
  TORCH_CHECK(shape == convolved_shape(other, bias, stride), "the shortcut's size is ", other.sizes());
  auto out = empty_map(shape, x);
  convolve({{other, shortcut_packed, stride}, {x, packed, 1}}, bias, relu, out, false);
  return out;
}

}  // namespace fastfcn
