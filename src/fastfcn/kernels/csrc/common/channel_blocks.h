// Maps in lines: (B, C / LINE, H, W, LINE). Those channels of a pixel lie side by side that fill a line of the cache,
// and all pixels of these channels one after the other. What reads a few channels of many pixels then reads on and on
// in memory; with all channels of a pixel side by side it would take each line from another page.
#pragma once

#include "common/tensors.h"
#include "gemm/micro_kernel.h"

namespace fastfcn {

// Of the last line some channels may be unused.
inline at::Tensor in_lines(const at::Tensor& map) {
  const int64_t unused = (LINE - map.size(1) % LINE) % LINE;
  const auto whole = unused ? at::constant_pad_nd(map, {0, 0, 0, 0, 0, unused}) : map;
  return whole.unflatten(1, {-1, LINE}).permute({0, 1, 3, 4, 2}).contiguous();
}

inline at::Tensor from_lines(const at::Tensor& lines) {
  return channels_last(lines.permute({0, 1, 4, 2, 3}).flatten(1, 2));
}

// A map with its channels last or in lines, as it was given, and in the other form where that is needed.
class GivenMap {
 public:
  explicit GivenMap(const at::Tensor& map) {
    const bool lines = map.dim() == 5 && map.size(4) == LINE;
    TORCH_CHECK(!lines || (map.scalar_type() == at::kFloat && map.device().is_cpu()),
                "a float32 map on the CPU is needed");
    (lines ? lines_ : last_) = lines ? map.contiguous() : channels_last(map);
    TORCH_CHECK(channels() % LANES == 0, "channels in multiples of ", LANES, " are needed");
  }

  int64_t channels() const { return last_.defined() ? last_.size(1) : lines_.size(1) * LINE; }
  int64_t batch() const { return any().size(0); }
  int64_t height() const { return any().size(2); }
  int64_t width() const { return any().size(3); }
  at::TensorOptions options() const { return any().options(); }

  const at::Tensor& lines() const { return lines_.defined() ? lines_ : lines_ = in_lines(last_); }
  const at::Tensor& channels_last_map() const { return last_.defined() ? last_ : last_ = from_lines(lines_); }

 private:
  const at::Tensor& any() const { return last_.defined() ? last_ : lines_; }

  mutable at::Tensor lines_, last_;
};

}  // namespace fastfcn
