// Reductions: over the lanes of a vector, and dot products.
#pragma once

#include <algorithm>
#include <cstdint>

#include "common/vector.h"

namespace fastfcn {

// Combines all lanes pairwise, which keeps the dependency chain short.
template <class Join>
float reduce(Vector values, const Join& join) {
  float lanes[LANES];
  store(lanes, values);
#pragma GCC unroll 4
  for (int half = LANES / 2; half > 0; half /= 2)
    for (int lane = 0; lane < half; ++lane) lanes[lane] = join(lanes[lane], lanes[lane + half]);
  return lanes[0];
}
inline float horizontal_sum(Vector values) {
  return reduce(values, [](float one, float two) { return one + two; });
}
inline float horizontal_max(Vector values) {
  return reduce(values, [](float one, float two) { return std::max(one, two); });
}

// Dot product of two arrays of `count` floats.
inline float dot(const float* one, const float* two, int64_t count) {
  constexpr int64_t SUMS = 4;  // independent sums, which hide the latency of additions
  Vector sums[SUMS] = {};
  float result = 0;
  int64_t index = 0;
  for (; index + SUMS * LANES <= count; index += SUMS * LANES)
    for (int64_t v = 0; v < SUMS; ++v) sums[v] += load(one + index + v * LANES) * load(two + index + v * LANES);
  for (; index < count; ++index) result += one[index] * two[index];
  return result + horizontal_sum((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

}  // namespace fastfcn
