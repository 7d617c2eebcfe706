// A separable convolution of a resized map, tap by tap on the map before its resize.
//
// A tap of a depthwise convolution only moves and scales the resized map. Resizing is linear and the same for all
// channels, so each of the nine taps' shares goes through the 1x1 convolution first, and is resized and moved after:
// nine products with every pixel of the small map instead of one with every pixel of the resized one. That is exact for
// any dilation, ratio and alignment of corners, and pays where the resized map has far more than nine times the pixels.
#pragma once

#include "small_map.h"

namespace fastfcn {

class Tapwise : public SmallMap {
 public:
  // Pixels of the resized map for each of the small one from which on this takes less time.
  static constexpr int64_t WORTHWHILE = 12;

  // `map`: (B, C, h, w), of which `image` is meant; `taps`: (C / LANES, 9, LANES); `rows`, `columns`: of the resized map.
  Tapwise(const at::Tensor& map, int64_t image, const TapAxis& rows, const TapAxis& columns, const float* taps,
          const Pointwise& pointwise)
      : h_(map.size(2)), w_(map.size(3)), outputs_(pointwise.outputs), rows_(rows), columns_(columns) {
    const int64_t pixels = h_ * w_, channels = map.size(1);
    const float* from = map.const_data_ptr<float>() + image * pixels * channels;
    shares_ = at::empty({9 * pixels, outputs_}, map.options());
    multiply_rows_made(channels, pointwise, shares_, [&](int64_t row, float* to) {
      const int64_t tap = row / pixels, pixel = row % pixels;
      for (int64_t channel = 0; channel < channels; channel += LANES)
        store(to + channel, load(taps + channel * 9 + tap * LANES) * load(from + pixel * channels + channel));
    });
  }

  void give(int64_t y, int64_t x, int64_t count, float* out, int64_t apart, bool onto) const override {
    static thread_local Scratch row;  // of the three columns of taps, resized downwards: (3, w, outputs)
    row.resize(3 * w_ * outputs_);
    const float* shares = shares_.const_data_ptr<float>();
    const int64_t across = w_ * outputs_, down = h_ * across;
    for (int64_t column = 0; column < 3; ++column) {
      const int64_t first = x + (column - 1) * columns_.dilation, last = std::min(first + count, width());
      if (first >= width() || last <= 0) continue;
      for (int64_t place = columns_.sources[std::max<int64_t>(first, 0)].low; place <= columns_.sources[last - 1].high; ++place)
        rows_.sum<false>(y, shares + column * down + place * outputs_, 3 * down, across, outputs_,
                         row.data() + column * across + place * outputs_);
    }
    for (int64_t pixel = x; pixel < x + count; ++pixel, out += apart)
      if (onto)
        columns_.sum<true>(pixel, row.data(), across, outputs_, outputs_, out);
      else
        columns_.sum<false>(pixel, row.data(), across, outputs_, outputs_, out);
  }

 private:
  int64_t width() const { return columns_.sources.size(); }

  int64_t h_, w_, outputs_;
  TapAxis rows_, columns_;
  at::Tensor shares_;  // (9, h, w, outputs)
};

}  // namespace fastfcn
