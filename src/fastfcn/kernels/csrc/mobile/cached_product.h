// Matrix products of pixels and 1x1 weights whose operands are in cache: few channels, sums finished in registers.
//
// Unlike gemm/micro_kernel.h, nothing is prefetched, and a last half panel takes half the time: blocks of mobile
// networks have 16 to 48 channels, of which a whole panel of two vectors would waste up to half.
#pragma once

#include "gemm/micro_kernel.h"

namespace fastfcn {

// Finishes a tile: bias, ReLU with an upper limit; stores each vector of channels to its own block of LANES channels.
struct ToBlocks {
  const float* bias;
  float limit;
  float* to;  // LANES floats per pixel
  int64_t block_stride;

  template <int M, int V>
  [[gnu::always_inline]] void operator()(Vector (&sum)[M][V]) const {
    for (int v = 0; v < V; ++v) {
      const Vector offset = load(bias + v * LANES);
#pragma GCC unroll 16
      for (int row = 0; row < M; ++row)
        store(to + v * block_stride + row * LANES, at_most(positive(sum[row][v] + offset), limit));
    }
  }
};

// Finishes a tile: bias and an optional residual; stores pixels, channels last. `count`: channels of the last vector.
struct ToPixels {
  const float *bias, *residual;
  float* to;
  int64_t stride, count;

  template <int M, int V>
  [[gnu::always_inline]] void operator()(Vector (&sum)[M][V]) const {
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) {
      const bool part = v == V - 1 && count < LANES;
      const Vector offset = part ? load_part(bias + v * LANES, count) : load(bias + v * LANES);
#pragma GCC unroll 16
      for (int row = 0; row < M; ++row) {
        const int64_t at = row * stride + v * LANES;
        Vector value = sum[row][v] + offset;
        if (residual) value += part ? load_part(residual + at, count) : load(residual + at);
        part ? store_part(to + at, value, count) : store(to + at, value);
      }
    }
  }
};

// M rows of A (k values, `a_stride` apart) by V vectors of a packed panel.
template <int M, int V, class Finish>
[[gnu::noinline]] void cached_rows(int64_t k, const float* a, int64_t a_stride, const float* b, const Finish& finish) {
  Vector sum[M][V] = {};  // in registers: every loop over it is unrolled
#pragma GCC unroll 2
  for (int64_t i = 0; i < k; ++i) {
    Vector right[V];
    for (int v = 0; v < V; ++v) right[v] = load(b + i * PANEL + v * LANES);
#pragma GCC unroll 16
    for (int row = 0; row < M; ++row)
      for (int v = 0; v < V; ++v) sum[row][v] += a[row * a_stride + i] * right[v];
  }
  finish(sum);
}

// cached_rows for a number of rows known at run time, at most M.
template <int V, class Finish, int M = ROWS>
void cached_product(int64_t rows, int64_t k, const float* a, int64_t a_stride, const float* b, const Finish& finish) {
  if (rows == M) return cached_rows<M, V>(k, a, a_stride, b, finish);
  if constexpr (M > 1) cached_product<V, Finish, M - 1>(rows, k, a, a_stride, b, finish);
}

}  // namespace fastfcn
