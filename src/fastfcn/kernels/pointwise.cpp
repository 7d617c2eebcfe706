// 1x1 convolution with batch norm's bias, a residual and ReLU in one pass.
#include <ATen/Parallel.h>
#include "matmul.h"
#include "tensors.h"

namespace fastfcn {

// `packed`: (panels, inputs, PANEL).
at::Tensor pointwise(const at::Tensor& features, const at::Tensor& packed, const at::Tensor& bias,
                     const std::optional<at::Tensor>& residual, bool relu, int64_t stride) {
  const auto x = channels_last(features);
  const int64_t batch = x.size(0), inputs = x.size(1), height = x.size(2), width = x.size(3), outputs = bias.size(0);
  const int64_t rows = (height - 1) / stride + 1, columns = (width - 1) / stride + 1;
  auto out = empty_map(batch, outputs, rows, columns, x);
  const auto added = residual ? channels_last(*residual) : at::Tensor();
  const float* from = x.const_data_ptr<float>();
  const float* weights = packed.const_data_ptr<float>();
  float* to = out.mutable_data_ptr<float>();
  const Ending ending{bias.const_data_ptr<float>(), residual ? added.const_data_ptr<float>() : nullptr, outputs, relu};
  if (stride == 1) {
    at::parallel_for(0, (batch * height * width + BLOCK - 1) / BLOCK, 1, [&](int64_t begin, int64_t end) {
      const int64_t first = begin * BLOCK, last = std::min(end * BLOCK, batch * height * width);
      const Ending here = ending.at(first, 0);
      multiply(last - first, outputs, inputs, from + first * inputs, inputs, weights, to + first * outputs, outputs,
               false, &here);
    });
    return out;
  }
  at::parallel_for(0, batch * rows, 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t image = row / rows, y = row % rows * stride;
      const Ending here = ending.at(row * columns, 0);
      multiply(columns, outputs, inputs, from + (image * height + y) * width * inputs, stride * inputs, weights,
               to + row * columns * outputs, outputs, false, &here);
    }
  });
  return out;
}

}  // namespace fastfcn
