// Transforms of whole tiles: inputs and weights to Winograd points, and points to results with the epilogue.
#pragma once

#include "common/nontemporal.h"
#include "winograd/tiling.h"

namespace fastfcn {

constexpr int64_t TAPS_PREFETCH_DISTANCE = 6;  // in inputs

// One vector of channels of all inputs of a tile, adjacent in `to`; zeros beyond the map.
inline void gather_inputs(const float* data, const MapShape& map, int64_t image, int64_t top, int64_t left,
                          const TilePlan& plan, Vector* to) {
  for (int row = 0; row < plan.rows->inputs; ++row)
    for (int column = 0; column < plan.columns->inputs; ++column) {
      const int64_t y = top + row * plan.dilation, x = left + column * plan.dilation;
      const bool inside = y >= 0 && y < map.height && x >= 0 && x < map.width;
      *to++ = inside ? load(data + map.pixel(image, y, x)) : Vector{};
    }
}

// Transforms the inputs of one tile, channels [first, last); `out` points to the tile's values of point 0, points are
// `point_stride` floats apart.
inline void transform_inputs(const float* data, const MapShape& map, int64_t first, int64_t last, const Tile& tile,
                             const TilePlan& plan, int64_t point_stride, float* out) {
  const int64_t height = plan.rows->inputs, width = plan.columns->inputs, columns = plan.columns->points;
  const int64_t points = plan.points();
  const int64_t top = tile.y * plan.stride + plan.rows->first * plan.dilation;
  const int64_t left = tile.x * plan.stride + plan.columns->first * plan.dilation;
  const bool inside = top >= 0 && top + (height - 1) * plan.dilation < map.height &&  //
                      left >= 0 && left + (width - 1) * plan.dilation < map.width;
  alignas(CACHE_LINE_BYTES) Vector gathered[MAX_POINTS * MAX_POINTS], half[MAX_POINTS * MAX_POINTS];
  float* const middle = reinterpret_cast<float*>(half);
  const Strides down{width * LANES, LANES}, across{LANES, width * LANES};
  const Strides pixels{plan.dilation * map.width * map.channels, plan.dilation * map.channels};
  for (int64_t channel = first; channel < last; channel += LANES, out += LANES) {
    if (!inside) gather_inputs(data + channel, map, tile.image, top, left, plan, gathered);
    const float* from = inside ? data + channel + map.pixel(tile.image, top, left) : reinterpret_cast<float*>(gathered);
    if ((channel - first + LANES) % CACHE_LINE == 0)  // lines written next, each on another page
      for (int64_t point = 0; point < points; ++point) __builtin_prefetch(out + point * point_stride + LANES, 1);
    if (inside && (channel - first) % CACHE_LINE == 0)  // lines read next
      for (int64_t row = 0; row < height; ++row)
        for (int64_t column = 0; column < width; ++column)
          __builtin_prefetch(from + row * pixels.element + column * pixels.vector + CACHE_LINE);
    plan.rows->inputs_to_points(from, inside ? pixels : down, width, middle, down);
    plan.columns->inputs_to_points(middle, across, plan.rows->points, out, {point_stride, columns * point_stride});
  }
}

// The results of a tile that are on the map, for one panel.
struct TilePixels {
  int64_t rows, columns, channels;
  int64_t right, down, second;  // floats to the next pixel, the one below, and a pixel's second vector
};

// Applies the epilogue to results in `sums` (`width` pixels per row) and stores them; `to` and the residual point to
// the first one.
template <bool RESIDUAL, bool RELU, bool LARGE>
void write_pixels(TilePixels here, const float* sums, int64_t width, const Epilogue& epilogue, float* to) {
  // Copies: the compiler would assume that stores change the originals.
  const float *const bias = epilogue.bias, *const residual = epilogue.residual;
  for (int64_t row = 0; row < here.rows; ++row)
    for (int64_t column = 0; column < here.columns; ++column) {
      const float* const from = sums + (row * width + column) * PANEL;
      int64_t offset = row * here.down + column * here.right;
      for (int64_t channel = 0; channel < here.channels; channel += LANES, offset += here.second) {
        Vector value = load(from + channel) + load(bias + channel);
        if constexpr (RESIDUAL) value += load(residual + offset);
        if constexpr (RELU) value = positive(value);
        LARGE ? store_nontemporal(to + offset, value) : store(to + offset, value);
      }
    }
}

// Selects the variant. A map with a residual is in the caches already, so it needs no non-temporal stores.
inline auto pixel_writer(bool residual, bool relu, bool large) {
  if (residual) return relu ? write_pixels<true, true, false> : write_pixels<true, false, false>;
  if (large) return relu ? write_pixels<false, true, true> : write_pixels<false, false, true>;
  return relu ? write_pixels<false, true, false> : write_pixels<false, false, false>;
}

// Transforms one tile's products of one panel to results and writes them; points are `point_stride` floats apart.
inline void transform_results(const float* from, int64_t point_stride, int64_t panel, const Tile& tile,
                              const TilePlan& plan, const MapShape& map, float* out, const Epilogue& epilogue) {
  const int height = plan.rows->results, width = plan.columns->results;
  const int64_t rows = std::min<int64_t>(height, (map.height - tile.y - 1) / plan.dilation + 1);
  const int64_t columns = std::min<int64_t>(width, (map.width - tile.x - 1) / plan.dilation + 1);
  const int64_t begin = panel * PANEL, channels = std::min(PANEL, map.channels - begin);
  const bool large = !epilogue.residual && exceeds_cache(map.height, map.width, map.channels);
  // Copies: the compiler would assume that stores change the originals.
  const MapShape to = map;
  const int64_t first = to.pixel(tile.image, tile.y, tile.x);
  const int64_t right = plan.dilation * to.pixel_stride, down = right * to.width;
  out += to.channel(begin) + first;
  if (!large)
    for (int row = 0; row < rows; ++row)
      for (int column = 0; column < columns; ++column)
        for (int64_t channel = 0; channel < channels; channel += CACHE_LINE)
          __builtin_prefetch(out + row * down + column * right + to.channel(channel), 1);
  // Whole cache lines are collected before any is written: non-temporal stores of half lines would write each line
  // twice.
  alignas(CACHE_LINE_BYTES) Vector values[MAX_RESULTS * MAX_RESULTS * VECTORS], half[MAX_RESULTS * MAX_POINTS];
  float *const middle = reinterpret_cast<float*>(half), *const whole = reinterpret_cast<float*>(values);
  const int64_t across = plan.columns->points, points = plan.points();
  for (int64_t channel = 0; channel < channels; channel += LANES, from += LANES) {
    if (channel % CACHE_LINE == 0)  // products of the next tile
      for (int64_t point = 0; point < points; ++point) __builtin_prefetch(from + point * point_stride + PANEL);
    plan.rows->points_to_results(from, {across * point_stride, point_stride}, across, middle, {across * LANES, LANES});
    plan.columns->points_to_results(middle, {LANES, across * LANES}, height, whole + channel, {PANEL, width * PANEL});
  }
  Epilogue here = epilogue.at(0, begin);
  if (here.residual) here.residual += first;
  const TilePixels pixels{rows, columns, channels, right, down, to.channel(LANES)};
  pixel_writer(here.residual, here.relu, large)(pixels, whole, width, here, out);
}

// Transforms rows [first, last) of a tile's weights, (depth, 9, PANEL) -> (weights, depth, PANEL), weights
// `point_stride` floats apart.
inline void transform_weights(const float* taps, int64_t depth, const TilePlan& plan, int first, int last,
                              int64_t point_stride, float* out) {
  const int64_t columns = plan.columns->weights;
  float down[MAX_POINTS][3];  // a copy: the compiler would assume that stores change it
  std::copy_n(plan.rows->taps[first], (last - first) * 3, down[0]);
  for (int64_t k = 0; k < depth; ++k) {
    Prefetch{taps + (k + TAPS_PREFETCH_DISTANCE) * 9 * PANEL, 9 * PANEL / CACHE_LINE}.issue();
    plan.columns->taps_to_points(taps + k * 9 * PANEL, down, last - first, out + k * PANEL,
                                 {point_stride, columns * point_stride});
  }
}

// Prefetching of the inputs of upcoming tiles, those in the first one's row, in as many parts as a tile has points.
class InputPrefetch {
 public:
  InputPrefetch(const float* data, const MapShape& map, const TilePlan& plan, const Tile* tiles, int64_t count)
      : data_(data), map_(map), plan_(plan) {
    if (count == 0) return;
    const Tile *last = tiles, *end = tiles + count;
    while (last + 1 < end && last[1].image == tiles->image && last[1].y == tiles->y) ++last;
    image_ = tiles->image;
    top_ = tiles->y * plan.stride + plan.rows->first * plan.dilation;
    left_ = std::max<int64_t>(0, tiles->x * plan.stride + plan.columns->first * plan.dilation);
    right_ = last->x * plan.stride + (plan.columns->first + plan.columns->inputs) * plan.dilation;
  }

  // A part's address and number of floats; none beyond the map.
  std::pair<const float*, int64_t> part(int64_t point) const {
    const int64_t columns = plan_.columns->points, y = top_ + point / columns * plan_.dilation;
    const int64_t size = (std::min(right_, map_.width) - left_) * map_.channels / columns;
    if (y < 0 || y >= map_.height || size <= 0) return {nullptr, 0};
    return {data_ + map_.pixel(image_, y, left_) + point % columns * size, size};
  }

 private:
  const float* data_;
  const MapShape& map_;
  const TilePlan& plan_;
  int64_t image_ = 0, top_ = 0, left_ = 0, right_ = 0;
};

}  // namespace fastfcn
