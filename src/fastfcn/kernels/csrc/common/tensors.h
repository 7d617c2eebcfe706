// Checks and shapes of maps: (B, C, H, W) float32 on the CPU, stored channels last.
#pragma once

#include <ATen/ATen.h>

namespace fastfcn {

constexpr int TAPS = 9;  // taps of a 3x3 convolution

inline at::Tensor channels_last(const at::Tensor& map) {
  TORCH_CHECK(map.dim() == 4 && map.scalar_type() == at::kFloat && map.device().is_cpu(),
              "expected a float32 map (B, C, H, W) on the CPU, got ", map.toString(), " ", map.sizes());
  return map.contiguous(at::MemoryFormat::ChannelsLast);
}

// Output shape of a convolution with "same" padding: (B, O, ceil(H / stride), ceil(W / stride)).
inline std::vector<int64_t> convolved_shape(const at::Tensor& map, const at::Tensor& bias, int64_t stride) {
  return {map.size(0), bias.size(0), (map.size(2) - 1) / stride + 1, (map.size(3) - 1) / stride + 1};
}

// The residual as a map to overwrite; a copy if it is not stored channels last.
inline at::Tensor residual_map(const at::Tensor& residual, at::IntArrayRef shape) {
  TORCH_CHECK(residual.sizes() == shape, "expected a residual of ", shape, ", got ", residual.sizes());
  return channels_last(residual);
}

}  // namespace fastfcn
