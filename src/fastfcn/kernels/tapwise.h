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

  void add_to(int64_t y, int64_t x, int64_t count, float* out, int64_t apart) const override {
    static thread_local Scratch row;  // of the three columns of taps, resized downwards: (3, w, outputs)
    row.resize(3 * w_ * outputs_);
    const float* shares = shares_.const_data_ptr<float>();
    const int64_t across = w_ * outputs_, down = h_ * across;
    for (int64_t column = 0; column < 3; ++column) {
      const int64_t first = x + (column - 1) * dilation_, last = std::min(first + count, width());
      if (first >= width() || last <= 0) continue;
      for (int64_t place = columns_[std::max<int64_t>(first, 0)].low; place <= columns_[last - 1].high; ++place)
        sum_taps<false>(rows_, y, shares + column * down + place * outputs_, 3 * down, across,
                        row.data() + column * across + place * outputs_);
    }
    for (int64_t pixel = x; pixel < x + count; ++pixel, out += apart)
      sum_taps<true>(columns_, pixel, row.data(), across, outputs_, out);
  }

 private:
  int64_t width() const { return columns_.size(); }

  // Three taps along an axis, each moved and resized, at one place of the resized map. `from`: what the first tap gives
  // at the small map's first place, `taps_apart` from the next tap's and `step` from the next place's.
  template <bool ONTO>
  void sum_taps(const std::vector<Source>& sources, int64_t place, const float* from, int64_t taps_apart, int64_t step,
                float* out) const {
    const float* terms[6] = {};
    float scale[6];
    int count = 0;
    for (int64_t tap = 0; tap < 3; ++tap) {
      const int64_t at = place + (tap - 1) * dilation_;
      if (at < 0 || at >= static_cast<int64_t>(sources.size())) continue;
      terms[count] = from + tap * taps_apart + sources[at].low * step, scale[count++] = 1 - sources[at].share;
      terms[count] = from + tap * taps_apart + sources[at].high * step, scale[count++] = sources[at].share;
    }
    for (int64_t channel = 0; channel < outputs_; channel += LANES) {  // the middle tap is always inside
      Vector total = scale[0] * load(terms[0] + channel) + scale[1] * load(terms[1] + channel);
      if constexpr (ONTO) total += load(out + channel);
      if (count > 2) total += scale[2] * load(terms[2] + channel) + scale[3] * load(terms[3] + channel);
      if (count > 4) total += scale[4] * load(terms[4] + channel) + scale[5] * load(terms[5] + channel);
      store(out + channel, total);
    }
  }

  int64_t h_, w_, outputs_, dilation_;
  std::vector<Source> rows_, columns_;
  at::Tensor shares_;  // (9, h, w, outputs)
};

}  // namespace fastfcn
