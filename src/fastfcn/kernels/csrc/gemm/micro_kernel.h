// Micro-kernel of all matrix products: up to ROWS rows of A times one packed panel of B, sums in vector registers.
#pragma once

#include <algorithm>
#include <cstdint>

#include "common/scratch.h"
#include "common/vector.h"

namespace fastfcn {

constexpr int ROWS = LANES == 16 ? 12 : 6;  // rows of A, as many as the registers hold
constexpr int VECTORS = 2;                  // vectors in a row of a panel
constexpr int64_t PANEL = LANES * VECTORS;
constexpr int64_t PREFETCH_DISTANCE = 4 * CACHE_LINE;  // steps of k between the prefetch of A and its use

// Memory that will be read soon, prefetched during a product: `lines` cache lines for every CACHE_LINE steps of k. More
// at once would delay the product's own loads.
struct Prefetch {
  const float* from = nullptr;
  int64_t lines = 0;
  int64_t floats = 0;  // from one product to the next

  // Spreads `floats` evenly over `products` of depth k. Contains divisions, so call it once per group of products.
  static Prefetch over(const float* from, int64_t floats, int64_t products, int64_t k) {
    const int64_t steps = products * ((k + CACHE_LINE - 1) / CACHE_LINE);
    return {from, (floats / CACHE_LINE + steps - 1) / steps, floats / products};
  }
  void advance() { from += floats; }
  void issue() {
    for (int64_t line = 0; line < lines; ++line, from += CACHE_LINE) __builtin_prefetch(from, 0, 2);
  }
};

inline int64_t panel_count(int64_t columns) { return (columns + PANEL - 1) / PANEL; }

// Applied to the sums before they are stored: bias, then residual, then ReLU. Bias and residual are optional.
struct Epilogue {
  const float* bias = nullptr;      // (n)
  const float* residual = nullptr;  // (m, n), rows residual_stride floats apart
  int64_t residual_stride = 0;
  bool relu = false;

  Epilogue at(int64_t row, int64_t column) const {
    return {bias ? bias + column : nullptr, residual ? residual + row * residual_stride + column : nullptr,
            residual_stride, relu};
  }
};

// Applies the epilogue to M rows of a panel; tests each condition once for all rows.
template <int M>
inline void apply_epilogue(Vector (&sum)[M][VECTORS], const Epilogue& epilogue) {
  if (epilogue.bias)
#pragma GCC unroll 16
    for (int row = 0; row < M; ++row)
      for (int v = 0; v < VECTORS; ++v) sum[row][v] += load(epilogue.bias + v * LANES);
  if (epilogue.residual)
#pragma GCC unroll 16
    for (int row = 0; row < M; ++row)
      for (int v = 0; v < VECTORS; ++v)
        sum[row][v] += load(epilogue.residual + row * epilogue.residual_stride + v * LANES);
  if (epilogue.relu)
#pragma GCC unroll 16
    for (int row = 0; row < M; ++row)
      for (int v = 0; v < VECTORS; ++v) sum[row][v] = positive(sum[row][v]);
}

// C = A B or C += A B for M rows and one panel. `accumulate`: start from the values in C; `epilogue`: set for the last
// part of k; A_TRANSPOSED: A is k x M; `last`: prefetch the rows of A after these.
template <int M, bool A_TRANSPOSED = false>
[[gnu::always_inline]] inline void micro_kernel(int64_t k, const float* a, int64_t a_stride, const float* b, float* c,
                                                int64_t c_stride, bool accumulate, const Epilogue* epilogue,
                                                Prefetch prefetch, bool last) {
  // Rows of C to prefetch: these rows or, if they are read first anyway, the next ones. A few rows at a time, since all
  // at once would delay the product's own loads.
  const float* next_c = accumulate ? c + M * c_stride : c;
  const int64_t rows_per_step = k >= M * CACHE_LINE ? 1 : k >= M * CACHE_LINE / 2 ? 2 : 3;
  const int64_t distance = std::min(PREFETCH_DISTANCE, k);
  int64_t prefetched_rows = 0;
  Vector sum[M][VECTORS];  // in registers: every loop over it is unrolled
#pragma GCC unroll 16
  for (int row = 0; row < M; ++row)
    for (int v = 0; v < VECTORS; ++v) sum[row][v] = accumulate ? load(c + row * c_stride + v * LANES) : Vector{};
  for (int64_t start = 0; start < k; start += CACHE_LINE) {
    const int64_t prefetch_k = start + distance;
    const float* next = prefetch_k < k ? a + prefetch_k : a + M * a_stride + prefetch_k - k;
    for (int row = 0; row < M && !A_TRANSPOSED && (last || prefetch_k < k); ++row)
      __builtin_prefetch(next + row * a_stride);
    for (const int64_t until = std::min<int64_t>(M, prefetched_rows + rows_per_step); prefetched_rows < until;
         ++prefetched_rows, next_c += c_stride)
      for (int64_t column = 0; column < PANEL; column += CACHE_LINE) __builtin_prefetch(next_c + column, 1);
    prefetch.issue();
    const int64_t end = std::min(start + CACHE_LINE, k);
#pragma GCC unroll 2
    for (int64_t i = start; i < end; ++i) {
      Vector right[VECTORS];
      for (int v = 0; v < VECTORS; ++v) right[v] = load(b + i * PANEL + v * LANES);
#pragma GCC unroll 16
      for (int row = 0; row < M; ++row)
        for (int v = 0; v < VECTORS; ++v)
          sum[row][v] += (A_TRANSPOSED ? a[i * a_stride + row] : a[row * a_stride + i]) * right[v];
    }
  }
  if (epilogue) apply_epilogue<M>(sum, *epilogue);
#pragma GCC unroll 16
  for (int row = 0; row < M; ++row)
    for (int v = 0; v < VECTORS; ++v) store(c + row * c_stride + v * LANES, sum[row][v]);
}

// M rows of A by one panel, into contiguous rows of C (M, PANEL), without an epilogue. Not inlined, like
// multiply_rows_by_panels: in a larger function the inner loop would run out of registers.
template <int M, bool A_TRANSPOSED>
[[gnu::noinline]] void multiply_rows(int64_t k, const float* a, int64_t a_stride, const float* b, float* c,
                                     bool accumulate, const Prefetch& prefetch) {
  micro_kernel<M, A_TRANSPOSED>(k, a, a_stride, b, c, PANEL, accumulate, nullptr, prefetch, true);
}

// Consecutive panels of B, `size` floats apart. During the first `fetched` products later panels are prefetched;
// `upcoming` describes the share of the first product.
struct PanelGroup {
  const float* b;
  int64_t size, count;
  Prefetch upcoming;
  int64_t fetched;

  Prefetch prefetch(int64_t panel) const {
    return panel < fetched ? Prefetch{upcoming.from + panel * size, upcoming.lines} : Prefetch{};
  }
};

// M rows of A by all panels of the group.
template <int M>
[[gnu::noinline]] void multiply_rows_by_panels(const PanelGroup& right, int64_t k, const float* a, int64_t a_stride,
                                               float* c, int64_t c_stride, bool accumulate, const Epilogue* epilogue) {
  for (int64_t panel = 0; panel < right.count; ++panel) {
    const Epilogue here = epilogue ? epilogue->at(0, panel * PANEL) : Epilogue{};
    micro_kernel<M>(k, a, a_stride, right.b + panel * right.size, c + panel * PANEL, c_stride, accumulate,
                    epilogue ? &here : nullptr, right.prefetch(panel), panel + 1 == right.count);
  }
}

// multiply_rows for a number of rows known at run time, at most M.
template <int M, bool A_TRANSPOSED = false>
void multiply_any_rows(int64_t rows, int64_t k, const float* a, int64_t a_stride, const float* b, float* c,
                       bool accumulate, const Prefetch& prefetch = {}) {
  if (rows == M) return multiply_rows<M, A_TRANSPOSED>(k, a, a_stride, b, c, accumulate, prefetch);
  if constexpr (M > 1) multiply_any_rows<M - 1, A_TRANSPOSED>(rows, k, a, a_stride, b, c, accumulate, prefetch);
}

// multiply_rows_by_panels for a number of rows known at run time, at most M.
template <int M = ROWS>
void multiply_any_rows_by_panels(int64_t rows, const PanelGroup& right, int64_t k, const float* a, int64_t a_stride,
                                 float* c, int64_t c_stride, bool accumulate, const Epilogue* epilogue) {
  if (rows == M) return multiply_rows_by_panels<M>(right, k, a, a_stride, c, c_stride, accumulate, epilogue);
  if constexpr (M > 1)
    multiply_any_rows_by_panels<M - 1>(rows, right, k, a, a_stride, c, c_stride, accumulate, epilogue);
}

}  // namespace fastfcn
