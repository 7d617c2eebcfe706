// Channel-blocked maps (NCHWc): (B, ceil(C / 16), H, W, 16), 16 floats being one cache line.
//
// The 16 channels of a pixel are adjacent, followed by the same channels of the next pixel. A kernel that reads a few
// channels of many pixels reads contiguous memory; in channels-last maps every pixel's cache line would be on another
// page.
#pragma once

#include "common/scratch.h"
#include "common/tensors.h"
#include "common/vector.h"

namespace fastfcn {

// (B, C, H, W) -> (B, ceil(C / 16), H, W, 16); the last block is padded with zeros.
inline at::Tensor to_blocked(const at::Tensor& map) {
  const int64_t unused = (CACHE_LINE - map.size(1) % CACHE_LINE) % CACHE_LINE;
  const auto padded = unused ? at::constant_pad_nd(map, {0, 0, 0, 0, 0, unused}) : map;
  return padded.unflatten(1, {-1, CACHE_LINE}).permute({0, 1, 3, 4, 2}).contiguous();
}

inline at::Tensor from_blocked(const at::Tensor& blocked) {
  return channels_last(blocked.permute({0, 1, 4, 2, 3}).flatten(1, 2));
}

// An input map, channels last or channel-blocked. Converts it to the other layout on first use.
class MapInput {
 public:
  explicit MapInput(const at::Tensor& map) {
    const bool blocked = map.dim() == 5 && map.size(4) == CACHE_LINE;
    TORCH_CHECK(!blocked || (is_float32_on_cpu(map) && map.size(1) > 0 && map.size(2) > 0 && map.size(3) > 0),
                "expected a float32 map on the CPU, (B, C / 16, H, W, 16) with at least one channel and pixel, got ",
                map.toString(), " ", map.sizes());
    (blocked ? blocked_ : channels_last_) = blocked ? map.contiguous() : channels_last(map);
    check_lanes(channels());
  }

  int64_t channels() const { return channels_last_.defined() ? channels_last_.size(1) : blocked_.size(1) * CACHE_LINE; }
  int64_t batch() const { return either().size(0); }
  int64_t height() const { return either().size(2); }
  int64_t width() const { return either().size(3); }
  at::TensorOptions options() const { return either().options(); }

  const at::Tensor& blocked() const { return blocked_.defined() ? blocked_ : blocked_ = to_blocked(channels_last_); }
  const at::Tensor& channels_last_map() const {
    return channels_last_.defined() ? channels_last_ : channels_last_ = from_blocked(blocked_);
  }

 private:
  const at::Tensor& either() const { return channels_last_.defined() ? channels_last_ : blocked_; }

  mutable at::Tensor blocked_, channels_last_;
};

}  // namespace fastfcn
