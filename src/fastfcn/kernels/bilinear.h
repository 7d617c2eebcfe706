// Where each result of a bilinear resize comes from, as torch.nn.functional.interpolate computes it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace fastfcn {

struct Source {
  int64_t low, high;  // the two inputs
  float share;        // of the second
};

inline std::vector<Source> sources(int64_t before, int64_t after, bool align_corners) {
  const float scale = align_corners ? (after > 1 ? static_cast<float>(before - 1) / (after - 1) : 0.f)
                                    : static_cast<float>(before) / after;
  std::vector<Source> result(after);
  for (int64_t index = 0; index < after; ++index) {
    const float position = align_corners ? scale * index : std::max(scale * (index + 0.5f) - 0.5f, 0.f);
    const int64_t low = std::min(static_cast<int64_t>(position), before - 1);
    result[index] = {low, std::min(low + 1, before - 1), std::clamp(position - low, 0.f, 1.f)};
  }
  return result;
}

}  // namespace fastfcn
