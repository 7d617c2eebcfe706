// Over the lanes of a vector, and over the numbers of two rows.
#pragma once

#include "gemm/micro_kernel.h"

namespace fastfcn {

// All lanes as one, in pairs, so that few steps wait for each other.
template <class Join>
float joined(Vector values, const Join& join) {
  float lanes[LANES];
  store(lanes, values);
#pragma GCC unroll 4
  for (int half = LANES / 2; half > 0; half /= 2)
    for (int lane = 0; lane < half; ++lane) lanes[lane] = join(lanes[lane], lanes[lane + half]);
  return lanes[0];
}
inline float total(Vector values) {
  return joined(values, [](float one, float two) { return one + two; });
}
inline float highest(Vector values) {
  return joined(values, [](float one, float two) { return std::max(one, two); });
}

// The scalar product of two rows of `count` numbers.
inline float product(const float* one, const float* two, int64_t count) {
  constexpr int64_t MANY = 4;  // sums, so that none waits for the last
  Vector sums[MANY] = {};
  float result = 0;
  int64_t at = 0;
  for (; at + MANY * LANES <= count; at += MANY * LANES)
    for (int64_t v = 0; v < MANY; ++v) sums[v] += load(one + at + v * LANES) * load(two + at + v * LANES);
  for (; at < count; ++at) result += one[at] * two[at];
  return result + total((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

}  // namespace fastfcn
