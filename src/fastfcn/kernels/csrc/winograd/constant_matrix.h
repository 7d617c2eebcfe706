// Products of small constant matrices (Winograd transforms) with vectors of channels, unrolled at compile time.
//
// Many of these matrices have pairs of rows or columns that differ only in signs. For such a pair, the part that is
// equal and the part that is opposite are computed once, then their sum and difference: about half of the operations.
#pragma once

#include <array>
#include <utility>

#include "gemm/micro_kernel.h"

namespace fastfcn {

template <size_t ROWS_, size_t COLUMNS_>
using Matrix = std::array<std::array<float, COLUMNS_>, ROWS_>;

template <size_t ROWS_, size_t COLUMNS_>
constexpr auto transposed(const Matrix<ROWS_, COLUMNS_>& matrix) {
  Matrix<COLUMNS_, ROWS_> result{};
  for (size_t row = 0; row < ROWS_; ++row)
    for (size_t column = 0; column < COLUMNS_; ++column) result[column][row] = matrix[row][column];
  return result;
}
template <const auto& MATRIX>
inline constexpr auto TRANSPOSED = transposed(MATRIX);

// Replaces rows that differ only in signs, as those of nodes p and -p do, by half their sum and half their difference,
// which have no common nonzeros. Returns for each row the later row it is paired with, or 0.
template <class Rows>
constexpr auto fold_rows(Rows& rows) {
  std::array<size_t, std::tuple_size_v<Rows>> pairs{};
  std::array<bool, std::tuple_size_v<Rows>> paired{};
  for (size_t row = 0; row < rows.size(); ++row)
    for (size_t other = row + 1; other < rows.size(); ++other) {
      int equal = 0, opposite = 0, different = 0;
      for (size_t column = 0; column < rows[row].size(); ++column) {
        const float one = rows[row][column], two = rows[other][column];
        if (one != 0 || two != 0) ++(one == two ? equal : one == -two ? opposite : different);
      }
      if (different || !equal || !opposite || paired[row] || paired[other]) continue;
      pairs[row] = other, paired[row] = paired[other] = true;
      for (size_t column = 0; column < rows[row].size(); ++column) {
        const float one = rows[row][column], two = rows[other][column];
        rows[row][column] = (one + two) / 2, rows[other][column] = (one - two) / 2;
      }
    }
  return pairs;
}

// A matrix factored into three: sums and differences of column pairs, a sparser matrix, sums and differences of row
// pairs.
template <const auto& MATRIX>
struct Folded {
  static constexpr size_t ROWS_ = MATRIX.size(), COLUMNS_ = MATRIX[0].size();
  Matrix<ROWS_, COLUMNS_> matrix = MATRIX;
  std::array<size_t, COLUMNS_> columns{};
  std::array<size_t, ROWS_> rows{};

  constexpr Folded() {
    auto across = transposed(matrix);
    columns = fold_rows(across);
    matrix = transposed(across);
    rows = fold_rows(matrix);
  }
};
template <const auto& MATRIX>
inline constexpr Folded<MATRIX> FOLDED;

template <size_t ONE, size_t TWO>
inline void add_and_subtract(Vector* values) {
  if constexpr (TWO != 0) {
    const Vector one = values[ONE], two = values[TWO];
    values[ONE] = one + two, values[TWO] = one - two;
  }
}

template <const auto& TRANSFORM, size_t ROW, size_t... COLUMN>
inline Vector row_sum(const Vector* values, std::index_sequence<COLUMN...>) {
  Vector sum{};
  ((TRANSFORM.matrix[ROW][COLUMN] != 0 ? void(sum += TRANSFORM.matrix[ROW][COLUMN] * values[COLUMN]) : void()), ...);
  return sum;
}

// Floats between consecutive elements of a transformed vector, and between consecutive vectors.
struct Strides {
  int64_t element, vector;
};

template <const auto& TRANSFORM, size_t... ROW, size_t... COLUMN>
inline void combine_values(Vector* values, float* to, int64_t to_apart, std::index_sequence<ROW...>,
                           std::index_sequence<COLUMN...> columns) {
  (add_and_subtract<COLUMN, TRANSFORM.columns[COLUMN]>(values), ...);
  Vector sums[] = {row_sum<TRANSFORM, ROW>(values, columns)...};
  (add_and_subtract<ROW, TRANSFORM.rows[ROW]>(sums), ...);
  (store(to + ROW * to_apart, sums[ROW]), ...);
}

// Multiplies MATRIX by `lines` vectors whose elements are SIMD vectors of channels. Two calls transform both axes of a
// tile.
template <const auto& MATRIX>
void combine(const float* from, Strides from_strides, int lines, float* to, Strides to_strides) {
  constexpr size_t COLUMNS_ = MATRIX[0].size();
  for (int line = 0; line < lines; ++line, from += from_strides.vector, to += to_strides.vector) {
    Vector values[COLUMNS_];
    for (size_t column = 0; column < COLUMNS_; ++column) values[column] = load(from + column * from_strides.element);
    combine_values<FOLDED<MATRIX>>(values, to, to_strides.element, std::make_index_sequence<MATRIX.size()>(),
                                   std::make_index_sequence<COLUMNS_>());
  }
}

// The same for the 3x3 taps of a panel, (9, PANEL), along both axes: `down` (lines x 3) vertically, then MATRIX
// horizontally. Whole cache lines are written.
template <const auto& MATRIX>
void combine_taps(const float* taps, const float (*down)[3], int lines, float* to, Strides to_strides) {
  for (int line = 0; line < lines; ++line, to += to_strides.vector)
    for (int64_t lane = 0; lane < PANEL; lane += LANES) {
      const auto tap = [&](int index) { return load(taps + index * PANEL + lane); };
      Vector values[3];
      for (int column = 0; column < 3; ++column)
        values[column] =
            down[line][0] * tap(column) + down[line][1] * tap(3 + column) + down[line][2] * tap(6 + column);
      combine_values<FOLDED<MATRIX>>(values, to + lane, to_strides.element, std::make_index_sequence<MATRIX.size()>(),
                                     std::make_index_sequence<3>());
    }
}
using Combine = void (*)(const float* from, Strides from_strides, int lines, float* to, Strides to_strides);
using CombineTaps = void (*)(const float* taps, const float (*down)[3], int lines, float* to, Strides to_strides);

}  // namespace fastfcn
