// A separable convolution of a resized map at those of its rows and columns between which it is linear.
//
// Bilinear resizing draws straight lines between the small map's pixels. The depthwise convolution of the resized map
// bends where one of its taps passes such a pixel. Where a dilation is nearly a whole number of the small map's steps,
// its taps do so at nearly the same places, and between these the results lie on straight lines: the two ends of each
// line go through the 1x1 convolution, which is linear as well, and the rest is interpolated. That is exact for any
// ratio and alignment of corners; how many places bend says whether it pays.
#pragma once

#include "depthwise_block.h"
#include "small_map.h"

namespace fastfcn {

// Places along an axis of a resized map where a convolution's results bend, and how the others lie between them.
struct Bends {
  std::vector<int64_t> places;
  std::vector<Source> between;  // for each place of the axis, its neighbours among `places`

  explicit Bends(const TapAxis& axis) {
    const int64_t length = axis.sources.size();
    for (int64_t place = 0; place < length; ++place)
      if (place == 0 || place == length - 1 || !straight(axis, place)) places.push_back(place);
    between.push_back({0, 0, 0.f});
    for (size_t low = 0; low + 1 < places.size(); ++low)
      for (int64_t place = places[low] + 1; place <= places[low + 1]; ++place) {
        const float share = static_cast<float>(place - places[low]) / (places[low + 1] - places[low]);
        between.push_back({static_cast<int64_t>(low), static_cast<int64_t>(low + 1), share});
      }
  }

 private:
  // Whether each tap sees a straight line from the place before to the one behind.
  static bool straight(const TapAxis& axis, int64_t place) {
    const int64_t length = axis.sources.size();
    const double rounding = 4e-7 * (axis.sources.back().high + 1);  // of positions, which are float32
    const auto position = [&](int64_t at) { return axis.sources[at].low + static_cast<double>(axis.sources[at].share); };
    for (int64_t tap = -1; tap <= 1; ++tap) {
      const int64_t middle = place + tap * axis.dilation;
      if (middle + 1 < 0 || middle - 1 >= length) continue;  // zeros
      if (middle < 1 || middle + 1 >= length) return false;
      const double before = position(middle - 1), behind = position(middle + 1);
      if (std::abs(before - 2 * position(middle) + behind) > rounding) return false;
      if (behind > std::floor(before + rounding) + 1 + rounding) return false;
    }
    return true;
  }
};

class Interpolated : public SmallMap {
 public:
  // `map`: (B, C, h, w), of which `image` is meant; `rows`, `columns`: of the resized map, as are their bends; `taps`:
  // (C / LANES, 9, LANES).
  Interpolated(const at::Tensor& map, int64_t image, const TapAxis& rows, const TapAxis& columns, Bends bent_rows,
               Bends bent_columns, const float* taps, const Pointwise& pointwise)
      : bent_rows_(std::move(bent_rows)), bent_columns_(std::move(bent_columns)), outputs_(pointwise.outputs) {
    const int64_t channels = map.size(1), w = map.size(3), across = bent_columns_.places.size();
    const int64_t apart = channels + LANES, down = bent_rows_.places.size();
    const float* from = map.const_data_ptr<float>() + image * channels * map.size(2) * w;
    results_ = at::empty({down * across, outputs_}, map.options());
    float* to = results_.mutable_data_ptr<float>();
    share_out(down, 1, [&](int64_t begin, int64_t end) {
      static thread_local Scratch columns_of_taps, narrow;
      columns_of_taps.resize(3 * w * channels), narrow.resize(across * apart);
      for (int64_t row = begin; row < end; ++row) {
        sum_downwards(rows, bent_rows_.places[row], from, w, channels, taps, columns_of_taps.data());
        for (int64_t column = 0; column < across; ++column)
          columns.sum<false>(bent_columns_.places[column], columns_of_taps.data(), w * channels, channels, channels,
                             narrow.data() + column * apart);
        multiply(across, outputs_, channels, narrow.data(), apart, pointwise.packed, pointwise.rows,
                 to + row * across * outputs_, outputs_, false, nullptr);
      }
    });
  }

  void give(int64_t y, int64_t x, int64_t count, float* out, int64_t apart, bool onto) const override {
    const Source row = bent_rows_.between[y];
    const int64_t line = bent_columns_.places.size() * outputs_;
    const float *upper = results_.const_data_ptr<float>() + row.low * line, *lower = upper + (row.high - row.low) * line;
    for (int64_t pixel = x; pixel < x + count; ++pixel, out += apart) {
      const Source column = bent_columns_.between[pixel];
      const int64_t left = column.low * outputs_, right = column.high * outputs_;
      const float scale[4] = {(1 - row.share) * (1 - column.share), (1 - row.share) * column.share,
                              row.share * (1 - column.share), row.share * column.share};
      for (int64_t channel = 0; channel < outputs_; channel += LANES) {
        const Vector above = scale[0] * load(upper + left + channel) + scale[1] * load(upper + right + channel);
        const Vector below = scale[2] * load(lower + left + channel) + scale[3] * load(lower + right + channel);
        store(out + channel, onto ? load(out + channel) + (above + below) : above + below);
      }
    }
  }

 private:
  // The three columns of taps at row y of the resized map, which is as wide as the small one: (3, w, channels).
  static void sum_downwards(const TapAxis& rows, int64_t y, const float* map, int64_t w, int64_t channels,
                            const float* taps, float* out) {
    const int64_t line = w * channels;
    const float *above[3], *below[3];
    float upper[3], lower[3];
    for (int64_t tap = 0; tap < 3; ++tap) {
      const int64_t at = y + (tap - 1) * rows.dilation;
      const bool inside = at >= 0 && at < static_cast<int64_t>(rows.sources.size());
      const Source source = inside ? rows.sources[at] : Source{0, 0, 0.f};
      above[tap] = map + source.low * line, below[tap] = map + source.high * line;
      upper[tap] = inside ? 1 - source.share : 0.f, lower[tap] = source.share;
    }
    for (int64_t place = 0; place < line; place += channels)
      for (int64_t channel = 0; channel < channels; channel += LANES) {
        Vector sums[3] = {};
        for (int row = 0; row < 3; ++row) {
          const int64_t at = place + channel;
          const Vector moved = upper[row] * load(above[row] + at) + lower[row] * load(below[row] + at);
          const float* weights = taps + channel * TAPS + row * 3 * LANES;
          for (int column = 0; column < 3; ++column) sums[column] += load(weights + column * LANES) * moved;
        }
        for (int column = 0; column < 3; ++column) store(out + column * line + place + channel, sums[column]);
      }
  }

  Bends bent_rows_, bent_columns_;
  int64_t outputs_;
  at::Tensor results_;  // (bent rows, bent columns, outputs)
};

}  // namespace fastfcn
