// Depthwise 3x3 convolution of a block of pixels, reading maps as if they were resized (resized_map.h).
#pragma once

#include "common/cache_sizes.h"
#include "common/tensors.h"
#include "jpu/resized_map.h"

namespace fastfcn {

// Pixels of a block, whose inputs and results share L2 with the weights, and width of one of its rows.
inline int64_t max_block_pixels() { return has_large_l2() ? 144 : 96; }
inline int64_t max_block_width() { return has_large_l2() ? 64 : 36; }

// Results that are computed together: rows of `count` pixels from (y, x), one dilation apart, so that each row reuses
// the inputs of the next.
struct Block {
  int64_t y, rows, x, count;

  int64_t pixels() const { return rows * count; }
};

// All blocks of an image, for each vertical phase of the dilation; sorted by size, smallest last, for an even load.
inline std::vector<Block> blocks(int64_t height, int64_t width, int64_t dilation) {
  const int64_t parts = (width + max_block_width() - 1) / max_block_width();
  const int64_t block_rows = std::max<int64_t>(1, max_block_pixels() * parts / width);
  std::vector<Block> result;
  for (int64_t phase = 0; phase < std::min(dilation, height); ++phase)
    for (int64_t y = phase; y < height; y += block_rows * dilation)
      for (int64_t part = 0; part < parts; ++part) {
        const int64_t x = width * part / parts, rows = std::min(block_rows, (height - y - 1) / dilation + 1);
        result.push_back({y, rows, x, width * (part + 1) / parts - x});
      }
  const auto larger = [](const Block& one, const Block& other) { return one.pixels() > other.pixels(); };
  std::stable_sort(result.begin(), result.end(), larger);
  return result;
}

// Input of a depthwise convolution of LANES channels: rows of `width` pixels, CACHE_LINE floats per pixel, one dilation
// apart. `prefetch_distance`: floats from a value to the one that will be read next, or 0.
struct DepthwiseInput {
  const float* const* rows;
  int64_t width, dilation, prefetch_distance;
};

// Output: pixels `pixel_stride` floats apart, rows `row_stride`.
struct DepthwiseOutput {
  float* to;
  int64_t pixel_stride, row_stride;
};

// NUM_ROWS result rows at columns [begin, end), from NUM_ROWS + 2 input rows. LEFT, RIGHT: whether the left and right
// taps are inside the map, for all of these columns.
template <int NUM_ROWS, bool LEFT, bool RIGHT>
void depthwise_part(const DepthwiseInput& inputs, int64_t begin, int64_t end, const float* taps,
                    DepthwiseOutput outputs) {
  Vector weights[TAPS];
  for (int tap = 0; tap < TAPS; ++tap) weights[tap] = load(taps + tap * LANES);
  const float* rows[NUM_ROWS + 2];  // copies: the compiler would assume that stores change them
  std::copy_n(inputs.rows, NUM_ROWS + 2, rows);
  const int64_t step = inputs.dilation * CACHE_LINE, prefetch_distance = inputs.prefetch_distance;
  for (int64_t at = begin * CACHE_LINE; at < end * CACHE_LINE; at += CACHE_LINE, outputs.to += outputs.pixel_stride) {
    Vector sums[NUM_ROWS] = {};
#pragma GCC unroll 8
    for (int row = 0; row < NUM_ROWS + 2; ++row) {
      if (prefetch_distance) __builtin_prefetch(rows[row] + at + prefetch_distance, 0, 2);
#pragma GCC unroll 3
      for (int column = LEFT ? 0 : 1; column < (RIGHT ? 3 : 2); ++column) {
        const Vector value = load(rows[row] + at + (column - 1) * step);
#pragma GCC unroll 3
        for (int tap_row = 0; tap_row < 3; ++tap_row)
          if (row >= tap_row && row - tap_row < NUM_ROWS) sums[row - tap_row] += weights[3 * tap_row + column] * value;
      }
    }
    for (int row = 0; row < NUM_ROWS; ++row) store(outputs.to + row * outputs.row_stride, sums[row]);
  }
}

// NUM_ROWS result rows at columns [begin, end), split where taps enter or leave the map.
template <int NUM_ROWS>
void depthwise_rows(const DepthwiseInput& inputs, int64_t begin, int64_t end, const float* taps,
                    DepthwiseOutput outputs) {
  const int64_t from_left = inputs.dilation, to_right = inputs.width - inputs.dilation;
  while (begin < end) {
    const bool left = begin >= from_left, right = begin < to_right;
    const int64_t last = std::min({end, left ? end : from_left, right ? to_right : end});
    const auto part = left    ? right ? depthwise_part<NUM_ROWS, true, true> : depthwise_part<NUM_ROWS, true, false>
                      : right ? depthwise_part<NUM_ROWS, false, true>
                              : depthwise_part<NUM_ROWS, false, false>;
    part(inputs, begin, last, taps, outputs);
    outputs.to += (last - begin) * outputs.pixel_stride, begin = last;
  }
}

// All rows of a block, for up to 16 channels of a map from `channel`.
inline void depthwise_channels(const ResizedMap& map, int64_t channel, const Block& block, int64_t dilation,
                               const float* taps, float* to, int64_t pixel_stride) {
  static thread_local Scratch space;
  static thread_local std::vector<const float*> rows;
  const int64_t end = block.x + block.count, row_stride = block.count * pixel_stride;
  const int64_t first = std::max<int64_t>(0, block.x - dilation), last = std::min(map.width(), end + dilation);
  const int64_t length = (last - first) * CACHE_LINE;
  rows.resize(block.rows + 2), space.resize((block.rows + 2) * length);
  for (int64_t row = 0; row < block.rows + 2; ++row)
    rows[row] = map.row(channel, block.y + (row - 1) * dilation, first, last, space.data() + row * length);
  const int64_t count = std::min(CACHE_LINE, map.channels() - channel);
  for (int64_t lane = 0; lane < count; lane += LANES, taps += TAPS * LANES) {
    const auto inputs = [&](int64_t row) {
      return DepthwiseInput{&rows[row], map.width(), dilation, lane ? 0 : map.prefetch_distance()};
    };
    const auto outputs = [&](int64_t row) {
      return DepthwiseOutput{to + row * row_stride + lane, pixel_stride, row_stride};
    };
    // Up to three rows at once, since neighbors share most of their inputs.
    for (int64_t row = 0; row < block.rows;) {
      const int64_t left = block.rows - row, num_rows = left == 4 ? 2 : std::min<int64_t>(left, 3);
      const auto rows_of = num_rows == 3 ? depthwise_rows<3> : num_rows == 2 ? depthwise_rows<2> : depthwise_rows<1>;
      rows_of(inputs(row), block.x, end, taps, outputs(row));
      row += num_rows;
    }
    for (const float*& row : rows) row += LANES;
  }
}

// All rows of a block, for all channels of consecutive maps.
inline void depthwise_block(const std::vector<const ResizedMap*>& maps, const Block& block, int64_t dilation,
                            const float* taps, float* to, int64_t pixel_stride) {
  for (const ResizedMap* map : maps) {
    for (int64_t channel = 0; channel < map->channels(); channel += CACHE_LINE)
      depthwise_channels(*map, channel, block, dilation, taps + channel * TAPS, to + channel, pixel_stride);
    taps += map->channels() * TAPS, to += map->channels();
  }
}

}  // namespace fastfcn
