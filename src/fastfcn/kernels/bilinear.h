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

// Inputs from one result to the next.
inline float resize_step(int64_t before, int64_t after, bool align_corners) {
  if (!align_corners) return static_cast<float>(before) / after;
  return after > 1 ? static_cast<float>(before - 1) / (after - 1) : 0.f;
}

inline Source source_at(double position, int64_t before) {
  const int64_t low = std::min(static_cast<int64_t>(position), before - 1);
  return {low, std::min(low + 1, before - 1), static_cast<float>(std::clamp(position - low, 0., 1.))};
}

inline std::vector<Source> sources(int64_t before, int64_t after, bool align_corners) {
  const float step = resize_step(before, after, align_corners);
  std::vector<Source> result(after);
  for (int64_t index = 0; index < after; ++index)
    result[index] = source_at(align_corners ? step * index : std::max(step * (index + 0.5f) - 0.5f, 0.f), before);
  return result;
}

}  // namespace fastfcn
