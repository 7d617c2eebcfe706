// The transforms of Winograd's convolution with 3 taps, along one axis of a tile.
//
// F(n, 3) makes n results of n + 2 inputs with n + 2 products (Lavin and Gray, "Fast Algorithms for Convolutional
// Neural Networks", 2015). Points 0, 1, -1, 2 and infinity for n = 3, and -2 too for n = 4.
#pragma once

#include "matmul.h"

namespace fastfcn {

constexpr int LONGEST = 6;  // places of an axis

// Inputs -> places (B^T of the paper) and products -> results (A^T). `step`: distance of neighbours along the axis.
template <int RESULTS>
struct Axis;

template <>
struct Axis<3> {
  static constexpr int PLACES = 5;

  static void into(const Vector* from, int step, Vector* to, int to_step) {
    const Vector a = from[0], b = from[step], c = from[2 * step], d = from[3 * step], e = from[4 * step];
    to[0] = 2 * (a - c) - b + d;
    to[to_step] = d - c - 2 * b;
    to[2 * to_step] = d - 3 * c + 2 * b;
    to[3 * to_step] = d - b;
    to[4 * to_step] = 2 * (b - d) - c + e;
  }

  static void back(const Vector* from, int step, Vector* to, int to_step) {
    const Vector a = from[0], b = from[step], c = from[2 * step], d = from[3 * step], e = from[4 * step];
    to[0] = a + b + c + d;
    to[to_step] = b - c + 2 * d;
    to[2 * to_step] = b + c + 4 * d + e;
  }
};

template <>
struct Axis<4> {
  static constexpr int PLACES = 6;

  static void into(const Vector* from, int step, Vector* to, int to_step) {
    const Vector a = from[0], b = from[step], c = from[2 * step], d = from[3 * step], e = from[4 * step],
                 f = from[5 * step];
    const Vector even = e - 4 * c, odd = d - 4 * b, near = e - c, far = 2 * (d - b);
    to[0] = 4 * a - 5 * c + e;
    to[to_step] = even + odd;
    to[2 * to_step] = even - odd;
    to[3 * to_step] = near + far;
    to[4 * to_step] = near - far;
    to[5 * to_step] = 4 * b - 5 * d + f;
  }

  static void back(const Vector* from, int step, Vector* to, int to_step) {
    const Vector a = from[0], b = from[step], c = from[2 * step], d = from[3 * step], e = from[4 * step],
                 f = from[5 * step];
    const Vector sum = b + c, difference = b - c, far_sum = d + e, far_difference = d - e;
    to[0] = a + sum + far_sum;
    to[to_step] = difference + 2 * far_difference;
    to[2 * to_step] = sum + 4 * far_sum;
    to[3 * to_step] = difference + 8 * far_difference + f;
  }
};

}  // namespace fastfcn
