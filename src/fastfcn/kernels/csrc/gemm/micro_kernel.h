// The core of every matrix product here: some rows of A times a panel of B, in registers (matmul.h).
#pragma once

#include <algorithm>
#include <cstdint>

#include "common/scratch.h"

namespace fastfcn {

#if defined(__AVX512F__)
constexpr int LANES = 16, ROWS = 12;
#elif defined(__AVX__)
constexpr int LANES = 8, ROWS = 6;
#else
constexpr int LANES = 4, ROWS = 6;
#endif
constexpr int VECTORS = 2;  // of a panel's row
constexpr int64_t PANEL = LANES * VECTORS;
constexpr int64_t FAR = 4 * LINE;  // steps of k after which a part of A that is fetched is needed

typedef float Vector __attribute__((vector_size(LANES * 4), aligned(4), may_alias));

inline Vector load(const float* from) { return *reinterpret_cast<const Vector*>(from); }
inline void store(float* to, Vector value) { *reinterpret_cast<Vector*>(to) = value; }
inline Vector positive(Vector value) { return value > 0 ? value : Vector{}; }

// A part of memory that will soon be read, asked for during a product: `each` lines of the cache with every LINE steps
// of k. Many at once would hold up the product's own reads.
struct Ahead {
  const float* from = nullptr;
  int64_t each = 0;
  int64_t share = 0;  // floats from one product to the next

  // `floats` in equal shares for `products` of depth k. It divides, which takes as long as some steps of a product.
  static Ahead over(const float* from, int64_t floats, int64_t products, int64_t k) {
    const int64_t steps = products * ((k + LINE - 1) / LINE);
    return {from, (floats / LINE + steps - 1) / steps, floats / products};
  }
  void next() { from += share; }
  void ask() {
    for (int64_t line = 0; line < each; ++line, from += LINE) __builtin_prefetch(from, 0, 2);
  }
};

inline int64_t panels(int64_t columns) { return (columns + PANEL - 1) / PANEL; }

// What is done with a sum before it is written; bias and residual may be absent.
struct Ending {
  const float* bias = nullptr;      // (n)
  const float* residual = nullptr;  // (m x n), rows residual_stride apart
  int64_t residual_stride = 0;
  bool relu = false;

  Ending at(int64_t row, int64_t column) const {
    return {bias ? bias + column : nullptr, residual ? residual + row * residual_stride + column : nullptr,
            residual_stride, relu};
  }
};

// That, with the sums of M rows of a panel. What there is to do is asked once for all.
template <int M>
inline void finish_rows(Vector (&sum)[M][VECTORS], const Ending& ending) {
  if (ending.bias)
#pragma GCC unroll 16
    for (int row = 0; row < M; ++row)
      for (int v = 0; v < VECTORS; ++v) sum[row][v] += load(ending.bias + v * LANES);
  if (ending.residual)
#pragma GCC unroll 16
    for (int row = 0; row < M; ++row)
      for (int v = 0; v < VECTORS; ++v) sum[row][v] += load(ending.residual + row * ending.residual_stride + v * LANES);
  if (ending.relu)
#pragma GCC unroll 16
    for (int row = 0; row < M; ++row)
      for (int v = 0; v < VECTORS; ++v) sum[row][v] = positive(sum[row][v]);
}

// M rows of one panel. `before`: C holds a partial sum; `ending`: this is the last part of k; DOWN: A is stored by
// columns, k x M; `last`: the rows after these will be next.
template <int M, bool DOWN = false>
[[gnu::always_inline]] inline void multiply_rows(int64_t k, const float* a, int64_t a_stride, const float* b, float* c,
                                                 int64_t c_stride, bool before, const Ending* ending, Ahead ahead,
                                                 bool last) {
  // What will be written; where it is read first, that of the rows after these. It is asked for some rows at a time:
  // all at once would hold up the product's own reads.
  const float* soon = before ? c + M * c_stride : c;
  const int64_t each = k >= M * LINE ? 1 : k >= M * LINE / 2 ? 2 : 3, far = std::min(FAR, k);
  int64_t asked = 0;
  Vector sum[M][VECTORS];  // in registers, as every loop over it is unrolled
#pragma GCC unroll 16
  for (int row = 0; row < M; ++row)
    for (int v = 0; v < VECTORS; ++v) sum[row][v] = before ? load(c + row * c_stride + v * LANES) : Vector{};
  for (int64_t start = 0; start < k; start += LINE) {
    const int64_t behind = start + far;
    const float* next = behind < k ? a + behind : a + M * a_stride + behind - k;
    for (int row = 0; row < M && !DOWN && (last || behind < k); ++row) __builtin_prefetch(next + row * a_stride);
    for (const int64_t until = std::min<int64_t>(M, asked + each); asked < until; ++asked, soon += c_stride)
      for (int64_t column = 0; column < PANEL; column += LINE) __builtin_prefetch(soon + column, 1);
    ahead.ask();
    const int64_t end = std::min(start + LINE, k);
#pragma GCC unroll 2
    for (int64_t i = start; i < end; ++i) {
      Vector right[VECTORS];
      for (int v = 0; v < VECTORS; ++v) right[v] = load(b + i * PANEL + v * LANES);
#pragma GCC unroll 16
      for (int row = 0; row < M; ++row)
        for (int v = 0; v < VECTORS; ++v)
          sum[row][v] += (DOWN ? a[i * a_stride + row] : a[row * a_stride + i]) * right[v];
    }
  }
  if (ending) finish_rows<M>(sum, *ending);
#pragma GCC unroll 16
  for (int row = 0; row < M; ++row)
    for (int v = 0; v < VECTORS; ++v) store(c + row * c_stride + v * LANES, sum[row][v]);
}

// Not inlined, as the next one: where more is going on, the inner loop has too few registers.
template <int M, bool DOWN>
[[gnu::noinline]] void panel_rows(int64_t k, const float* a, int64_t a_stride, const float* b, float* c,
                                  int64_t c_stride, bool before, const Ending* ending, const Ahead& ahead) {
  multiply_rows<M, DOWN>(k, a, a_stride, b, c, c_stride, before, ending, ahead, true);
}

// Panels that lie `size` floats from each other; during the products of the first `fetched` ones a share of those
// behind is fetched, `coming` being that of the first.
struct Right {
  const float* b;
  int64_t size, count;
  Ahead coming;
  int64_t fetched;

  Ahead ahead(int64_t panel) const {
    return panel < fetched ? Ahead{coming.from + panel * size, coming.each} : Ahead{};
  }
};

// M rows of some panels, one after the other.
template <int M>
[[gnu::noinline]] void rows_of_panels(const Right& right, int64_t k, const float* a, int64_t a_stride, float* c,
                                      int64_t c_stride, bool before, const Ending* ending) {
  for (int64_t panel = 0; panel < right.count; ++panel) {
    const Ending here = ending ? ending->at(0, panel * PANEL) : Ending{};
    multiply_rows<M>(k, a, a_stride, right.b + panel * right.size, c + panel * PANEL, c_stride, before,
                     ending ? &here : nullptr, right.ahead(panel), panel + 1 == right.count);
  }
}

template <int M, bool DOWN = false>
void any_rows(int64_t rows, int64_t k, const float* a, int64_t a_stride, const float* b, float* c, int64_t c_stride,
              bool before, const Ending* ending, const Ahead& ahead = {}) {
  if (rows == M) return panel_rows<M, DOWN>(k, a, a_stride, b, c, c_stride, before, ending, ahead);
  if constexpr (M > 1) any_rows<M - 1, DOWN>(rows, k, a, a_stride, b, c, c_stride, before, ending, ahead);
}

template <int M = ROWS>
void any_rows_of_panels(int64_t rows, const Right& right, int64_t k, const float* a, int64_t a_stride, float* c,
                        int64_t c_stride, bool before, const Ending* ending) {
  if (rows == M) return rows_of_panels<M>(right, k, a, a_stride, c, c_stride, before, ending);
  if constexpr (M > 1) any_rows_of_panels<M - 1>(rows, right, k, a, a_stride, c, c_stride, before, ending);
}

}  // namespace fastfcn
