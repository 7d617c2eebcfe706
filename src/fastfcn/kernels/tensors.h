// Maps as the kernels want them: (B, C, H, W) float32 with the channels of a pixel side by side in memory.
#pragma once

#include <ATen/ATen.h>

namespace fastfcn {

inline at::Tensor channels_last(const at::Tensor& map) {
  TORCH_CHECK(map.dim() == 4 && map.scalar_type() == at::kFloat && map.device().is_cpu(),
              "a float32 map (B, C, H, W) on the CPU is needed, not ", map.toString(), " ", map.sizes());
  return map.contiguous(at::MemoryFormat::ChannelsLast);
}

inline at::Tensor empty_map(int64_t batch, int64_t channels, int64_t height, int64_t width, const at::Tensor& like) {
  return at::empty({batch, channels, height, width}, like.options(), at::MemoryFormat::ChannelsLast);
}

}  // namespace fastfcn
