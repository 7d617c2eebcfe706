// Winograd transforms along one axis of a tile, for 3 taps, constructed from interpolation nodes.
//
// F(n, 3) computes n results from n + 2 inputs with n + 2 products, one for each "point" (Lavin and Gray, "Fast
// Algorithms for Convolutional Neural Networks", 2015). The construction is Toom and Cook's: inputs and taps are
// polynomials, represented by their values at n + 1 nodes and their leading coefficient.
#pragma once

#include "winograd/constant_matrix.h"

namespace fastfcn {

constexpr int MAX_RESULTS = 6, MAX_STRIDED_RESULTS = 4;  // along an axis, at strides 1 and 2
constexpr int MAX_POINTS = std::max(MAX_RESULTS + 2, 2 * MAX_STRIDED_RESULTS + 1);

// Nodes with the smallest rounding error for non-negative maps, searched among small numerators and denominators.
constexpr double NODES[MAX_RESULTS + 1][MAX_RESULTS + 1] = {
    {0}, {0, 1}, {0, 1, -1}, {0, 1, -1, -.5}, {0, 1, -1, .5, -2}, {0, 1, -1, .5, -.5, 2}, {0, 1, -1, 2, -2, .5, -.5},
};

// Matrices from inputs and taps to points, and from points to results.
template <int RESULTS, int TAPS>
struct Transforms {
  static constexpr int FIRST = -1, INPUTS = RESULTS + TAPS - 1, POINTS = INPUTS, WEIGHTS = POINTS;
  Matrix<POINTS, INPUTS> inputs{};
  Matrix<POINTS, TAPS> taps{};
  Matrix<RESULTS, POINTS> results{};

  constexpr Transforms() {
    constexpr auto& nodes = NODES[POINTS - 2];
    for (int point = 0; point < POINTS; ++point) {
      const bool finite = point < POINTS - 1;
      const double node = finite ? nodes[point] : 0;
      double polynomial[POINTS] = {1}, scale = 1;  // the product of (x - other) over all other nodes
      int degree = 0;
      for (int other = 0; other < POINTS - 1; ++other) {
        if (other == point) continue;
        const double root = nodes[other];
        for (int power = ++degree; power >= 0; --power)
          polynomial[power] = (power ? polynomial[power - 1] : 0) - root * polynomial[power];
        if (finite) scale *= node - root;
      }
      for (int power = 0; power < INPUTS; ++power) inputs[point][power] = static_cast<float>(polynomial[power]);
      double value = 1;
      for (int power = 0; power < std::max(RESULTS, TAPS); ++power, value *= node) {
        if (power < TAPS) taps[point][power] = static_cast<float>(finite ? value / scale : power == TAPS - 1);
        if (power < RESULTS) results[power][point] = static_cast<float>(finite ? value : power == RESULTS - 1);
      }
    }
  }
};

// Stride 2: the middle tap reads every other input; the outer two taps are a stride-1 convolution of the inputs in
// between. The points of the middle tap, one per result, share one weight.
template <int RESULTS>
struct Strided {
  static constexpr int FIRST = -1, INPUTS = 2 * RESULTS + 1, POINTS = INPUTS, WEIGHTS = RESULTS + 2;
  Matrix<POINTS, INPUTS> inputs{};
  Matrix<POINTS, 3> taps{};
  Matrix<RESULTS, POINTS> results{};

  constexpr Strided() {
    constexpr Transforms<RESULTS, 2> outer;
    for (int point = 0; point <= RESULTS; ++point) {
      for (int input = 0; input <= RESULTS; ++input) inputs[point][2 * input] = outer.inputs[point][input];
      for (int tap = 0; tap < 2; ++tap) taps[point][2 * tap] = outer.taps[point][tap];
      for (int result = 0; result < RESULTS; ++result) results[result][point] = outer.results[result][point];
    }
    for (int result = 0; result < RESULTS; ++result) {
      const int point = RESULTS + 1 + result;
      inputs[point][2 * result + 1] = taps[point][1] = results[result][point] = 1;
    }
  }
};

// Maps of one or two pixels along the axis, where the outer taps read only padding (two results: Karatsuba).
struct SingleResult {
  static constexpr int FIRST = 0, INPUTS = 1, POINTS = 1, WEIGHTS = POINTS;
  Matrix<1, 1> inputs{{{{1}}}};
  Matrix<1, 3> taps{{{{0, 1, 0}}}};
  Matrix<1, 1> results{{{{1}}}};
};
struct ResultPair {
  static constexpr int FIRST = 0, INPUTS = 2, POINTS = 3, WEIGHTS = POINTS;
  Matrix<3, 2> inputs{{{{1, 1}}, {{0, 1}}, {{1, 0}}}};
  Matrix<3, 3> taps{{{{0, 1, 0}}, {{0, -1, 1}}, {{1, -1, 0}}}};
  Matrix<2, 3> results{{{{1, 1, 0}}, {{1, 0, 1}}}};
};

// The taps of the points that have distinct weights.
template <const auto& TRANSFORM>
constexpr auto distinct_taps() {
  Matrix<std::decay_t<decltype(TRANSFORM)>::WEIGHTS, 3> result{};
  std::copy_n(TRANSFORM.taps.begin(), result.size(), result.begin());
  return result;
}
template <const auto& TRANSFORM>
inline constexpr auto DISTINCT_TAPS = distinct_taps<TRANSFORM>();

// The transforms of any tile length, selected at run time. `first`: first input, relative to the first result;
// `weights`: number of distinct weights (points after these share the last one). results_to_points and points_to_taps
// are transposes, for the weight gradient.
struct AxisTransform {
  int first, inputs, points, weights, results;
  const float (*taps)[3];
  CombineTaps taps_to_points;
  Combine inputs_to_points, points_to_results, results_to_points, points_to_taps;

  int weight(int point) const { return std::min(point, weights - 1); }
  // The first point that uses `weight`, or the number of points after the last weight.
  int point(int weight) const { return weight < weights ? weight : points; }
};

template <const auto& TRANSFORM>
inline AxisTransform make_axis_transform() {
  using Type = std::decay_t<decltype(TRANSFORM)>;
  return {Type::FIRST,
          Type::INPUTS,
          Type::POINTS,
          Type::WEIGHTS,
          static_cast<int>(TRANSFORM.results.size()),
          reinterpret_cast<const float (*)[3]>(TRANSFORM.taps.data()),
          combine_taps<DISTINCT_TAPS<TRANSFORM>>,
          combine<TRANSFORM.inputs>,
          combine<TRANSFORM.results>,
          combine<TRANSPOSED<TRANSFORM.results>>,
          combine<TRANSPOSED<TRANSFORM.taps>>};
}

inline constexpr SingleResult SINGLE_RESULT;
inline constexpr ResultPair RESULT_PAIR;
inline constexpr Transforms<2, 3> TWO;
inline constexpr Transforms<3, 3> THREE;
inline constexpr Transforms<4, 3> FOUR;
inline constexpr Transforms<5, 3> FIVE;
inline constexpr Transforms<6, 3> SIX;
inline constexpr Strided<1> STRIDED_ONE;
inline constexpr Strided<2> STRIDED_TWO;
inline constexpr Strided<3> STRIDED_THREE;
inline constexpr Strided<4> STRIDED_FOUR;

// `whole`: the results cover the whole axis, with padding on both sides.
inline const AxisTransform& axis_transform(int64_t results, int64_t stride, bool whole) {
  static const AxisTransform single = make_axis_transform<SINGLE_RESULT>(), pair = make_axis_transform<RESULT_PAIR>();
  static const AxisTransform inner[] = {make_axis_transform<TWO>(), make_axis_transform<THREE>(),
                                        make_axis_transform<FOUR>(), make_axis_transform<FIVE>(),
                                        make_axis_transform<SIX>()};
  static const AxisTransform strided[] = {make_axis_transform<STRIDED_ONE>(), make_axis_transform<STRIDED_TWO>(),
                                          make_axis_transform<STRIDED_THREE>(), make_axis_transform<STRIDED_FOUR>()};
  if (stride == 2) return strided[results - 1];
  if (whole && results <= 2) return results == 1 ? single : pair;
  return inner[results - 2];
}

}  // namespace fastfcn
