// Small matrices that are known when the kernels are built, times vectors of channels.
//
// Many have rows (or columns) that differ in signs alone. The sums of two such rows are made together: what is equal
// in both, what is opposite, and the sum and the difference of the two, in about half of the operations.
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

// Rows that differ in signs alone, as those of points p and -p, become half of their sum and half of their difference,
// which share no numbers. Returns for each row the later one that it is paired with, or 0.
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

// A matrix as three: sums and differences of pairs of columns, one with half of the numbers, and the same of rows.
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

template <const auto& FORM, size_t ROW, size_t... COLUMN>
inline Vector row_sum(const Vector* values, std::index_sequence<COLUMN...>) {
  Vector sum{};
  ((FORM.matrix[ROW][COLUMN] != 0 ? void(sum += FORM.matrix[ROW][COLUMN] * values[COLUMN]) : void()), ...);
  return sum;
}

// Floats from one value of a line to the next, and from line to line.
struct Steps {
  int64_t value, line;
};

template <const auto& FORM, size_t... ROW, size_t... COLUMN>
inline void combine_values(Vector* values, float* to, int64_t to_apart, std::index_sequence<ROW...>,
                           std::index_sequence<COLUMN...> columns) {
  (add_and_subtract<COLUMN, FORM.columns[COLUMN]>(values), ...);
  Vector sums[] = {row_sum<FORM, ROW>(values, columns)...};
  (add_and_subtract<ROW, FORM.rows[ROW]>(sums), ...);
  (store(to + ROW * to_apart, sums[ROW]), ...);
}

// MATRIX times each of the lines, a vector of channels at a time. Two of them, one after the other, transform both axes
// of a tile.
template <const auto& MATRIX>
void combine(const float* from, Steps from_steps, int lines, float* to, Steps to_steps) {
  constexpr size_t COLUMNS_ = MATRIX[0].size();
  for (int line = 0; line < lines; ++line, from += from_steps.line, to += to_steps.line) {
    Vector values[COLUMNS_];
    for (size_t column = 0; column < COLUMNS_; ++column) values[column] = load(from + column * from_steps.value);
    combine_values<FOLDED<MATRIX>>(values, to, to_steps.value, std::make_index_sequence<MATRIX.size()>(),
                                   std::make_index_sequence<COLUMNS_>());
  }
}

// The same for 3x3 `taps` of a panel, (9, PANEL), both axes at once: `down` times them, line by line, and MATRIX times
// each of the lines. A line of the cache is written as a whole.
template <const auto& MATRIX>
void combine_taps(const float* taps, const float (*down)[3], int lines, float* to, Steps to_steps) {
  for (int line = 0; line < lines; ++line, to += to_steps.line)
    for (int64_t lane = 0; lane < PANEL; lane += LANES) {
      const auto tap = [&](int index) { return load(taps + index * PANEL + lane); };
      Vector values[3];
      for (int column = 0; column < 3; ++column)
        values[column] =
            down[line][0] * tap(column) + down[line][1] * tap(3 + column) + down[line][2] * tap(6 + column);
      combine_values<FOLDED<MATRIX>>(values, to + lane, to_steps.value, std::make_index_sequence<MATRIX.size()>(),
                                     std::make_index_sequence<3>());
    }
}
using Combine = void (*)(const float* from, Steps from_steps, int lines, float* to, Steps to_steps);
using CombineTaps = void (*)(const float* taps, const float (*down)[3], int lines, float* to, Steps to_steps);

}  // namespace fastfcn
