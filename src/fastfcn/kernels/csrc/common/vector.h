// SIMD vectors of float32, with GCC's vector extensions.
#pragma once

#include <cstdint>

#if defined(__AVX__)
#include <immintrin.h>
#endif

namespace fastfcn {

#if defined(__AVX512F__)
constexpr int LANES = 16;  // floats in a vector
#elif defined(__AVX__)
constexpr int LANES = 8;
#else
constexpr int LANES = 4;
#endif

typedef float Vector __attribute__((vector_size(LANES * 4), aligned(4), may_alias));

inline Vector load(const float* from) { return *reinterpret_cast<const Vector*>(from); }
inline void store(float* to, Vector value) { *reinterpret_cast<Vector*>(to) = value; }
inline Vector positive(Vector value) { return value > 0 ? value : Vector{}; }
inline Vector at_most(Vector value, float limit) { return value < limit ? value : Vector{} + limit; }

// The first `count` floats, then zeros; memory after them is not touched.
inline Vector load_part(const float* from, int64_t count) {
#if defined(__AVX512F__)
  return reinterpret_cast<Vector>(_mm512_maskz_loadu_ps((1u << count) - 1, from));
#else
  Vector value{};
  for (int64_t lane = 0; lane < count; ++lane) value[lane] = from[lane];
  return value;
#endif
}
inline void store_part(float* to, Vector value, int64_t count) {
#if defined(__AVX512F__)
  _mm512_mask_storeu_ps(to, (1u << count) - 1, reinterpret_cast<__m512>(value));
#else
  for (int64_t lane = 0; lane < count; ++lane) to[lane] = value[lane];
#endif
}

}  // namespace fastfcn
