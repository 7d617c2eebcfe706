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

template <int ROWS_, int COLUMNS_>
using Matrix = std::array<std::array<float, COLUMNS_>, ROWS_>;

// Those with the smallest rounding errors for maps of positive values, of all with small numerators and denominators.
constexpr double POINTS[MOST_RESULTS + 1][MOST_RESULTS + 1] = {
    {}, {}, {0, 1, -1}, {0, 1, -1, -.5}, {0, 1, -1, .5, -2}, {0, 1, -1, .5, -.5, 2}, {0, 1, -1, 2, -2, .5, -.5},
};

// What each place reads of the inputs, of the taps, and gives to the results.
template <int RESULTS>
struct Transforms {
  static constexpr int FIRST = -1, INPUTS = RESULTS + 2, PLACES = RESULTS + 2;
  Matrix<PLACES, INPUTS> inputs{};
  Matrix<PLACES, 3> taps{};
  Matrix<RESULTS, PLACES> results{};

  constexpr Transforms() {
    for (int place = 0; place < PLACES; ++place) {
      const bool finite = place <= RESULTS;
      const double point = finite ? POINTS[RESULTS][place] : 0;
      double polynomial[PLACES] = {1}, scale = 1;  // the product of (x - other) over all other points
      int degree = 0;
      for (int other = 0; other <= RESULTS; ++other) {
        if (other == place) continue;
        const double root = POINTS[RESULTS][other];
        for (int power = ++degree; power >= 0; --power)
          polynomial[power] = (power ? polynomial[power - 1] : 0) - root * polynomial[power];
        if (finite) scale *= point - root;
      }
      for (int power = 0; power < INPUTS; ++power) inputs[place][power] = static_cast<float>(polynomial[power]);
      double value = 1;
      for (int power = 0; power < std::max(RESULTS, 3); ++power, value *= point) {
        if (power < 3) taps[place][power] = static_cast<float>(finite ? value / scale : power == 2);
        if (power < RESULTS) results[power][place] = static_cast<float>(finite ? value : power == RESULTS - 1);
      }
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

template <const auto& MATRIX, size_t ROW, size_t... COLUMN>
inline Vector combined(const Vector* from, int64_t stride, std::index_sequence<COLUMN...>) {
  Vector sum{};
  ((MATRIX[ROW][COLUMN] != 0 ? void(sum += MATRIX[ROW][COLUMN] * from[COLUMN * stride]) : void()), ...);
  return sum;
}

template <const auto& MATRIX, size_t... ROW>
inline void combine_line(const Vector* from, int64_t stride, Vector* to, std::index_sequence<ROW...>) {
  ((to[ROW] = combined<MATRIX, ROW>(from, stride, std::make_index_sequence<std::tuple_size_v<std::decay_t<decltype(MATRIX[0])>>>())), ...);
}

template <const auto& MATRIX>
constexpr auto transposed() {
  Matrix<std::tuple_size_v<std::decay_t<decltype(MATRIX[0])>>, std::tuple_size_v<std::decay_t<decltype(MATRIX)>>> result{};
  for (size_t row = 0; row < MATRIX.size(); ++row)
    for (size_t column = 0; column < MATRIX[row].size(); ++column) result[column][row] = MATRIX[row][column];
  return result;
}
template <const auto& MATRIX>
inline constexpr auto TRANSPOSED = transposed<MATRIX>();

// `from`: (columns of MATRIX, lines) -> `to`: (lines, rows of MATRIX). Two of them, one after the other, transform
// both axes of a tile.
template <const auto& MATRIX>
void combine(const Vector* from, int lines, Vector* to) {
  constexpr size_t rows = std::tuple_size_v<std::decay_t<decltype(MATRIX)>>;
  for (int line = 0; line < lines; ++line)
    combine_line<MATRIX>(from + line, lines, to + line * rows, std::make_index_sequence<rows>());
}

// The same for all numbers of results, chosen while running. `first`: the first input, counted from the first result.
// `spread` and `gather`, for gradients, are the transposes of `back` and of the transform of the taps.
struct Axis {
  int first, inputs, places, results;
  const float (*taps)[3];
  void (*into)(const Vector* from, int lines, Vector* to);
  void (*back)(const Vector* from, int lines, Vector* to);
  void (*spread)(const Vector* from, int lines, Vector* to);
  void (*gather)(const Vector* from, int lines, Vector* to);
};

template <const auto& FORM>
inline Axis axis_of() {
  using Form = std::decay_t<decltype(FORM)>;
  return {Form::FIRST,
          Form::INPUTS,
          Form::PLACES,
          static_cast<int>(FORM.results.size()),
          reinterpret_cast<const float(*)[3]>(FORM.taps.data()),
          combine<FORM.inputs>,
          combine<FORM.results>,
          combine<TRANSPOSED<FORM.results>>,
          combine<TRANSPOSED<FORM.taps>>};
}

inline constexpr Alone ALONE;
inline constexpr Pair PAIR;
inline constexpr Transforms<2> TWO;
inline constexpr Transforms<3> THREE;
inline constexpr Transforms<4> FOUR;
inline constexpr Transforms<5> FIVE;
inline constexpr Transforms<6> SIX;

// `whole`: the results are all there are between zeros.
inline const Axis& axis(int64_t results, bool whole) {
  static const Axis alone = axis_of<ALONE>(), pair = axis_of<PAIR>();
  static const Axis open[] = {axis_of<TWO>(), axis_of<THREE>(), axis_of<FOUR>(), axis_of<FIVE>(), axis_of<SIX>()};
  if (whole && results <= 2) return results == 1 ? alone : pair;
  return open[results - 2];
}

}  // namespace fastfcn
