// Blocks of pixels of a map, and the depthwise 3x3 convolution of one of them, of maps resized as they are read.
#pragma once

#include "resized.h"
#include "tensors.h"

namespace fastfcn {

// Of a block, whose inputs and results share the second cache with the weights; and of one of its rows.
constexpr int64_t PIXELS = 96, WIDEST = 36;

// Results that are worked off together: rows of `count` pixels from (y, x) on, a dilation apart, as each of them reads
// what the next one reads.
struct Block {
  int64_t y, rows, x, count;

  int64_t pixels() const { return rows * count; }
};

// All results of an image, row by row of each of the dilation's phases; the smaller blocks are the last ones, so that
// no thread waits long for another.
inline std::vector<Block> blocks(int64_t height, int64_t width, int64_t dilation) {
  const int64_t parts = (width + WIDEST - 1) / WIDEST, together = std::max<int64_t>(1, PIXELS * parts / width);
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

// Depthwise 3x3 of LANES channels: MANY rows of `count` pixels, from MANY + 2 rows of inputs, which lie `length` floats
// apart and begin a dilation before. Results lie `apart` floats apart, their rows `line`.
template <int MANY>
void depthwise_rows(const float* inputs, int64_t length, int64_t count, int64_t dilation, const float* taps, float* to,
                    int64_t apart, int64_t line) {
  Vector weights[TAPS];
  for (int tap = 0; tap < TAPS; ++tap) weights[tap] = load(taps + tap * LANES);
  const int64_t middle = dilation * LANES;
  for (int64_t at = 0; at < count * LANES; at += LANES, to += apart) {
    Vector sums[MANY] = {};
#pragma GCC unroll 8
    for (int row = 0; row < MANY + 2; ++row)
#pragma GCC unroll 3
      for (int column = 0; column < 3; ++column) {
        const Vector value = load(inputs + row * length + column * middle + at);
#pragma GCC unroll 3
        for (int tap_row = 0; tap_row < 3; ++tap_row)
          if (row >= tap_row && row - tap_row < MANY) sums[row - tap_row] += weights[3 * tap_row + column] * value;
      }
    for (int row = 0; row < MANY; ++row) store(to + row * line, sums[row]);
  }
}

// The same for SLICES times LANES channels of a map, and all rows of a block.
template <int SLICES>
void depthwise_slices(const Resized& map, int64_t channel, const Block& block, int64_t dilation, const float* taps,
                      float* to, int64_t apart) {
  static thread_local Scratch space;
  const int64_t length = (block.count + 2 * dilation) * LANES, line = block.count * apart;
  const int64_t slice_apart = (block.rows + 2) * length;
  space.resize(SLICES * slice_apart);
  for (int64_t row = 0; row < block.rows + 2; ++row)
    map.read<SLICES>(channel, block.y + (row - 1) * dilation, block.x - dilation, block.x + block.count + dilation,
                     space.data() + row * length, slice_apart);
  for (int slice = 0; slice < SLICES; ++slice, taps += TAPS * LANES, to += LANES) {
    const float* from = space.data() + slice * slice_apart;
    int64_t row = 0;
    for (; row + 3 <= block.rows; row += 3)  // neighbours read most of their inputs in common
      depthwise_rows<3>(from + row * length, length, block.count, dilation, taps, to + row * line, apart, line);
    for (; row < block.rows; ++row)
      depthwise_rows<1>(from + row * length, length, block.count, dilation, taps, to + row * line, apart, line);
  }
}

// The same for all channels of maps that lie side by side, a line of the cache of each pixel at a time.
inline void depthwise_block(const std::vector<const Resized*>& maps, const Block& block, int64_t dilation,
                            const float* taps, float* to, int64_t apart) {
  constexpr int SLICES = LINE / LANES;
  for (const Resized* map : maps) {
    int64_t channel = 0;
    for (; channel + LINE <= map->channels(); channel += LINE, taps += TAPS * LINE, to += LINE)
      depthwise_slices<SLICES>(*map, channel, block, dilation, taps, to, apart);
    for (; channel < map->channels(); channel += LANES, taps += TAPS * LANES, to += LANES)
      depthwise_slices<1>(*map, channel, block, dilation, taps, to, apart);
  }
}

}  // namespace fastfcn
