// A separable convolution of a resized map, tap by tap on the map before its resize.
//
// A tap of a depthwise convolution only moves and scales the resized map. Resizing is linear and the same for all
// channels, so each of the nine taps' shares goes through the 1x1 convolution first, and is resized and moved after:
// nine products with every pixel of the small map instead of one with every pixel of the resized one. That is exact for
// any dilation, ratio and alignment of corners, and pays where the resized map has far more than nine times the pixels.
#pragma once

#include "bilinear.h"
#include "small_map.h"

namespace fastfcn {

class Tapwise : public SmallMap {
 public:
  // Pixels of the resized map for each of the small one from which on this takes less time.
  static constexpr int64_t WORTHWHILE = 12;

  // `map`: (B, C, h, w), of which `image` is meant; `taps`: (C / LANES, 9, LANES); `height`, `width` and `dilation`
  // refer to the resized map.
  Tapwise(const at::Tensor& map, int64_t image, int64_t height, int64_t width, bool align_corners, int64_t dilation,
          const float* taps, const Pointwise& pointwise)
      : h_(map.size(2)), w_(map.size(3)), outputs_(pointwise.outputs), dilation_(dilation),
        rows_(sources(h_, height, align_corners)), columns_(sources(w_, width, align_corners)) {
    const int64_t pixels = h_ * w_, channels = map.size(1);
    const float* from = map.const_data_ptr<float>() + image * pixels * channels;
    shares_ = at::empty({9 * pixels, outputs_}, map.options());
    multiply_rows_made(channels, pointwise, shares_, [&](int64_t row, float* to) {
      const int64_t tap = row / pixels, pixel = row % pixels;
      for (int64_t channel = 0; channel < channels; channel += LANES)
        store(to + channel, load(taps + channel * 9 + tap * LANES) * load(from + pixel * channels + channel));
    });
  }

  void add_to(int64_t y, int64_t x, int64_t count, float* out) const override {
    static thread_local std::vector<float> row;  // of the three columns of taps, resized downwards: (3, w, outputs)
    row.resize(3 * w_ * outputs_);
    const int64_t first = std::max<int64_t>(x - dilation_, 0), last = std::min(x + count + dilation_, width());
    for (int64_t column = 0; column < 3; ++column)
      for (int64_t pixel = columns_[first].low; pixel <= columns_[last - 1].high; ++pixel)
        resize_down(y, column, pixel, row.data() + (column * w_ + pixel) * outputs_);
    for (int64_t pixel = x; pixel < x + count; ++pixel, out += outputs_) resize_across(row.data(), pixel, out);
  }

 private:
  int64_t width() const { return columns_.size(); }
  int64_t height() const { return rows_.size(); }

  // What one column of taps, moved up and down, gives at row y and one column of the small map.
  void resize_down(int64_t y, int64_t column, int64_t pixel, float* out) const {
    const float* from[6] = {};
    float scale[6];
    int terms = 0;
    for (int64_t tap = 0; tap < 3; ++tap) {
      const int64_t at = y + (tap - 1) * dilation_;
      if (at < 0 || at >= height()) continue;
      const float* share = shares_.const_data_ptr<float>() + ((tap * 3 + column) * h_ * w_ + pixel) * outputs_;
      from[terms] = share + rows_[at].low * w_ * outputs_, scale[terms++] = 1 - rows_[at].share;
      from[terms] = share + rows_[at].high * w_ * outputs_, scale[terms++] = rows_[at].share;
    }
    sum(from, scale, terms, nullptr, out);
  }

  // The sum of all columns of taps, moved left and right, at column x.
  void resize_across(const float* row, int64_t x, float* out) const {
    const float* from[6] = {};
    float scale[6];
    int terms = 0;
    for (int64_t column = 0; column < 3; ++column) {
      const int64_t at = x + (column - 1) * dilation_;
      if (at < 0 || at >= width()) continue;
      from[terms] = row + (column * w_ + columns_[at].low) * outputs_, scale[terms++] = 1 - columns_[at].share;
      from[terms] = row + (column * w_ + columns_[at].high) * outputs_, scale[terms++] = columns_[at].share;
    }
    sum(from, scale, terms, out, out);
  }

  // `before` and the sum of 2, 4 or 6 terms; the middle tap is always inside.
  void sum(const float* const* from, const float* scale, int terms, const float* before, float* out) const {
    for (int64_t channel = 0; channel < outputs_; channel += LANES) {
      Vector total = scale[0] * load(from[0] + channel) + scale[1] * load(from[1] + channel);
      if (before) total += load(before + channel);
      if (terms > 2) total += scale[2] * load(from[2] + channel) + scale[3] * load(from[3] + channel);
      if (terms > 4) total += scale[4] * load(from[4] + channel) + scale[5] * load(from[5] + channel);
      store(out + channel, total);
    }
  }

  int64_t h_, w_, outputs_, dilation_;
  std::vector<Source> rows_, columns_;
  at::Tensor shares_;  // (9, h, w, outputs)
};

}  // namespace fastfcn
