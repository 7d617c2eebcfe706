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

  // Pixels [first, last) of row y, SLICES times LANES channels from `channel` on; each slice of LANES has its pixels side
  // by side in `to`, `apart` floats from the next slice's. Zeros outside the map.
  template <int SLICES>
  void read(int64_t channel, int64_t y, int64_t first, int64_t last, float* to, int64_t apart) const {
    const bool row_inside = y >= 0 && y < height();
    const int64_t begin = row_inside ? std::clamp<int64_t>(0, first, last) : last;
    const int64_t end = std::max(begin, std::min(last, width()));
    for (int slice = 0; slice < SLICES; ++slice) {
      std::fill_n(to + slice * apart, (begin - first) * LANES, 0.f);
      std::fill_n(to + slice * apart + (end - first) * LANES, (last - end) * LANES, 0.f);
    }
    if (begin == end) return;
    to += (begin - first) * LANES;
    if (same_)
      copy<SLICES>(map_ + (y * width_ + begin) * channels_ + channel, end - begin, to, apart);
    else
      resize<SLICES>(channel, rows_[y], begin, end, to, apart);
  }

 private:
  template <int SLICES>
  void copy(const float* from, int64_t count, float* to, int64_t apart) const {
    for (int64_t pixel = 0; pixel < count; ++pixel, from += channels_, to += LANES) {
      __builtin_prefetch(from + SLICES * LANES, 0, 2);  // the next channels, which are read next
      for (int slice = 0; slice < SLICES; ++slice) store(to + slice * apart, load(from + slice * LANES));
    }
  }

  template <int SLICES>
  void resize(int64_t channel, const Source& row, int64_t begin, int64_t end, float* to, int64_t apart) const {
    static thread_local Scratch between;  // the row of the map between two of its rows
    constexpr int64_t CHANNELS = SLICES * LANES;
    const int64_t low = columns_[begin].low, high = columns_[end - 1].high;
    between.resize(width_ * CHANNELS);
    const float* upper = map_ + row.low * width_ * channels_ + channel;
    const float* lower = map_ + row.high * width_ * channels_ + channel;
    for (int64_t x = low; x <= high; ++x) {
      const float *above = upper + x * channels_, *below = lower + x * channels_;
      __builtin_prefetch(above + CHANNELS, 0, 2);
      __builtin_prefetch(below + CHANNELS, 0, 2);
      for (int64_t at = 0; at < CHANNELS; at += LANES)
        store(between.data() + x * CHANNELS + at, (1 - row.share) * load(above + at) + row.share * load(below + at));
    }
    for (int64_t x = begin; x < end; ++x, to += LANES) {
      const Source& column = columns_[x];
      const float *left = between.data() + column.low * CHANNELS, *right = between.data() + column.high * CHANNELS;
      for (int slice = 0; slice < SLICES; ++slice)
        store(to + slice * apart, (1 - column.share) * load(left + slice * LANES) + column.share * load(right + slice * LANES));
    }
  }

  const float* map_;
  int64_t channels_, width_;
  bool same_;
  std::vector<Source> rows_, columns_;
};

}  // namespace fastfcn
