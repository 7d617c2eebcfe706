// SIMD vectors of float32, with GCC's vector extensions.
#pragma once

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

}  // namespace fastfcn
