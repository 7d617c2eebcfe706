// Vectorized exponential function.
#pragma once

#include <cstdint>

#include "common/vector.h"

namespace fastfcn {

// exp(x) for x <= 0, within 2 units in the last place; x below -87 is clamped to -87, near the smallest normal float32.
//
// exp(x) = 2^n exp(r) with |r| <= ln(2) / 2. The polynomial for exp(r), and the split of ln(2) into two parts that
// keeps n ln(2) exact, are those of expf in Moshier's Cephes library.
inline Vector exponential(Vector x) {
  typedef int32_t Whole __attribute__((vector_size(LANES * 4)));
  constexpr float LOG2_E = 1.44269504f;
  constexpr float ROUND = 12582912;  // adding 1.5 * 2^23 rounds to an integer
  constexpr float POLYNOMIAL[] = {1.9875691500e-4f, 1.3981999507e-3f, 8.3334519073e-3f,
                                  4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f};
  x = x > -87.f ? x : Vector{} - 87.f;
  const Vector n = (x * LOG2_E + ROUND) - ROUND, r = x - n * 0.693359375f + n * 2.12194440e-4f;
  Vector value{};
  for (const float factor : POLYNOMIAL) value = value * r + factor;
  const Whole power = (__builtin_convertvector(n, Whole) + 127) << 23;
  return (value * r * r + r + 1) * (Vector)power;
}

}  // namespace fastfcn
