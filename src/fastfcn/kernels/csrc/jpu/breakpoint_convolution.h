// A separable convolution of a resized map at those places alone between which it is linear (bends.h).
//
// What the depthwise convolution is there goes through the 1x1 convolution, which is linear as well, and the rest is
// interpolated. That is exact for any ratio and alignment of corners, and takes at most about nine products for each
// pixel of the small map. Where a dilation is a whole number of the small map's steps, or nearly, the taps pass its
// pixels at the same places, or nearly: it takes one to two products then.
#pragma once

#include <ATen/ATen.h>

#include "common/tensors.h"
#include "gemm/parallel.h"
#include "jpu/breakpoints.h"

namespace fastfcn {

// C rows of a packed matrix of `rows` to `outputs` columns.
struct Pointwise {
  const float* packed;
  int64_t rows, outputs;
};

class Interpolated {
 public:
  // `map`: (B, C, h, w), of which `image` is meant; `rows`, `columns`: of the resized map, as are their bends; `taps`:
  // (C / LANES, 9, LANES).
  Interpolated(const at::Tensor& map, int64_t image, const TapAxis& rows, const TapAxis& columns, Bends bent_rows,
               Bends bent_columns, const float* taps, const Pointwise& pointwise)
      : bent_rows_(std::move(bent_rows)), bent_columns_(std::move(bent_columns)), outputs_(pointwise.outputs) {
    const int64_t channels = map.size(1), line = map.size(3) * channels, apart = channels + LANES;
    const int64_t down = bent_rows_.count(), across = bent_columns_.count();
    const float* from = map.const_data_ptr<float>() + image * map.size(2) * line;
    results_ = at::empty({down * across, outputs_}, map.options());
    float* to = results_.mutable_data_ptr<float>();
    share_out(down, 1, [&](int64_t begin, int64_t end) {
      static thread_local Scratch columns_of_taps, narrow;
      columns_of_taps.resize(3 * line), narrow.resize(across * apart);
      for (int64_t row = begin; row < end; ++row) {
        sum_downwards(rows.taken(bent_rows_.places[row]), from, line, channels, taps, columns_of_taps.data());
        for (int64_t column = 0; column < across; ++column)
          sum_across(columns.taken(bent_columns_.places[column]), columns_of_taps.data(), line, channels,
                     narrow.data() + column * apart);
        multiply(across, outputs_, channels, narrow.data(), apart, pointwise.packed, pointwise.rows,
                 to + row * across * outputs_, outputs_, false, nullptr);
      }
    });
  }

  // The results at `count` pixels of the resized map from (y, x) on, into `out`, whose pixels lie `apart` floats apart,
  // or added to what is there with `onto`.
  void give(int64_t y, int64_t x, int64_t count, float* out, int64_t apart, bool onto) const {
    const Source row = bent_rows_.between[y];
    const int64_t line = bent_columns_.count() * outputs_;
    const float *upper = results_.const_data_ptr<float>() + row.low * line,
                *lower = upper + (row.high - row.low) * line;
    for (int64_t pixel = x; pixel < x + count; ++pixel, out += apart) {
      const Source column = bent_columns_.between[pixel];
      const int64_t left = column.low * outputs_, right = column.high * outputs_;
      const float scale[4] = {(1 - row.share) * (1 - column.share), (1 - row.share) * column.share,
                              row.share * (1 - column.share), row.share * column.share};
      for (int64_t channel = 0; channel < outputs_; channel += LANES) {
        __builtin_prefetch(upper + right + outputs_ + channel);  // the next place
        __builtin_prefetch(lower + right + outputs_ + channel);
        const Vector above = scale[0] * load(upper + left + channel) + scale[1] * load(upper + right + channel);
        const Vector below = scale[2] * load(lower + left + channel) + scale[3] * load(lower + right + channel);
        store(out + channel, onto ? load(out + channel) + (above + below) : above + below);
      }
    }
  }

 private:
  // The three columns of taps at a row of the resized map, which is as wide as the small one: (3, w, channels).
  static void sum_downwards(const Taken& rows, const float* map, int64_t line, int64_t channels, const float* taps,
                            float* out) {
    for (int64_t place = 0; place < line; place += channels)
      for (int64_t channel = 0; channel < channels; channel += LANES) {
        Vector sums[3] = {};
        for (int row = 0; row < 3; ++row) {
          const float* from = map + place + channel;
          const Vector moved = rows.lower[row] * load(from + rows.low[row] * line) +
                               rows.upper[row] * load(from + rows.high[row] * line);
          const float* weights = taps + channel * TAPS + row * 3 * LANES;
          for (int column = 0; column < 3; ++column) sums[column] += load(weights + column * LANES) * moved;
        }
        for (int column = 0; column < 3; ++column) store(out + column * line + place + channel, sums[column]);
      }
  }

  // Their sum at one place of that row: (channels).
  static void sum_across(const Taken& columns, const float* from, int64_t line, int64_t channels, float* out) {
    for (int64_t channel = 0; channel < channels; channel += LANES) {
      Vector sum{};
      for (int column = 0; column < 3; ++column) {
        const float* taps = from + column * line + channel;
        sum += columns.lower[column] * load(taps + columns.low[column] * channels) +
               columns.upper[column] * load(taps + columns.high[column] * channels);
      }
      store(out + channel, sum);
    }
  }

  Bends bent_rows_, bent_columns_;
  int64_t outputs_;
  at::Tensor results_;  // (places down, places across, outputs)
};

}  // namespace fastfcn
