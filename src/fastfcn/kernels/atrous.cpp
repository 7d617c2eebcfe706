// 3x3 convolution of a large dilation: each tap is a matrix product over the part of the map that it sees; the taps
// that would see only the zeros around the map are left out.
#include <ATen/Parallel.h>

#include "matmul.h"
#include "tensors.h"

namespace fastfcn {

// `packed`: (9, panels, inputs, PANEL), row by row of the kernel.
at::Tensor atrous(const at::Tensor& features, const at::Tensor& packed, const at::Tensor& bias, bool relu,
                  int64_t dilation) {
  const auto x = channels_last(features);
  const int64_t batch = x.size(0), inputs = x.size(1), height = x.size(2), width = x.size(3), outputs = bias.size(0);
  auto out = empty_map(batch, outputs, height, width, x);
  const float* from = x.const_data_ptr<float>();
  const float* weights = packed.const_data_ptr<float>();
  float* to = out.mutable_data_ptr<float>();
  const int64_t matrix = packed[0].numel();
  constexpr int order[] = {4, 0, 1, 2, 3, 5, 6, 7, 8};  // the middle first: it sees the whole map and starts the sums
  at::parallel_for(0, batch * height, 4, [&](int64_t begin, int64_t end) {
    for (const int tap : order) {
      const int64_t down = (tap / 3 - 1) * dilation, right = (tap % 3 - 1) * dilation;
      const int64_t first = std::max<int64_t>(0, -right), last = std::min(width, width - right);
      for (int64_t line = begin; line < end && first < last; ++line) {
        const int64_t y = line % height + down;
        if (y < 0 || y >= height) continue;
        multiply(last - first, outputs, inputs, from + ((line + down) * width + first + right) * inputs, inputs,
                 weights + tap * matrix, to + (line * width + first) * outputs, outputs, tap != 4, nullptr);
      }
    }
    for (int64_t pixel = begin * width; pixel < end * width; ++pixel)
      for (int64_t channel = 0; channel < outputs; ++channel) {
        const float value = to[pixel * outputs + channel] + bias.const_data_ptr<float>()[channel];
        to[pixel * outputs + channel] = relu ? std::max(value, 0.f) : value;
      }
  });
  return out;
}

}  // namespace fastfcn
