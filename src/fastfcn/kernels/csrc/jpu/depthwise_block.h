// Blocks of pixels of a map, and the depthwise 3x3 convolution of one of them, of maps resized as they are read.
#pragma once

#include "common/cache_sizes.h"
#include "common/tensors.h"
#include "jpu/resized_map.h"

namespace fastfcn {

// Of a block, whose inputs and results share the second cache with the weights; and of one of its rows.
inline int64_t most_pixels() { return large_second_cache() ? 144 : 96; }
inline int64_t widest() { return large_second_cache() ? 64 : 36; }

// Results that are worked off together: rows of `count` pixels from (y, x) on, a dilation apart, as each of them reads
// what the next one reads.
struct Block {
  int64_t y, rows, x, count;

  int64_t pixels() const { return rows * count; }
};

// All results of an image, row by row of each of the dilation's phases; the smaller blocks are the last ones, so that
// no thread waits long for another.
inline std::vector<Block> blocks(int64_t height, int64_t width, int64_t dilation) {
  const int64_t parts = (width + widest() - 1) / widest();
  const int64_t together = std::max<int64_t>(1, most_pixels() * parts / width);
  std::vector<Block> result;
  for (int64_t phase = 0; phase < std::min(dilation, height); ++phase)
    for (int64_t y = phase; y < height; y += together * dilation)
      for (int64_t part = 0; part < parts; ++part) {
        const int64_t x = width * part / parts, rows = std::min(together, (height - y - 1) / dilation + 1);
        result.push_back({y, rows, x, width * (part + 1) / parts - x});
      }
  const auto larger = [](const Block& one, const Block& other) { return one.pixels() > other.pixels(); };
  std::stable_sort(result.begin(), result.end(), larger);
  return result;
}

// What a depthwise convolution of LANES channels reads: rows of a map as wide as `width`, whose pixels lie LINE floats
// apart, each row a dilation below the one before it. `ahead`: where what is read next lies, if it is to be fetched.
struct Inputs {
  const float* const* rows;
  int64_t width, dilation, ahead;
};

// Where its results go: pixels lie `apart` floats apart, and rows `line`.
struct Outputs {
  float* to;
  int64_t apart, line;
};

// MANY rows of results at columns [begin, end), from the first MANY + 2 rows; the taps at the LEFT or RIGHT lie within
// the map for all of them or for none.
template <int MANY, bool LEFT, bool RIGHT>
void depthwise_part(const Inputs& inputs, int64_t begin, int64_t end, const float* taps, Outputs outputs) {
  Vector weights[TAPS];
  for (int tap = 0; tap < TAPS; ++tap) weights[tap] = load(taps + tap * LANES);
  const float* rows[MANY + 2];  // copies, which no store can change
  std::copy_n(inputs.rows, MANY + 2, rows);
  const int64_t step = inputs.dilation * LINE, ahead = inputs.ahead;
  for (int64_t at = begin * LINE; at < end * LINE; at += LINE, outputs.to += outputs.apart) {
    Vector sums[MANY] = {};
#pragma GCC unroll 8
    for (int row = 0; row < MANY + 2; ++row) {
      if (ahead) __builtin_prefetch(rows[row] + at + ahead, 0, 2);
#pragma GCC unroll 3
      for (int column = LEFT ? 0 : 1; column < (RIGHT ? 3 : 2); ++column) {
        const Vector value = load(rows[row] + at + (column - 1) * step);
#pragma GCC unroll 3
        for (int tap_row = 0; tap_row < 3; ++tap_row)
          if (row >= tap_row && row - tap_row < MANY) sums[row - tap_row] += weights[3 * tap_row + column] * value;
      }
    }
    for (int row = 0; row < MANY; ++row) store(outputs.to + row * outputs.line, sums[row]);
  }
}

// The same at all columns [begin, end).
template <int MANY>
void depthwise_rows(const Inputs& inputs, int64_t begin, int64_t end, const float* taps, Outputs outputs) {
  const int64_t from_left = inputs.dilation, to_right = inputs.width - inputs.dilation;
  while (begin < end) {
    const bool left = begin >= from_left, right = begin < to_right;
    const int64_t last = std::min({end, left ? end : from_left, right ? to_right : end});
    const auto part = left    ? right ? depthwise_part<MANY, true, true> : depthwise_part<MANY, true, false>
                      : right ? depthwise_part<MANY, false, true>
                              : depthwise_part<MANY, false, false>;
    part(inputs, begin, last, taps, outputs);
    outputs.to += (last - begin) * outputs.apart, begin = last;
  }
}

// The same for the LINE channels of a map from `channel` on, or as many as there are, and all rows of a block.
inline void depthwise_line(const Resized& map, int64_t channel, const Block& block, int64_t dilation, const float* taps,
                           float* to, int64_t apart) {
  static thread_local Scratch space;
  static thread_local std::vector<const float*> rows;
  const int64_t end = block.x + block.count, line = block.count * apart;
  const int64_t first = std::max<int64_t>(0, block.x - dilation), last = std::min(map.width(), end + dilation);
  const int64_t length = (last - first) * LINE;
  rows.resize(block.rows + 2), space.resize((block.rows + 2) * length);
  for (int64_t row = 0; row < block.rows + 2; ++row)
    rows[row] = map.row(channel, block.y + (row - 1) * dilation, first, last, space.data() + row * length);
  const int64_t count = std::min(LINE, map.channels() - channel);
  for (int64_t lane = 0; lane < count; lane += LANES, taps += TAPS * LANES) {
    const auto inputs = [&](int64_t row) { return Inputs{&rows[row], map.width(), dilation, lane ? 0 : map.ahead()}; };
    const auto outputs = [&](int64_t row) { return Outputs{to + row * line + lane, apart, line}; };
    // Neighbours read most of their inputs in common.
    for (int64_t row = 0; row < block.rows;) {
      const int64_t left = block.rows - row, many = left == 4 ? 2 : std::min<int64_t>(left, 3);
      const auto rows_of = many == 3 ? depthwise_rows<3> : many == 2 ? depthwise_rows<2> : depthwise_rows<1>;
      rows_of(inputs(row), block.x, end, taps, outputs(row));
      row += many;
    }
    for (const float*& each : rows) each += LANES;
  }
}

// The same for all channels of maps that lie side by side.
inline void depthwise_block(const std::vector<const Resized*>& maps, const Block& block, int64_t dilation,
                            const float* taps, float* to, int64_t apart) {
  for (const Resized* map : maps) {
    for (int64_t channel = 0; channel < map->channels(); channel += LINE)
      depthwise_line(*map, channel, block, dilation, taps + channel * TAPS, to + channel, apart);
    taps += map->channels() * TAPS, to += map->channels();
  }
}

}  // namespace fastfcn
