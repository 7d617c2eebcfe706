// A map read as it is when resized, a row of a line of its channels at a time: the resized map never exists.
#pragma once

#include "common/bilinear.h"
#include "common/channel_blocks.h"

namespace fastfcn {

class Resized {
 public:
  // `map`: (B, C / LINE, h, w, LINE), of which `image` and the first `channels` are meant.
  Resized(const at::Tensor& map, int64_t image, int64_t channels, int64_t height, int64_t width, bool align_corners)
      : map_(map.const_data_ptr<float>() + image * map.stride(0)), channels_(channels), line_apart_(map.stride(1)),
        width_(map.size(3)), same_(map.size(2) == height && width_ == width),
        rows_(sources(map.size(2), height, align_corners)), outside_(width * LINE) {
    for (const auto& [low, high, share] : sources(width_, width, align_corners))
      columns_.push_back({static_cast<int32_t>(low * LINE), share});
  }

  int64_t channels() const { return channels_; }
  int64_t height() const { return rows_.size(); }
  int64_t width() const { return columns_.size(); }
  // Floats from a row to that of the next channels where rows are read from the map itself, or 0.
  int64_t ahead() const { return same_ ? line_apart_ : 0; }

  // Pixels [first, last) of row y, the LINE channels from `channel` on, as if pixel 0 lay at what is returned: in the
  // map itself, or in `space`, which holds as many pixels. Zeros where y is outside.
  const float* row(int64_t channel, int64_t y, int64_t first, int64_t last, float* space) const {
    if (y < 0 || y >= height()) return outside_.data();
    const float* from = map_ + channel / LINE * line_apart_;
    if (same_) return from + y * width_ * LINE;
    resize(from, rows_[y], first, last, space);
    return space - first * LINE;
  }

 private:
  struct Column {
    int32_t low;  // floats before the first of the two inputs
    float share;  // of the second, which lies beside it
  };

  void resize(const float* from, const Source& row, int64_t first, int64_t last, float* to) const {
    static thread_local Scratch between;  // the row of the map between two of its rows, its last pixel twice
    between.resize((width_ + 1) * LINE);
    float* const middle = between.data();
    const int64_t begin = columns_[first].low;
    const int64_t end = std::min<int64_t>(columns_[last - 1].low + 2 * LINE, width_ * LINE);
    const float *upper = from + row.low * width_ * LINE, *lower = from + row.high * width_ * LINE;
    const float share = row.share;
    for (int64_t at = begin; at < end; at += LINE) {
      __builtin_prefetch(upper + line_apart_ + at, 0, 2);  // the next channels, which are read next
      __builtin_prefetch(lower + line_apart_ + at, 0, 2);
      interpolate(upper + at, lower + at, share, middle + at);
    }
    std::copy_n(middle + end - LINE, LINE, middle + end);
    const Column* const stop = columns_.data() + last;
    for (const Column* column = columns_.data() + first; column < stop; ++column, to += LINE)
      interpolate(middle + column->low, middle + column->low + LINE, column->share, to);
  }

  static void interpolate(const float* one, const float* two, float share, float* to) {
    Vector values[LINE / LANES];  // of both, before any is written
    for (int64_t v = 0; v < LINE / LANES; ++v) {
      const Vector from = load(one + v * LANES);
      values[v] = from + share * (load(two + v * LANES) - from);
    }
    for (int64_t v = 0; v < LINE / LANES; ++v) store(to + v * LANES, values[v]);
  }

  const float* map_;
  int64_t channels_, line_apart_, width_;
  bool same_;
  std::vector<Source> rows_;
  std::vector<Column> columns_;
  Scratch outside_;
};

}  // namespace fastfcn
