// Separable convolution of a bilinearly resized map, evaluated only at its breakpoints (breakpoints.h).
//
// Between breakpoints the depthwise result is linear along each axis, and the 1x1 convolution is linear too. So both
// are computed at the breakpoints, and the 1x1 results are interpolated. This is exact for any resize ratio, with and
// without aligned corners, and takes at most about nine 1x1 products per pixel of the small map; one to two if the
// dilation is (nearly) a multiple of the small map's step, because all taps then cross its pixels at (nearly) the same
// positions.
#pragma once

#include <ATen/ATen.h>

#include "common/tensors.h"
#include "gemm/parallel.h"
#include "jpu/breakpoints.h"

namespace fastfcn {

// C rows of a packed matrix with `rows` rows and `outputs` columns.
struct Pointwise {
  const float* packed;
  int64_t rows, outputs;
};

class BreakpointConvolution {
 public:
  // `map`: (B, C, h, w), of which `image` is used; `rows`, `columns`: axes of the resized map, with their breakpoints;
  // `taps`: (C / LANES, 9, LANES).
  BreakpointConvolution(const at::Tensor& map, int64_t image, const TapAxis& rows, const TapAxis& columns,
                        Breakpoints row_breakpoints, Breakpoints column_breakpoints, const float* taps,
                        const Pointwise& pointwise)
      : row_breakpoints_(std::move(row_breakpoints)), column_breakpoints_(std::move(column_breakpoints)),
        outputs_(pointwise.outputs) {
    const int64_t channels = map.size(1), row_floats = map.size(3) * channels, pixel_stride = channels + LANES;
    const int64_t down = row_breakpoints_.count(), across = column_breakpoints_.count();
    const float* from = map.const_data_ptr<float>() + image * map.size(2) * row_floats;
    results_ = at::empty({down * across, outputs_}, map.options());
    float* to = results_.mutable_data_ptr<float>();
    dynamic_parallel_for(down, 1, [&](int64_t begin, int64_t end) {
      static thread_local Scratch row_sums, depthwise_results;
      row_sums.resize(3 * row_floats), depthwise_results.resize(across * pixel_stride);
      for (int64_t row = begin; row < end; ++row) {
        sum_rows(rows.reads(row_breakpoints_.positions[row]), from, row_floats, channels, taps, row_sums.data());
        for (int64_t column = 0; column < across; ++column)
          sum_columns(columns.reads(column_breakpoints_.positions[column]), row_sums.data(), row_floats, channels,
                      depthwise_results.data() + column * pixel_stride);
        multiply(across, outputs_, channels, depthwise_results.data(), pixel_stride, pointwise.packed, pointwise.rows,
                 to + row * across * outputs_, outputs_, false, nullptr);
      }
    });
  }

  // Writes the results of `count` pixels of the resized map from (y, x) to `out`, `pixel_stride` floats apart; adds
  // them if `accumulate`.
  void write(int64_t y, int64_t x, int64_t count, float* out, int64_t pixel_stride, bool accumulate) const {
    const Source row = row_breakpoints_.pixel_sources[y];
    const int64_t row_floats = column_breakpoints_.count() * outputs_;
    const float* upper = results_.const_data_ptr<float>() + row.low * row_floats;
    const float* lower = upper + (row.high - row.low) * row_floats;
    for (int64_t pixel = x; pixel < x + count; ++pixel, out += pixel_stride) {
      const Source column = column_breakpoints_.pixel_sources[pixel];
      const int64_t left = column.low * outputs_, right = column.high * outputs_;
      const float scale[4] = {(1 - row.fraction) * (1 - column.fraction), (1 - row.fraction) * column.fraction,
                              row.fraction * (1 - column.fraction), row.fraction * column.fraction};
      for (int64_t channel = 0; channel < outputs_; channel += LANES) {
        __builtin_prefetch(upper + right + outputs_ + channel);  // the next position
        __builtin_prefetch(lower + right + outputs_ + channel);
        const Vector above = scale[0] * load(upper + left + channel) + scale[1] * load(upper + right + channel);
        const Vector below = scale[2] * load(lower + left + channel) + scale[3] * load(lower + right + channel);
        store(out + channel, accumulate ? load(out + channel) + (above + below) : above + below);
      }
    }
  }

 private:
  // At one row position of the resized map: vertical sums for each of the three tap columns, (3, w, channels).
  static void sum_rows(const TapReads& rows, const float* map, int64_t row_floats, int64_t channels, const float* taps,
                       float* out) {
    for (int64_t pixel = 0; pixel < row_floats; pixel += channels)
      for (int64_t channel = 0; channel < channels; channel += LANES) {
        Vector sums[3] = {};
        for (int row = 0; row < 3; ++row) {
          const float* from = map + pixel + channel;
          const Vector value = rows.lower[row] * load(from + rows.low[row] * row_floats) +
                               rows.upper[row] * load(from + rows.high[row] * row_floats);
          const float* weights = taps + channel * TAPS + row * 3 * LANES;
          for (int column = 0; column < 3; ++column) sums[column] += load(weights + column * LANES) * value;
        }
        for (int column = 0; column < 3; ++column) store(out + column * row_floats + pixel + channel, sums[column]);
      }
  }

  // Their horizontal sum at one column position: (channels).
  static void sum_columns(const TapReads& columns, const float* from, int64_t row_floats, int64_t channels,
                          float* out) {
    for (int64_t channel = 0; channel < channels; channel += LANES) {
      Vector sum{};
      for (int column = 0; column < 3; ++column) {
        const float* taps = from + column * row_floats + channel;
        sum += columns.lower[column] * load(taps + columns.low[column] * channels) +
               columns.upper[column] * load(taps + columns.high[column] * channels);
      }
      store(out + channel, sum);
    }
  }

  Breakpoints row_breakpoints_, column_breakpoints_;
  int64_t outputs_;
  at::Tensor results_;  // (row breakpoints, column breakpoints, outputs)
};

}  // namespace fastfcn
