// Checks and shapes of maps: (B, C, H, W) float32 on the CPU, stored channels last.
#pragma once

#include "common/arguments.h"

namespace fastfcn {

constexpr int TAPS = 9;  // taps of a 3x3 convolution

// The map, stored channels last. A batch of no images is allowed; maps without channels or pixels are not.
inline at::Tensor channels_last(const at::Tensor& map) {
  TORCH_CHECK(map.dim() == 4 && is_float32_on_cpu(map) && map.size(1) > 0 && map.size(2) > 0 && map.size(3) > 0,
              "expected a float32 map on the CPU, (B, C, H, W) with at least one channel and pixel, got ",
              map.toString(), " ", map.sizes());
  return map.contiguous(at::MemoryFormat::ChannelsLast);
}

// Output shape of a convolution with "same" padding: (B, O, ceil(H / stride), ceil(W / stride)).
inline std::vector<int64_t> convolved_shape(const at::Tensor& map, const at::Tensor& bias, int64_t stride) {
  return {map.size(0), bias.size(0), (map.size(2) - 1) / stride + 1, (map.size(3) - 1) / stride + 1};
}

// Padding before the first of `side` pixels of a convolution with an odd kernel: half of it, or with `same` as
// TensorFlow's, which is as small as possible for the size; the larger half is after the last pixel.
inline int64_t padding_before(int64_t side, int64_t kernel, int64_t stride, bool same) {
  return same ? std::max<int64_t>(0, kernel - 1 - (side - 1) % stride) / 2 : kernel / 2;
}

// The residual as a map to overwrite; a copy if it is not stored channels last. `features` must be other memory.
inline at::Tensor residual_map(const at::Tensor& residual, at::IntArrayRef shape, const at::Tensor& features) {
  TORCH_CHECK(residual.sizes() == shape, "expected a residual of ", shape, ", got ", residual.sizes());
  check_no_overlap(residual, features);
  return channels_last(residual);
}

}  // namespace fastfcn
