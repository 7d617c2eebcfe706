// Max pooling 3x3 at stride 2 of maps that hold nothing negative, of rows that lie in cache.
#pragma once

#include "common/nontemporal.h"

namespace fastfcn {

constexpr int64_t POOL = 3, POOL_STRIDE = 2;

// `count` results of three rows of pixels, which begin with the first that the first result sees. What lies beyond a
// map is zeros there: no result is less. Results lie `apart` floats from each other. ONTO: what `to` holds counts as
// well. `large`: the results are written past the caches.
template <bool ONTO = false>
void pool_rows(const float* const (&rows)[POOL], int64_t count, int64_t channels, float* to, int64_t apart,
               bool large = false) {
  for (int64_t x = 0; x < count * POOL_STRIDE; x += POOL_STRIDE, to += apart)
    for (int64_t channel = 0; channel < channels; channel += LANES) {
      Vector most = ONTO ? load(to + channel) : Vector{};
      for (const float* row : rows)
        for (int64_t column = x; column < x + POOL; ++column) {
          const Vector value = load(row + column * channels + channel);
          most = most > value ? most : value;
        }
      large ? stream(to + channel, most) : store(to + channel, most);
    }
}

}  // namespace fastfcn
