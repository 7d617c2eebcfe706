// What Winograd's form does with a tile before and after its products: inputs, weights and results, transformed.
#pragma once

#include "common/nontemporal.h"
#include "winograd/tiling.h"

namespace fastfcn {

constexpr int64_t AHEAD = 6;  // inputs whose weights are fetched before they are needed

// A vector of channels of a tile's inputs, side by side in `to`; zeros beyond the map.
inline void gather_inputs(const float* data, const Map& map, int64_t image, int64_t top, int64_t left, const Kind& kind,
                          Vector* to) {
  for (int row = 0; row < kind.rows->inputs; ++row)
    for (int column = 0; column < kind.columns->inputs; ++column) {
      const int64_t y = top + row * kind.dilation, x = left + column * kind.dilation;
      const bool inside = y >= 0 && y < map.height && x >= 0 && x < map.width;
      *to++ = inside ? load(data + map.pixel(image, y, x)) : Vector{};
    }
}

// The inputs of one tile in channels [first, last), transformed; its place in `out` is that of its first place.
inline void transform_inputs(const float* data, const Map& map, int64_t first, int64_t last, const Tile& tile,
                             const Kind& kind, int64_t apart, float* out) {
  const int64_t height = kind.rows->inputs, width = kind.columns->inputs, columns = kind.columns->places;
  const int64_t places = kind.places();
  const int64_t top = tile.y * kind.stride + kind.rows->first * kind.dilation;
  const int64_t left = tile.x * kind.stride + kind.columns->first * kind.dilation;
  const bool inside = top >= 0 && top + (height - 1) * kind.dilation < map.height &&  //
                      left >= 0 && left + (width - 1) * kind.dilation < map.width;
  alignas(LINE_BYTES) Vector given[MOST_PLACES * MOST_PLACES], half[MOST_PLACES * MOST_PLACES];
  float* const middle = reinterpret_cast<float*>(half);
  const Steps down{width * LANES, LANES}, across{LANES, width * LANES};
  const Steps pixels{kind.dilation * map.width * map.channels, kind.dilation * map.channels};
  for (int64_t channel = first; channel < last; channel += LANES, out += LANES) {
    if (!inside) gather_inputs(data + channel, map, tile.image, top, left, kind, given);
    const float* from = inside ? data + channel + map.pixel(tile.image, top, left) : reinterpret_cast<float*>(given);
    if ((channel - first + LANES) % LINE == 0)  // what is written next, each line far from the last
      for (int64_t place = 0; place < places; ++place) __builtin_prefetch(out + place * apart + LANES, 1);
    if (inside && (channel - first) % LINE == 0)  // and what is read next
      for (int64_t row = 0; row < height; ++row)
        for (int64_t column = 0; column < width; ++column)
          __builtin_prefetch(from + row * pixels.value + column * pixels.line + LINE);
    kind.rows->into(from, inside ? pixels : down, width, middle, down);
    kind.columns->into(middle, across, kind.rows->places, out, {apart, columns * apart});
  }
}

// Those results of a tile that lie on the map, in one panel.
struct TilePixels {
  int64_t rows, columns, channels;
  int64_t right, down, second;  // floats to the next pixel, to the one below, and to a pixel's second vector
};

// They are finished and written from `sums`, `width` pixels to a row, `to` where the first of them lies, as does its
// residual.
template <bool RESIDUAL, bool RELU, bool LARGE>
void write_pixels(TilePixels here, const float* sums, int64_t width, const Ending& ending, float* to) {
  // Copies, which no store can change.
  const float *const bias = ending.bias, *const residual = ending.residual;
  for (int64_t row = 0; row < here.rows; ++row)
    for (int64_t column = 0; column < here.columns; ++column) {
      const float* const from = sums + (row * width + column) * PANEL;
      int64_t place = row * here.down + column * here.right;
      for (int64_t channel = 0; channel < here.channels; channel += LANES, place += here.second) {
        Vector value = load(from + channel) + load(bias + channel);
        if constexpr (RESIDUAL) value += load(residual + place);
        if constexpr (RELU) value = positive(value);
        LARGE ? stream(to + place, value) : store(to + place, value);
      }
    }
}

// The one for what is to be done; a map with a residual is in the caches already.
inline auto pixel_writer(bool residual, bool relu, bool large) {
  if (residual) return relu ? write_pixels<true, true, false> : write_pixels<true, false, false>;
  if (large) return relu ? write_pixels<false, true, true> : write_pixels<false, false, true>;
  return relu ? write_pixels<false, true, false> : write_pixels<false, false, false>;
}

// One panel of the results of one tile, from its products, places `apart` floats from each other.
inline void transform_results(const float* from, int64_t apart, int64_t panel, const Tile& tile, const Kind& kind,
                              const Map& map, float* out, const Ending& ending) {
  const int height = kind.rows->results, width = kind.columns->results;
  const int64_t rows = std::min<int64_t>(height, (map.height - tile.y - 1) / kind.dilation + 1);
  const int64_t columns = std::min<int64_t>(width, (map.width - tile.x - 1) / kind.dilation + 1);
  const int64_t begin = panel * PANEL, channels = std::min(PANEL, map.channels - begin);
  const bool large = !ending.residual && is_large(map.height, map.width, map.channels);
  // Copies, which no store can change.
  const Map to = map;
  const int64_t first = to.pixel(tile.image, tile.y, tile.x);
  const int64_t right = kind.dilation * to.step, down = right * to.width;
  out += to.channel(begin) + first;
  if (!large)
    for (int row = 0; row < rows; ++row)
      for (int column = 0; column < columns; ++column)
        for (int64_t channel = 0; channel < channels; channel += LINE)
          __builtin_prefetch(out + row * down + column * right + to.channel(channel), 1);
  // A whole line of the cache of each pixel is there before any is written: halves would be written past it twice.
  alignas(LINE_BYTES) Vector values[MOST_RESULTS * MOST_RESULTS * VECTORS], half[MOST_RESULTS * MOST_PLACES];
  float *const middle = reinterpret_cast<float*>(half), *const whole = reinterpret_cast<float*>(values);
  const int64_t across = kind.columns->places, places = kind.places();
  for (int64_t channel = 0; channel < channels; channel += LANES, from += LANES) {
    if (channel % LINE == 0)  // of the next tile
      for (int64_t place = 0; place < places; ++place) __builtin_prefetch(from + place * apart + PANEL);
    kind.rows->back(from, {across * apart, apart}, across, middle, {across * LANES, LANES});
    kind.columns->back(middle, {LANES, across * LANES}, height, whole + channel, {PANEL, width * PANEL});
  }
  Ending here = ending.at(0, begin);
  if (here.residual) here.residual += first;
  const TilePixels pixels{rows, columns, channels, right, down, to.channel(LANES)};
  pixel_writer(here.residual, here.relu, large)(pixels, whole, width, here, out);
}

// Rows [first, last) of a tile's weights, transformed: (weights, depth, PANEL), each `apart` floats from the next, from
// (depth, 9, PANEL).
inline void transform_weights(const float* taps, int64_t depth, const Kind& kind, int first, int last, int64_t apart,
                              float* out) {
  const int64_t columns = kind.columns->weights;
  float down[MOST_PLACES][3];  // a copy, which no store can change
  std::copy_n(kind.rows->taps[first], (last - first) * 3, down[0]);
  for (int64_t k = 0; k < depth; ++k) {
    Ahead{taps + (k + AHEAD) * 9 * PANEL, 9 * PANEL / LINE}.ask();
    kind.columns->weigh(taps + k * 9 * PANEL, down, last - first, out + k * PANEL, {apart, columns * apart});
  }
}

// The inputs that tiles will read, those in one row with the first of them, in as many parts as a tile has places.
class Coming {
 public:
  Coming(const float* data, const Map& map, const Kind& kind, const Tile* tiles, int64_t count)
      : data_(data), map_(map), kind_(kind) {
    if (count == 0) return;
    const Tile *last = tiles, *end = tiles + count;
    while (last + 1 < end && last[1].image == tiles->image && last[1].y == tiles->y) ++last;
    image_ = tiles->image;
    top_ = tiles->y * kind.stride + kind.rows->first * kind.dilation;
    left_ = std::max<int64_t>(0, tiles->x * kind.stride + kind.columns->first * kind.dilation);
    right_ = last->x * kind.stride + (kind.columns->first + kind.columns->inputs) * kind.dilation;
  }

  // Where a part begins, and its floats; none beyond the map.
  std::pair<const float*, int64_t> part(int64_t place) const {
    const int64_t columns = kind_.columns->places, y = top_ + place / columns * kind_.dilation;
    const int64_t size = (std::min(right_, map_.width) - left_) * map_.channels / columns;
    if (y < 0 || y >= map_.height || size <= 0) return {nullptr, 0};
    return {data_ + map_.pixel(image_, y, left_) + place % columns * size, size};
  }

 private:
  const float* data_;
  const Map& map_;
  const Kind& kind_;
  int64_t image_ = 0, top_ = 0, left_ = 0, right_ = 0;
};

}  // namespace fastfcn
