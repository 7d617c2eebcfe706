// A map read as it is when resized, a few channels of a row at a time: the resized map never exists.
#pragma once

#include <ATen/ATen.h>

#include "bilinear.h"
#include "matmul.h"

namespace fastfcn {

class Resized {
 public:
  // `map`: (B, C, h, w) channels last, of which `image` is meant.
  Resized(const at::Tensor& map, int64_t image, int64_t height, int64_t width, bool align_corners)
      : map_(map.const_data_ptr<float>() + image * map.size(1) * map.size(2) * map.size(3)), channels_(map.size(1)),
        width_(map.size(3)), same_(map.size(2) == height && map.size(3) == width),
        rows_(sources(map.size(2), height, align_corners)), columns_(sources(width_, width, align_corners)) {}

  int64_t channels() const { return channels_; }
  int64_t height() const { return rows_.size(); }
  int64_t width() const { return columns_.size(); }

  // Pixels [first, last) of row y, LANES channels from `channel` on, side by side in `to`; zeros outside the map.
  void read(int64_t channel, int64_t y, int64_t first, int64_t last, float* to) const {
    const int64_t begin = std::max<int64_t>(first, 0), end = std::min(last, width());
    if (y < 0 || y >= height() || begin >= end) return void(std::fill_n(to, (last - first) * LANES, 0.f));
    std::fill_n(to, (begin - first) * LANES, 0.f);
    if (same_)
      copy(map_ + (y * width_ + begin) * channels_ + channel, end - begin, to + (begin - first) * LANES);
    else
      resize(channel, rows_[y], begin, end, to + (begin - first) * LANES);
    std::fill_n(to + (end - first) * LANES, (last - end) * LANES, 0.f);
  }

 private:
  void copy(const float* from, int64_t count, float* to) const {
    for (int64_t pixel = 0; pixel < count; ++pixel, from += channels_, to += LANES) {
      __builtin_prefetch(from + LANES, 0, 2);  // the next channels, which are read next
      store(to, load(from));
    }
  }

  void resize(int64_t channel, const Source& row, int64_t begin, int64_t end, float* to) const {
    static thread_local Scratch between;  // the row of the map between two of its rows
    const int64_t low = columns_[begin].low, high = columns_[end - 1].high;
    between.resize(width_ * LANES);
    const float* upper = map_ + row.low * width_ * channels_ + channel;
    const float* lower = map_ + row.high * width_ * channels_ + channel;
    for (int64_t x = low; x <= high; ++x) {
      const float *above = upper + x * channels_, *below = lower + x * channels_;
      __builtin_prefetch(above + LANES, 0, 2);
      __builtin_prefetch(below + LANES, 0, 2);
      store(between.data() + x * LANES, (1 - row.share) * load(above) + row.share * load(below));
    }
    for (int64_t x = begin; x < end; ++x, to += LANES) {
      const Source& column = columns_[x];
      store(to, (1 - column.share) * load(between.data() + column.low * LANES) +
                    column.share * load(between.data() + column.high * LANES));
    }
  }

  const float* map_;
  int64_t channels_, width_;
  bool same_;
  std::vector<Source> rows_, columns_;
};

}  // namespace fastfcn
