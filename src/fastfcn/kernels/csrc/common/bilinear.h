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

// Where between the inputs a result lies, or a place between two results.
template <class Number>
Number resize_position(Number place, Number step, bool align_corners) {
  constexpr Number HALF = 0.5;
  return align_corners ? step * place : std::max(step * (place + HALF) - HALF, Number{0});
}

inline Source source_at(double position, int64_t before) {
  const int64_t low = std::min(static_cast<int64_t>(position), before - 1);
  return {low, std::min(low + 1, before - 1), static_cast<float>(std::clamp(position - low, 0., 1.))};
}

inline std::vector<Source> sources(int64_t before, int64_t after, bool align_corners) {
  const float step = resize_step(before, after, align_corners);
  std::vector<Source> result(after);
  for (int64_t index = 0; index < after; ++index)
    result[index] = source_at(resize_position(static_cast<float>(index), step, align_corners), before);
  return result;
}

}  // namespace fastfcn
