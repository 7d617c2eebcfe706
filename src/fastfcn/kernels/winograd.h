// Winograd's convolution with 3 taps, along one axis of a tile: the transforms, from their points.
//
// F(n, 3) makes n results of n + 2 inputs with n + 2 products, one a place (Lavin and Gray, "Fast Algorithms for
// Convolutional Neural Networks", 2015; the construction is Toom's and Cook's: inputs and taps are taken as
// polynomials, known by their values at n + 1 points and their leading coefficient).
#pragma once

#include <array>
#include <utility>

#include "matmul.h"

namespace fastfcn {

constexpr int MOST_RESULTS = 6, MOST_PLACES = MOST_RESULTS + 2;  // of an axis
constexpr int MOST_STRIDED = 3;                                   // results at stride 2

template <int ROWS_, int COLUMNS_>
using Matrix = std::array<std::array<float, COLUMNS_>, ROWS_>;

// Those with the smallest rounding errors for maps of positive values, of all with small numerators and denominators.
constexpr double POINTS[MOST_RESULTS + 1][MOST_RESULTS + 1] = {
    {0}, {0, 1}, {0, 1, -1}, {0, 1, -1, -.5}, {0, 1, -1, .5, -2}, {0, 1, -1, .5, -.5, 2}, {0, 1, -1, 2, -2, .5, -.5},
};

// What each place reads of the inputs, of the taps, and gives to the results.
template <int RESULTS, int TAPS>
struct Transforms {
  static constexpr int FIRST = -1, INPUTS = RESULTS + TAPS - 1, PLACES = INPUTS;
  Matrix<PLACES, INPUTS> inputs{};
  Matrix<PLACES, TAPS> taps{};
  Matrix<RESULTS, PLACES> results{};

  constexpr Transforms() {
    constexpr auto& points = POINTS[PLACES - 2];
    for (int place = 0; place < PLACES; ++place) {
      const bool finite = place < PLACES - 1;
      const double point = finite ? points[place] : 0;
      double polynomial[PLACES] = {1}, scale = 1;  // the product of (x - other) over all other points
      int degree = 0;
      for (int other = 0; other < PLACES - 1; ++other) {
        if (other == place) continue;
        const double root = points[other];
        for (int power = ++degree; power >= 0; --power)
          polynomial[power] = (power ? polynomial[power - 1] : 0) - root * polynomial[power];
        if (finite) scale *= point - root;
      }
      for (int power = 0; power < INPUTS; ++power) inputs[place][power] = static_cast<float>(polynomial[power]);
      double value = 1;
      for (int power = 0; power < std::max(RESULTS, TAPS); ++power, value *= point) {
        if (power < TAPS) taps[place][power] = static_cast<float>(finite ? value / scale : power == TAPS - 1);
        if (power < RESULTS) results[power][place] = static_cast<float>(finite ? value : power == RESULTS - 1);
      }
    }
  }
};

// Stride 2: the middle tap meets every other input, alone; the outer two are a convolution with the inputs between.
template <int RESULTS>
struct Strided {
  static constexpr int FIRST = -1, INPUTS = 2 * RESULTS + 1, PLACES = INPUTS;
  Matrix<PLACES, INPUTS> inputs{};
  Matrix<PLACES, 3> taps{};
  Matrix<RESULTS, PLACES> results{};

  constexpr Strided() {
    constexpr Transforms<RESULTS, 2> outer;
    for (int place = 0; place <= RESULTS; ++place) {
      for (int input = 0; input <= RESULTS; ++input) inputs[place][2 * input] = outer.inputs[place][input];
      for (int tap = 0; tap < 2; ++tap) taps[place][2 * tap] = outer.taps[place][tap];
      for (int result = 0; result < RESULTS; ++result) results[result][place] = outer.results[result][place];
    }
    for (int result = 0; result < RESULTS; ++result) {
      const int place = RESULTS + 1 + result;
      inputs[place][2 * result + 1] = taps[place][1] = results[result][place] = 1;
    }
  }
};

// One result where only zeros stand beside its input, and two where only zeros stand beside theirs (Karatsuba's).
struct Alone {
  static constexpr int FIRST = 0, INPUTS = 1, PLACES = 1;
  Matrix<1, 1> inputs{{{{1}}}};
  Matrix<1, 3> taps{{{{0, 1, 0}}}};
  Matrix<1, 1> results{{{{1}}}};
};
struct Pair {
  static constexpr int FIRST = 0, INPUTS = 2, PLACES = 3;
  Matrix<3, 2> inputs{{{{1, 1}}, {{0, 1}}, {{1, 0}}}};
  Matrix<3, 3> taps{{{{0, 1, 0}}, {{0, -1, 1}}, {{1, -1, 0}}}};
  Matrix<2, 3> results{{{{1, 1, 0}}, {{1, 0, 1}}}};
};

template <size_t ROWS_, size_t COLUMNS_>
constexpr auto transposed(const std::array<std::array<float, COLUMNS_>, ROWS_>& matrix) {
  std::array<std::array<float, ROWS_>, COLUMNS_> result{};
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

// A matrix as three: sums and differences of pairs of columns, one with about half of the numbers, and the same of rows.
template <const auto& MATRIX>
struct Folded {
  static constexpr size_t ROWS_ = MATRIX.size(), COLUMNS_ = MATRIX[0].size();
  std::array<std::array<float, COLUMNS_>, ROWS_> matrix = MATRIX;
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
inline void combine_line(const float* from, int64_t from_apart, float* to, int64_t to_apart,
                         std::index_sequence<ROW...>, std::index_sequence<COLUMN...> columns) {
  Vector values[] = {load(from + COLUMN * from_apart)...};
  (add_and_subtract<COLUMN, FORM.columns[COLUMN]>(values), ...);
  Vector sums[] = {row_sum<FORM, ROW>(values, columns)...};
  (add_and_subtract<ROW, FORM.rows[ROW]>(sums), ...);
  (store(to + ROW * to_apart, sums[ROW]), ...);
}

// MATRIX times each of the lines, a vector of channels at a time. Two of them, one after the other, transform both axes
// of a tile.
template <const auto& MATRIX>
void combine(const float* from, Steps from_steps, int lines, float* to, Steps to_steps) {
  for (int line = 0; line < lines; ++line, from += from_steps.line, to += to_steps.line)
    combine_line<FOLDED<MATRIX>>(from, from_steps.value, to, to_steps.value,
                                 std::make_index_sequence<MATRIX.size()>(),
                                 std::make_index_sequence<MATRIX[0].size()>());
}
using Combine = void (*)(const float* from, Steps from_steps, int lines, float* to, Steps to_steps);

// The same for all numbers of results, chosen while running. `first`: the first input, counted from the first result.
// `spread` and `gather`, for gradients, are the transposes of `back` and of the transform of the taps.
struct Axis {
  int first, inputs, places, results;
  const float (*taps)[3];
  Combine weigh, into, back, spread, gather;
};

template <const auto& FORM>
inline Axis axis_of() {
  using Form = std::decay_t<decltype(FORM)>;
  return {Form::FIRST,
          Form::INPUTS,
          Form::PLACES,
          static_cast<int>(FORM.results.size()),
          reinterpret_cast<const float(*)[3]>(FORM.taps.data()),
          combine<FORM.taps>,
          combine<FORM.inputs>,
          combine<FORM.results>,
          combine<TRANSPOSED<FORM.results>>,
          combine<TRANSPOSED<FORM.taps>>};
}

inline constexpr Alone ALONE;
inline constexpr Pair PAIR;
inline constexpr Transforms<2, 3> TWO;
inline constexpr Transforms<3, 3> THREE;
inline constexpr Transforms<4, 3> FOUR;
inline constexpr Transforms<5, 3> FIVE;
inline constexpr Transforms<6, 3> SIX;
inline constexpr Strided<1> STRIDED_ONE;
inline constexpr Strided<2> STRIDED_TWO;
inline constexpr Strided<3> STRIDED_THREE;

// `whole`: the results are all there are between zeros.
inline const Axis& axis(int64_t results, int64_t stride, bool whole) {
  static const Axis alone = axis_of<ALONE>(), pair = axis_of<PAIR>();
  static const Axis open[] = {axis_of<TWO>(), axis_of<THREE>(), axis_of<FOUR>(), axis_of<FIVE>(), axis_of<SIX>()};
  static const Axis strided[] = {axis_of<STRIDED_ONE>(), axis_of<STRIDED_TWO>(), axis_of<STRIDED_THREE>()};
  if (stride == 2) return strided[results - 1];
  if (whole && results <= 2) return results == 1 ? alone : pair;
  return open[results - 2];
}

}  // namespace fastfcn
