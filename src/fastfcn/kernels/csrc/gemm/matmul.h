// Blocked matrix product C = A B in float32; B is packed. Used by 1x1 convolutions, JPU and the Encoding layer.
//
// A is m x k, B is k x n, C is m x n; A and C are row-major with row strides. B is packed into panels of PANEL columns,
// each contiguous (k x PANEL) and zero-padded after the last column. The loops follow Goto and van de Geijn, "Anatomy
// of High-Performance Matrix Multiplication" (2008).
#pragma once

#include "common/cache_sizes.h"
#include "gemm/micro_kernel.h"

namespace fastfcn {

constexpr int64_t GROUP_FLOATS = 1 << 15;      // size of a group of panels
constexpr int64_t MAX_BLOCK_ROWS = 12 * ROWS;  // rows of A in a block

// Largest part of k processed at once: a panel's part stays in L2.
inline int64_t max_depth() { return has_large_l2() ? 1024 : 512; }

// Calls `work(begin, end)` for the fewest parts of at most `max_size`, of nearly equal size: a short last part would
// take nearly as long as a full one.
template <class Work>
void for_even_parts(int64_t count, int64_t max_size, const Work& work) {
  const int64_t parts = (count + max_size - 1) / max_size;
  for (int64_t part = 0; part < parts; ++part) work(count * part / parts, count * (part + 1) / parts);
}

// multiply_any_rows for the last panel, if only `columns` of its PANEL columns exist in C.
inline void multiply_last_panel(int64_t columns, int64_t rows, int64_t k, const float* a, int64_t a_stride,
                                const float* b, float* c, int64_t c_stride, bool accumulate, const Epilogue* epilogue) {
  float sums[ROWS * PANEL];
  for (int64_t row = 0; accumulate && row < rows; ++row) std::copy_n(c + row * c_stride, columns, sums + row * PANEL);
  multiply_any_rows<ROWS>(rows, k, a, a_stride, b, sums, accumulate);
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t column = 0; column < columns; ++column) {
      float value = sums[row * PANEL + column];
      if (epilogue && epilogue->bias) value += epilogue->bias[column];
      if (epilogue && epilogue->residual) value += epilogue->residual[row * epilogue->residual_stride + column];
      c[row * c_stride + column] = epilogue && epilogue->relu ? std::max(value, 0.f) : value;
    }
}

// Multiplies at most MAX_BLOCK_ROWS rows, over part of k, by all panels, which are `panel_size` floats apart.
inline void multiply_block(int64_t m, int64_t n, int64_t k, const float* a, int64_t a_stride, const float* b,
                           int64_t panel_size, float* c, int64_t c_stride, bool accumulate, const Epilogue* epilogue) {
  // Groups of panels that stay in L2: longer contiguous stretches of each row of C are written at a time.
  const int64_t groups = (m + ROWS - 1) / ROWS, count = panel_count(n);
  const int64_t group_panels = std::clamp<int64_t>(GROUP_FLOATS / (k * PANEL), 1, count);
  for (int64_t first = 0; first < count; first += group_panels, b += group_panels * panel_size) {
    const int64_t here = std::min(count - first, group_panels), whole = std::min(n / PANEL - first, here);
    PanelGroup right{b, panel_size, whole, Prefetch::over(b + group_panels * panel_size, k * PANEL, groups, k),
                     count - first - group_panels};
    for (int64_t group = 0; group < groups; ++group, right.upcoming.advance()) {
      const int64_t row = m * group / groups, rows = m * (group + 1) / groups - row, column = first * PANEL;
      const Epilogue finish = epilogue ? epilogue->at(row, column) : Epilogue{};
      const float* left = a + row * a_stride;
      float* to = c + row * c_stride + column;
      multiply_any_rows_by_panels(rows, right, k, left, a_stride, to, c_stride, accumulate,
                                  epilogue ? &finish : nullptr);
      if (whole == here) continue;
      const Epilogue narrow = finish.at(0, whole * PANEL);
      multiply_last_panel(n % PANEL, rows, k, left, a_stride, b + whole * panel_size, to + whole * PANEL, c_stride,
                          accumulate, epilogue ? &narrow : nullptr);
    }
  }
}

// C = A B, or C += A B with `accumulate`; `epilogue` is applied to the complete sums. Runs on the calling thread. B may
// be k rows of a larger packed matrix of `packed_rows` rows; `packed` then points to the first of them.
inline void multiply(int64_t m, int64_t n, int64_t k, const float* a, int64_t a_stride, const float* packed,
                     int64_t packed_rows, float* c, int64_t c_stride, bool accumulate, const Epilogue* epilogue) {
  // Rows whose stride is a multiple of 4 KiB map to few L1 sets and evict each other. They are copied, unless L2 is
  // large enough to keep them close.
  const bool move = a_stride % 1024 == 0 && panel_count(n) > 2 && !has_large_l2();
  const int64_t part_depth = max_depth(), moved_stride = part_depth + LANES;
  static thread_local Scratch moved(MAX_BLOCK_ROWS * moved_stride);
  for (int64_t start = 0; start < k; start += part_depth) {
    const int64_t depth = std::min(part_depth, k - start);
    for_even_parts(m, MAX_BLOCK_ROWS, [&](int64_t block, int64_t end) {
      const int64_t rows = end - block;
      const float* left = a + block * a_stride + start;
      for (int64_t row = 0; move && row < rows; ++row)
        std::copy_n(left + row * a_stride, depth, moved.data() + row * moved_stride);
      const Epilogue here = epilogue ? epilogue->at(block, 0) : Epilogue{};
      multiply_block(rows, n, depth, move ? moved.data() : left, move ? moved_stride : a_stride, packed + start * PANEL,
                     packed_rows * PANEL, c + block * c_stride, c_stride, accumulate || start > 0,
                     epilogue && start + depth == k ? &here : nullptr);
    });
  }
}

inline void multiply(int64_t m, int64_t n, int64_t k, const float* a, int64_t a_stride, const float* packed, float* c,
                     int64_t c_stride, bool accumulate, const Epilogue* epilogue) {
  multiply(m, n, k, a, a_stride, packed, k, c, c_stride, accumulate, epilogue);
}

}  // namespace fastfcn
