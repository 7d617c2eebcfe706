// Matrix product with a packed right side, the core of every convolution here.
//
// C (m x n) = A (m x k) B (k x n), row by row in float32. B is packed into panels of PANEL columns, each k x PANEL
// and contiguous, zeros after the last column, so that the inner loop reads it in order. The loops are those of
// Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication" (2008).
#pragma once

#include "common/cache_sizes.h"
#include "gemm/micro_kernel.h"

namespace fastfcn {

constexpr int64_t WEIGHTS = 1 << 15;  // of panels that meet some rows of A, one after the other
constexpr int64_t BLOCK = 12 * ROWS;  // rows of A at a time

// Of k worked off at a time: a panel's part stays in the second cache.
inline int64_t most_depth() { return large_second_cache() ? 1024 : 512; }

// `work(begin, end)` for parts of `count`, as few as there can be of at most `most`, and about as large as each other:
// a few rows alone take nearly as long as many.
template <class Work>
void in_even_parts(int64_t count, int64_t most, const Work& work) {
  const int64_t parts = (count + most - 1) / most;
  for (int64_t part = 0; part < parts; ++part) work(count * part / parts, count * (part + 1) / parts);
}

// As any_rows, for the last panel, of which only `columns` exist in C.
inline void narrow_panel(int64_t columns, int64_t rows, int64_t k, const float* a, int64_t a_stride, const float* b,
                         float* c, int64_t c_stride, bool before, const Ending* ending) {
  float sums[ROWS * PANEL];
  for (int64_t row = 0; before && row < rows; ++row) std::copy_n(c + row * c_stride, columns, sums + row * PANEL);
  any_rows<ROWS>(rows, k, a, a_stride, b, sums, PANEL, before, nullptr);
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t column = 0; column < columns; ++column) {
      float value = sums[row * PANEL + column];
      if (ending && ending->bias) value += ending->bias[column];
      if (ending && ending->residual) value += ending->residual[row * ending->residual_stride + column];
      c[row * c_stride + column] = ending && ending->relu ? std::max(value, 0.f) : value;
    }
}

// A block of at most BLOCK rows, of part of k, against all panels, which lie `panel_size` floats apart.
inline void multiply_block(int64_t m, int64_t n, int64_t k, const float* a, int64_t a_stride, const float* b,
                           int64_t panel_size, float* c, int64_t c_stride, bool before, const Ending* ending) {
  // Some panels at a time, which stay in the second cache: a row of C is then written in longer pieces.
  const int64_t groups = (m + ROWS - 1) / ROWS, count = panels(n);
  const int64_t together = std::clamp<int64_t>(WEIGHTS / (k * PANEL), 1, count);
  for (int64_t first = 0; first < count; first += together, b += together * panel_size) {
    const int64_t here = std::min(count - first, together), whole = std::min(n / PANEL - first, here);
    Right right{b, panel_size, whole, Ahead::over(b + together * panel_size, k * PANEL, groups, k),
                count - first - together};
    for (int64_t group = 0; group < groups; ++group, right.coming.next()) {
      const int64_t row = m * group / groups, rows = m * (group + 1) / groups - row, column = first * PANEL;
      const Ending finish = ending ? ending->at(row, column) : Ending{};
      const float* left = a + row * a_stride;
      float* to = c + row * c_stride + column;
      any_rows_of_panels(rows, right, k, left, a_stride, to, c_stride, before, ending ? &finish : nullptr);
      if (whole == here) continue;
      const Ending narrow = finish.at(0, whole * PANEL);
      narrow_panel(n % PANEL, rows, k, left, a_stride, b + whole * panel_size, to + whole * PANEL, c_stride, before,
                   ending ? &narrow : nullptr);
    }
  }
}

// C = A B, or C += A B with `before`; with `ending` when the sums are complete. On the calling thread alone.
// B may be k rows of a packed matrix of `packed_rows`, `packed` being at the first of them.
inline void multiply(int64_t m, int64_t n, int64_t k, const float* a, int64_t a_stride, const float* packed,
                     int64_t packed_rows, float* c, int64_t c_stride, bool before, const Ending* ending) {
  // Rows a multiple of 4 KiB apart share few places of the first cache and throw each other out: they are moved, unless
  // they stay near, in a large second cache.
  const bool move = a_stride % 1024 == 0 && panels(n) > 2 && !large_second_cache();
  const int64_t most = most_depth(), apart = most + LANES;
  static thread_local Scratch moved(BLOCK * apart);
  for (int64_t start = 0; start < k; start += most) {
    const int64_t depth = std::min(most, k - start);
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
