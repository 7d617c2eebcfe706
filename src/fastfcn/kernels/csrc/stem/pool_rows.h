// Max pooling 3x3 at stride 2 of rows in cache that hold no negative values (results of ReLU).
#pragma once

#include "common/nontemporal.h"

namespace fastfcn {

constexpr int64_t POOL = 3, POOL_STRIDE = 2;

// Computes `count` results, `pixel_stride` floats apart, from three rows that start at the first result's left column.
// Padding is zeros, which never exceed a result. ACCUMULATE: include the values in `to`. `large`: use non-temporal
// stores.
template <bool ACCUMULATE = false>
void pool_rows(const float* const (&rows)[POOL], int64_t count, int64_t channels, float* to, int64_t pixel_stride,
               bool large = false) {
  for (int64_t x = 0; x < count * POOL_STRIDE; x += POOL_STRIDE, to += pixel_stride)
    for (int64_t channel = 0; channel < channels; channel += LANES) {
      Vector maximum = ACCUMULATE ? load(to + channel) : Vector{};
      for (const float* row : rows)
        for (int64_t column = x; column < x + POOL; ++column) {
          const Vector value = load(row + column * channels + channel);
          maximum = maximum > value ? maximum : value;
        }
      large ? store_nontemporal(to + channel, maximum) : store(to + channel, maximum);
    }
}

}  // namespace fastfcn
