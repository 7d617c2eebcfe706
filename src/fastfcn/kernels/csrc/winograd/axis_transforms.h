// Winograd's convolution with 3 taps, along one axis of a tile: the transforms, from their points.
//
// F(n, 3) makes n results of n + 2 inputs with n + 2 products, one a place (Lavin and Gray, "Fast Algorithms for
// Convolutional Neural Networks", 2015; the construction is Toom's and Cook's: inputs and taps are taken as
// polynomials, known by their values at n + 1 points and their leading coefficient).
#pragma once

#include "winograd/constant_matrix.h"

namespace fastfcn {

constexpr int MOST_RESULTS = 6, MOST_STRIDED = 4;  // of an axis, at stride 1 and at stride 2
constexpr int MOST_PLACES = std::max(MOST_RESULTS + 2, 2 * MOST_STRIDED + 1);

// Those with the smallest rounding errors for maps of positive values, of all with small numerators and denominators.
constexpr double POINTS[MOST_RESULTS + 1][MOST_RESULTS + 1] = {
    {0}, {0, 1}, {0, 1, -1}, {0, 1, -1, -.5}, {0, 1, -1, .5, -2}, {0, 1, -1, .5, -.5, 2}, {0, 1, -1, 2, -2, .5, -.5},
};

// What each place reads of the inputs, of the taps, and gives to the results.
template <int RESULTS, int TAPS>
struct Transforms {
  static constexpr int FIRST = -1, INPUTS = RESULTS + TAPS - 1, PLACES = INPUTS, WEIGHTS = PLACES;
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

// Stride 2: the middle tap meets every other input, alone; the outer two are a convolution with the inputs between. The
// places of the middle tap, one for each result, have the same weights.
template <int RESULTS>
struct Strided {
  static constexpr int FIRST = -1, INPUTS = 2 * RESULTS + 1, PLACES = INPUTS, WEIGHTS = RESULTS + 2;
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
  static constexpr int FIRST = 0, INPUTS = 1, PLACES = 1, WEIGHTS = PLACES;
  Matrix<1, 1> inputs{{{{1}}}};
  Matrix<1, 3> taps{{{{0, 1, 0}}}};
  Matrix<1, 1> results{{{{1}}}};
};
struct Pair {
  static constexpr int FIRST = 0, INPUTS = 2, PLACES = 3, WEIGHTS = PLACES;
  Matrix<3, 2> inputs{{{{1, 1}}, {{0, 1}}, {{1, 0}}}};
  Matrix<3, 3> taps{{{{0, 1, 0}}, {{0, -1, 1}}, {{1, -1, 0}}}};
  Matrix<2, 3> results{{{{1, 1, 0}}, {{1, 0, 1}}}};
};

// The taps of the places that have weights of their own.
template <const auto& FORM>
constexpr auto own_taps() {
  Matrix<std::decay_t<decltype(FORM)>::WEIGHTS, 3> result{};
  std::copy_n(FORM.taps.begin(), result.size(), result.begin());
  return result;
}
template <const auto& FORM>
inline constexpr auto OWN_TAPS = own_taps<FORM>();

// The same for all numbers of results, chosen while running. `first`: the first input, counted from the first result;
// `weights`: the first places, each with weights of its own, while those behind have the last one's.
// `spread` and `gather`, for gradients, are the transposes of `back` and of the transform of the taps.
struct Axis {
  int first, inputs, places, weights, results;
  const float (*taps)[3];
  CombineTaps weigh;
  Combine into, back, spread, gather;

  int weight(int place) const { return std::min(place, weights - 1); }
  // The places that have the weights from `weight` on.
  int place(int weight) const { return weight < weights ? weight : places; }
};

template <const auto& FORM>
inline Axis axis_of() {
  using Form = std::decay_t<decltype(FORM)>;
  return {Form::FIRST,
          Form::INPUTS,
          Form::PLACES,
          Form::WEIGHTS,
          static_cast<int>(FORM.results.size()),
          reinterpret_cast<const float (*)[3]>(FORM.taps.data()),
          combine_taps<OWN_TAPS<FORM>>,
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
inline constexpr Strided<4> STRIDED_FOUR;

// `whole`: the results are all there are between zeros.
inline const Axis& axis(int64_t results, int64_t stride, bool whole) {
  static const Axis alone = axis_of<ALONE>(), pair = axis_of<PAIR>();
  static const Axis open[] = {axis_of<TWO>(), axis_of<THREE>(), axis_of<FOUR>(), axis_of<FIVE>(), axis_of<SIX>()};
  static const Axis strided[] = {axis_of<STRIDED_ONE>(), axis_of<STRIDED_TWO>(), axis_of<STRIDED_THREE>(),
                                 axis_of<STRIDED_FOUR>()};
  if (stride == 2) return strided[results - 1];
  if (whole && results <= 2) return results == 1 ? alone : pair;
  return open[results - 2];
}

}  // namespace fastfcn
