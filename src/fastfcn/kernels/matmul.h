// Matrix product with a packed right side, the core of every convolution here.
//
// C (m x n) = A (m x k) B (k x n), row by row in float32. B is packed into panels of PANEL columns, each k x PANEL
// and contiguous, zeros after the last column, so that the inner loop reads it in order. The loops are those of
// Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication" (2008).
#pragma once

#include <algorithm>
#include <cstdint>

#include "scratch.h"

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
constexpr int64_t DEPTH = 512;  // of k worked off at a time: a panel's part stays in the second cache
constexpr int64_t WEIGHTS = 1 << 15;  // of panels that meet some rows of A, one after the other
constexpr int64_t BLOCK = 12 * ROWS;  // rows of A at a time

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

// `work(begin, end)` for parts of `count`, as few as there can be of at most `most`, and about as large as each other: a
// few rows alone take nearly as long as many.
template <class Work>
void in_even_parts(int64_t count, int64_t most, const Work& work) {
  const int64_t parts = (count + most - 1) / most;
  for (int64_t part = 0; part < parts; ++part) work(count * part / parts, count * (part + 1) / parts);
}

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
// columns, k x M. Not inlined, since the inner loop then has too few registers.
template <int M, bool DOWN = false>
[[gnu::noinline]] void panel_rows(int64_t k, const float* a, int64_t a_stride, const float* b, float* c,
                                  int64_t c_stride, bool before, const Ending* ending, Ahead ahead) {
  // What will be written; where it is read first, that of the rows after these.
  const float* soon = before ? c + ROWS * c_stride : c;
#pragma GCC unroll 16
  for (int row = 0; row < M; ++row, soon += c_stride)
    for (int64_t column = 0; column < PANEL; column += LINE) __builtin_prefetch(soon + column, 1);
  Vector sum[M][VECTORS];  // in registers, as every loop over it is unrolled
#pragma GCC unroll 16
  for (int row = 0; row < M; ++row)
    for (int v = 0; v < VECTORS; ++v) sum[row][v] = before ? load(c + row * c_stride + v * LANES) : Vector{};
  for (int64_t start = 0; start < k; start += LINE) {
    for (int row = 0; row < M && !DOWN; ++row)
      __builtin_prefetch(a + (row + ROWS) * a_stride + start);  // the rows after these
    ahead.ask();
    const int64_t end = std::min(start + LINE, k);
#pragma GCC unroll 2
    for (int64_t i = start; i < end; ++i) {
      Vector right[VECTORS];
      for (int v = 0; v < VECTORS; ++v) right[v] = load(b + i * PANEL + v * LANES);
#pragma GCC unroll 16
      for (int row = 0; row < M; ++row)
        for (int v = 0; v < VECTORS; ++v) sum[row][v] += (DOWN ? a[i * a_stride + row] : a[row * a_stride + i]) * right[v];
    }
  }
  if (ending) finish_rows<M>(sum, *ending);
#pragma GCC unroll 16
  for (int row = 0; row < M; ++row)
    for (int v = 0; v < VECTORS; ++v) store(c + row * c_stride + v * LANES, sum[row][v]);
}

template <int M, bool DOWN = false>
void any_rows(int64_t rows, int64_t k, const float* a, int64_t a_stride, const float* b, float* c, int64_t c_stride,
              bool before, const Ending* ending, const Ahead& ahead = {}) {
  if (rows == M) return panel_rows<M, DOWN>(k, a, a_stride, b, c, c_stride, before, ending, ahead);
  if constexpr (M > 1) any_rows<M - 1, DOWN>(rows, k, a, a_stride, b, c, c_stride, before, ending, ahead);
}

// As any_rows, for the last panel, of which only `columns` exist in C.
inline void narrow_panel(int64_t columns, int64_t rows, int64_t k, const float* a, int64_t a_stride, const float* b,
                         float* c, int64_t c_stride, bool before, const Ending* ending) {
  float sums[ROWS * PANEL];
  for (int64_t row = 0; before && row < rows; ++row)
    std::copy_n(c + row * c_stride, columns, sums + row * PANEL);
  any_rows<ROWS>(rows, k, a, a_stride, b, sums, PANEL, before, nullptr);
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t column = 0; column < columns; ++column) {
      float value = sums[row * PANEL + column];
      if (ending && ending->bias) value += ending->bias[column];
      if (ending && ending->residual) value += ending->residual[row * ending->residual_stride + column];
      c[row * c_stride + column] = ending && ending->relu ? std::max(value, 0.f) : value;
    }
}

// Some rows of a panel's columns from `column` on.
inline void multiply_rows(int64_t rows, int64_t n, int64_t column, int64_t k, const float* a, int64_t a_stride,
                          const float* b, float* c, int64_t c_stride, bool before, const Ending* ending,
                          const Ahead& ahead) {
  const int64_t columns = std::min(PANEL, n - column);
  const Ending here = ending ? ending->at(0, column) : Ending{};
  const Ending* finish = ending ? &here : nullptr;
  if (columns == PANEL)
    any_rows<ROWS>(rows, k, a, a_stride, b, c + column, c_stride, before, finish, ahead);
  else
    narrow_panel(columns, rows, k, a, a_stride, b, c + column, c_stride, before, finish);
}

// A block of at most BLOCK rows, of part of k, against all panels, which lie `panel_size` floats apart.
inline void multiply_block(int64_t m, int64_t n, int64_t k, const float* a, int64_t a_stride, const float* b,
                           int64_t panel_size, float* c, int64_t c_stride, bool before, const Ending* ending) {
  // Some panels at a time, which stay in the second cache: a row of C is then written in longer pieces.
  const int64_t groups = (m + ROWS - 1) / ROWS, count = panels(n);
  const int64_t together = std::clamp<int64_t>(WEIGHTS / (k * PANEL), 1, count);
  for (int64_t first = 0; first < count; first += together) {
    Ahead coming = Ahead::over(b + together * panel_size, k * PANEL, groups, k);  // of each panel
    for (int64_t group = 0; group < groups; ++group, coming.next()) {
      const int64_t row = m * group / groups, rows = m * (group + 1) / groups - row;
      const Ending here = ending ? ending->at(row, 0) : Ending{};
      for (int64_t panel = first; panel < std::min(count, first + together); ++panel) {
        Ahead ahead;
        if (panel + together < count) ahead = {coming.from + panel * panel_size, coming.each};
        multiply_rows(rows, n, panel * PANEL, k, a + row * a_stride, a_stride, b + panel * panel_size,
                      c + row * c_stride, c_stride, before, ending ? &here : nullptr, ahead);
      }
    }
  }
}

// C = A B, or C += A B with `before`; with `ending` when the sums are complete. On the calling thread alone.
// B may be k rows of a packed matrix of `packed_rows`, `packed` being at the first of them.
inline void multiply(int64_t m, int64_t n, int64_t k, const float* a, int64_t a_stride, const float* packed,
                     int64_t packed_rows, float* c, int64_t c_stride, bool before, const Ending* ending) {
  // Rows a multiple of 4 KiB apart share few places of the first cache and throw each other out: they are moved.
  const bool move = a_stride % 1024 == 0 && panels(n) > 2;
  constexpr int64_t apart = DEPTH + LANES;
  static thread_local Scratch moved(BLOCK * apart);
  for (int64_t start = 0; start < k; start += DEPTH) {
    const int64_t depth = std::min(DEPTH, k - start);
    in_even_parts(m, BLOCK, [&](int64_t block, int64_t end) {
      const int64_t rows = end - block;
      const float* left = a + block * a_stride + start;
      for (int64_t row = 0; move && row < rows; ++row)
        std::copy_n(left + row * a_stride, depth, moved.data() + row * apart);
      const Ending here = ending ? ending->at(block, 0) : Ending{};
      multiply_block(rows, n, depth, move ? moved.data() : left, move ? apart : a_stride, packed + start * PANEL,
                     packed_rows * PANEL, c + block * c_stride, c_stride, before || start > 0,
                     ending && start + depth == k ? &here : nullptr);
    });
  }
}

inline void multiply(int64_t m, int64_t n, int64_t k, const float* a, int64_t a_stride, const float* packed, float* c,
                     int64_t c_stride, bool before, const Ending* ending) {
  multiply(m, n, k, a, a_stride, packed, k, c, c_stride, before, ending);
}

}  // namespace fastfcn
