// Writing maps that the last cache cannot hold until they are read: past the caches, which saves reading them first.
#pragma once

#include "gemm/micro_kernel.h"

#if defined(__AVX__)
#include <immintrin.h>
#endif

namespace fastfcn {

inline bool is_large(int64_t height, int64_t width, int64_t channels) { return height * width * channels >= 4 << 20; }

// `to`: a multiple of the size of a vector.
inline void stream(float* to, Vector value) {
#if defined(__AVX512F__)
  _mm512_stream_ps(to, reinterpret_cast<__m512>(value));
#elif defined(__AVX__)
  _mm256_stream_ps(to, reinterpret_cast<__m256>(value));
#else
  store(to, value);
#endif
}

// What this thread has streamed is written before anything after this.
inline void finish_streams() {
#if defined(__AVX__)
  _mm_sfence();
#endif
}

}  // namespace fastfcn
