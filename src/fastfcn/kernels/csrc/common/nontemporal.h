// Non-temporal stores, for maps too large to stay in the last-level cache: they skip reading the line before writing
// it.
#pragma once

#include <cstdint>

#include "common/vector.h"

#if defined(__AVX__)
#include <immintrin.h>
#endif

namespace fastfcn {

inline bool exceeds_cache(int64_t height, int64_t width, int64_t channels) {
  return height * width * channels >= 4 << 20;
}

// `to` must be aligned to the vector size.
inline void store_nontemporal(float* to, Vector value) {
#if defined(__AVX512F__)
  _mm512_stream_ps(to, reinterpret_cast<__m512>(value));
#elif defined(__AVX__)
  _mm256_stream_ps(to, reinterpret_cast<__m256>(value));
#else
  store(to, value);
#endif
}

// Store fence: this thread's non-temporal stores become visible before any later store.
inline void finish_nontemporal_stores() {
#if defined(__AVX__)
  _mm_sfence();
#endif
}

}  // namespace fastfcn
