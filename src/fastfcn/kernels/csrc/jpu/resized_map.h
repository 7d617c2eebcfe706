// A channel-blocked map read as if it were resized bilinearly, one row of 16 channels at a time.
#pragma once

#include "common/bilinear.h"
#include "common/channel_blocks.h"

namespace fastfcn {

class ResizedMap {
 public:
  // `map`: (B, ceil(C / 16), h, w, 16), of which `image` and the first `channels` are used.
  ResizedMap(const at::Tensor& map, int64_t image, int64_t channels, int64_t height, int64_t width, bool align_corners)
      : map_(map.const_data_ptr<float>() + image * map.stride(0)), channels_(channels), block_stride_(map.stride(1)),
        width_(map.size(3)), unresized_(map.size(2) == height && width_ == width),
        rows_(sources(map.size(2), height, align_corners)), zeros_(width * CACHE_LINE) {
    for (const auto& [low, high, fraction] : sources(width_, width, align_corners))
      columns_.push_back({static_cast<int32_t>(low * CACHE_LINE), fraction});
  }

  int64_t channels() const { return channels_; }
  int64_t height() const { return rows_.size(); }
  int64_t width() const { return columns_.size(); }
  // Floats from a row to the same row of the next channel block if rows are read from the map directly, else 0.
  int64_t prefetch_distance() const { return unresized_ ? block_stride_ : 0; }

  // Pixels [first, last) of row y, for the 16 channels from `channel`. Returns where pixel 0 would be: in the map
  // itself, or relative to `space`, which receives the pixels. Rows outside the map are zeros.
  const float* row(int64_t channel, int64_t y, int64_t first, int64_t last, float* space) const {
    if (y < 0 || y >= height()) return zeros_.data();
    const float* from = map_ + channel / CACHE_LINE * block_stride_;
    if (unresized_) return from + y * width_ * CACHE_LINE;
    resize(from, rows_[y], first, last, space);
    return space - first * CACHE_LINE;
  }

 private:
  struct Column {
    int32_t low;     // offset of the first source pixel, in floats
    float fraction;  // weight of the second, adjacent one
  };

  void resize(const float* from, const Source& row, int64_t first, int64_t last, float* to) const {
    static thread_local Scratch interpolated_row;  // vertically interpolated, last pixel twice
    interpolated_row.resize((width_ + 1) * CACHE_LINE);
    float* const middle = interpolated_row.data();
    const int64_t begin = columns_[first].low;
    const int64_t end = std::min<int64_t>(columns_[last - 1].low + 2 * CACHE_LINE, width_ * CACHE_LINE);
    const float *upper = from + row.low * width_ * CACHE_LINE, *lower = from + row.high * width_ * CACHE_LINE;
    const float fraction = row.fraction;
    for (int64_t at = begin; at < end; at += CACHE_LINE) {
      __builtin_prefetch(upper + block_stride_ + at, 0, 2);  // the next channel block, read next
      __builtin_prefetch(lower + block_stride_ + at, 0, 2);
      interpolate(upper + at, lower + at, fraction, middle + at);
    }
    std::copy_n(middle + end - CACHE_LINE, CACHE_LINE, middle + end);
    const Column* const stop = columns_.data() + last;
    for (const Column* column = columns_.data() + first; column < stop; ++column, to += CACHE_LINE)
      interpolate(middle + column->low, middle + column->low + CACHE_LINE, column->fraction, to);
  }

  static void interpolate(const float* one, const float* two, float fraction, float* to) {
    Vector values[CACHE_LINE / LANES];  // all loaded before any is stored
    for (int64_t v = 0; v < CACHE_LINE / LANES; ++v) {
      const Vector from = load(one + v * LANES);
      values[v] = from + fraction * (load(two + v * LANES) - from);
    }
    for (int64_t v = 0; v < CACHE_LINE / LANES; ++v) store(to + v * LANES, values[v]);
  }

  const float* map_;
  int64_t channels_, block_stride_, width_;
  bool unresized_;
  std::vector<Source> rows_;
  std::vector<Column> columns_;
  Scratch zeros_;
};

}  // namespace fastfcn
