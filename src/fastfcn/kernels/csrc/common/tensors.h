// Maps as the kernels want them: (B, C, H, W) float32 with the channels of a pixel side by side in memory.
#pragma once

#include <ATen/ATen.h>

namespace fastfcn {

constexpr int TAPS = 9;  // of a 3x3 convolution

inline at::Tensor channels_last(const at::Tensor& map) {
  TORCH_CHECK(map.dim() == 4 && map.scalar_type() == at::kFloat && map.device().is_cpu(),
              "a float32 map (B, C, H, W) on the CPU is needed, not ", map.toString(), " ", map.sizes());
  return map.contiguous(at::MemoryFormat::ChannelsLast);
}

// The shape of the results of a convolution that keeps the size, but for its stride.
inline std::vector<int64_t> convolved_shape(const at::Tensor& map, const at::Tensor& bias, int64_t stride) {
  return {map.size(0), bias.size(0), (map.size(2) - 1) / stride + 1, (map.size(3) - 1) / stride + 1};
}

// A residual as a map to be written over; a copy where its memory format is another.
inline at::Tensor residual_map(const at::Tensor& residual, at::IntArrayRef shape) {
  TORCH_CHECK(residual.sizes() == shape, "a residual of ", shape, " is needed, not ", residual.sizes());
  return channels_last(residual);
}

}  // namespace fastfcn
