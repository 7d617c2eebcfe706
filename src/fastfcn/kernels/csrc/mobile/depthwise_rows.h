// Rows of a depthwise convolution of LANES channels, with bias and ReLU with an upper limit.
#pragma once

#include "common/vector.h"

namespace fastfcn {

constexpr int COLUMNS_AT_ONCE = 8;  // results whose inputs are loaded once

// `rows`: the K input rows, LANES floats per pixel, padded; `taps`: (K * K, LANES).
struct DepthwiseRow {
  const float* const* rows;
  const float *taps, *bias;
  float limit;
  float* to;
  int64_t to_stride;  // between pixels of the result
};

// N results from column x.
template <int K, int S, int N>
void depthwise_columns(const DepthwiseRow& row, int64_t x) {
  Vector sums[N];
  const Vector bias = load(row.bias);
#pragma GCC unroll 8
  for (int column = 0; column < N; ++column) sums[column] = bias;
#pragma GCC unroll 7
  for (int y = 0; y < K; ++y) {
    const float* from = row.rows[y] + x * S * LANES;
    Vector taps[K];
#pragma GCC unroll 7
    for (int tap = 0; tap < K; ++tap) taps[tap] = load(row.taps + (y * K + tap) * LANES);
#pragma GCC unroll 32
    for (int at = 0; at < (N - 1) * S + K; ++at) {
      const Vector value = load(from + at * LANES);
#pragma GCC unroll 7
      for (int tap = 0; tap < K; ++tap)
        if (at >= tap && (at - tap) % S == 0 && (at - tap) / S < N) sums[(at - tap) / S] += taps[tap] * value;
    }
  }
  float* to = row.to + x * row.to_stride;
#pragma GCC unroll 8
  for (int column = 0; column < N; ++column)
    store(to + column * row.to_stride, at_most(positive(sums[column]), row.limit));
}

template <int K, int S, int N = COLUMNS_AT_ONCE>
void depthwise_any_columns(int64_t count, const DepthwiseRow& row, int64_t x) {
  if (count == N) return depthwise_columns<K, S, N>(row, x);
  if constexpr (N > 1) depthwise_any_columns<K, S, N - 1>(count, row, x);
}

template <int K, int S>
void depthwise_row(const DepthwiseRow& row, int64_t columns) {
  const int64_t parts = (columns + COLUMNS_AT_ONCE - 1) / COLUMNS_AT_ONCE;
  for (int64_t part = 0; part < parts; ++part) {
    const int64_t x = columns * part / parts;
    depthwise_any_columns<K, S>(columns * (part + 1) / parts - x, row, x);
  }
}

using DepthwiseFunction = void (*)(const DepthwiseRow&, int64_t);

// The function for a kernel of 3, 5 or 7 and a stride of 1 or 2.
inline DepthwiseFunction depthwise_function(int64_t kernel, int64_t stride) {
  switch (kernel) {
    case 3:
      return stride == 1 ? depthwise_row<3, 1> : depthwise_row<3, 2>;
    case 5:
      return stride == 1 ? depthwise_row<5, 1> : depthwise_row<5, 2>;
    default:
      return stride == 1 ? depthwise_row<7, 1> : depthwise_row<7, 2>;
  }
}

}  // namespace fastfcn
