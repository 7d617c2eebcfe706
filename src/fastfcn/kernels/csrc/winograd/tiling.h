// How a map is divided into Winograd tiles, and the memory layout of their points.
#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <map>
#include <vector>

#include "common/arguments.h"
#include "common/cache_sizes.h"
#include "winograd/axis_transforms.h"

namespace fastfcn {

constexpr int64_t WORKSPACE = 6 << 20;               // floats of transformed inputs and products: most of the LLC
constexpr int64_t FEW_TILES = 64;                    // with fewer, transforming weights dominates
constexpr int64_t WEIGHT_TRANSFORM_TILES = 8;        // cost of transforming weights, in tiles multiplied
constexpr int64_t PLAN_OVERHEAD_PRODUCTS = 200'000;  // cost of another tile size, in products
constexpr size_t MAX_CACHED_TILINGS = 1000;          // layers and sizes

// Floats of transformed weights at a time: half of L2.
inline int64_t cached_weight_floats() { return std::clamp<int64_t>(l2_floats() / 2, 1 << 15, 1 << 17); }

inline void check_channels_and_tile(int64_t inputs, int64_t outputs, int64_t max_tile) {
  check_lanes(inputs), check_lanes(outputs);
  TORCH_CHECK(max_tile >= 3 && max_tile <= MAX_RESULTS, "tiles must have 3 to ", MAX_RESULTS,
              " results along an axis, got ", max_tile);
}

// Stride and dilation of the 3x3 taps, and most results of a tile along an axis.
struct Window {
  int64_t stride, dilation, max_tile;
};

// Shape and strides of a map, channels last or channel-blocked (channel_blocks.h).
struct MapShape {
  int64_t height, width, channels;
  int64_t pixel_stride, block_stride;  // floats between pixels, and between channel blocks

  MapShape(int64_t height, int64_t width, int64_t channels, bool channel_blocked = false)
      : height(height), width(width), channels(channels), pixel_stride(channel_blocked ? CACHE_LINE : channels),
        block_stride(channel_blocked ? height * width * CACHE_LINE : CACHE_LINE) {}

  int64_t pixel(int64_t image, int64_t y, int64_t x) const {
    return image * height * width * channels + (y * width + x) * pixel_stride;
  }
  int64_t channel(int64_t index) const { return index / CACHE_LINE * block_stride + index % CACHE_LINE; }
};

struct Tile {
  int64_t image, y, x;  // position of its first result
};

struct Segment {  // of an axis: first result and transforms of a tile
  int64_t start;
  const AxisTransform* axis;
};

// Tiles of one size, and how they are processed: `weight_rows` rows of weight points at a time, `depth` inputs at a
// time.
struct TilePlan {
  const AxisTransform *rows, *columns;
  int64_t stride, dilation, tiles, weight_rows, depth;

  TilePlan(const AxisTransform* rows, const AxisTransform* columns, const Window& window, int64_t tiles, int64_t inputs)
      : rows(rows), columns(columns), stride(window.stride), dilation(window.dilation), tiles(tiles) {
    // With many tiles, few rows at a time: more inputs then fit in cache, and partial sums are read and written less
    // often.
    weight_rows = tiles < FEW_TILES ? rows->weights : std::min(rows->weights, std::max(1, 16 / columns->points));
    depth = std::min(inputs, cached_weight_floats() / (weight_rows * columns->weights * PANEL) / LANES * LANES);
  }
  int64_t points() const { return rows->points * columns->points; }
  int64_t weights() const { return rows->weights * columns->weights; }
  // Index of the weights that a point uses.
  int64_t weight(int64_t point) const {
    return rows->weight(point / columns->points) * columns->weights + columns->weight(point % columns->points);
  }
};

// Layout of the workspace: the transformed inputs of `depth` channels, then all products, so that matrix products read
// and write contiguous memory.
struct WorkspaceLayout {
  const TilePlan& plan;
  int64_t tiles;
  // Tiles multiplied together: groups of `min_tiles`, or one more in the first `larger_groups`; a group of a few rows
  // would take nearly as long as a full one. Stored, because a division per product would be slow.
  int64_t groups, min_tiles, larger_groups;

  WorkspaceLayout(const TilePlan& plan, int64_t tiles)
      : plan(plan), tiles(tiles), groups((tiles + ROWS - 1) / ROWS), min_tiles(tiles / groups),
        larger_groups(tiles % groups) {}

  // Odd numbers of cache lines: addresses a power of two apart would map to the same cache sets.
  int64_t tile_stride() const { return plan.depth + CACHE_LINE; }
  int64_t input_stride() const { return tiles * tile_stride() + 3 * CACHE_LINE; }  // between points
  int64_t product_stride() const { return tiles * PANEL + 3 * CACHE_LINE; }

  int64_t input_offset(int64_t point, int64_t tile) const { return point * input_stride() + tile * tile_stride(); }
  int64_t product_offset(int64_t panel, int64_t point, int64_t tile) const {
    return (panel * plan.points() + point) * product_stride() + tile * PANEL;
  }
  int64_t size(int64_t panels) const { return plan.points() * (input_stride() + panels * product_stride()); }
};

struct AxisTiling {
  std::vector<Segment> segments;
  std::map<const AxisTransform*, int64_t> counts;  // number of segments with each transform
};

// The segments of an axis of `length`, for each phase of the dilation, with at most `max_tile` results each: of equal
// length if `even`, else of full length with the last one extending beyond the map.
inline AxisTiling tile_axis(int64_t length, const Window& window, int64_t max_tile, bool even) {
  const int64_t dilation = window.dilation;
  AxisTiling result;
  for (int64_t phase = 0; phase < std::min(dilation, length); ++phase) {
    const int64_t count = (length - phase - 1) / dilation + 1, parts = (count + max_tile - 1) / max_tile;
    for (int64_t part = 0; part < parts; ++part) {
      const int64_t begin = even ? count * part / parts : part * max_tile;
      const int64_t size = even || count <= 2 ? count * (part + 1) / parts - begin : max_tile;
      result.segments.push_back({phase + begin * dilation, &axis_transform(size, window.stride, parts == 1)});
      ++result.counts[result.segments.back().axis];
    }
  }
  return result;
}

// The divisions of both axes that take the fewest products.
inline std::pair<AxisTiling, AxisTiling> best_tiling(const MapShape& results, int64_t inputs, int64_t batch,
                                                     const Window& window) {
  std::vector<AxisTiling> down, across;
  const bool strided = window.stride > 1;
  for (int64_t length = strided ? MAX_STRIDED_RESULTS : window.max_tile; length >= (strided ? 2 : 3); --length)
    for (const bool even : {true, false}) {
      down.push_back(tile_axis(results.height, window, length, even));
      across.push_back(tile_axis(results.width, window, length, even));
    }
  const int64_t begin = WEIGHT_TRANSFORM_TILES + PLAN_OVERHEAD_PRODUCTS / (inputs * results.channels);
  std::pair<AxisTiling, AxisTiling> best;
  int64_t fewest = std::numeric_limits<int64_t>::max();
  for (const AxisTiling& rows : down)
    for (const AxisTiling& columns : across) {
      int64_t products = 0;
      for (const auto& [row, height] : rows.counts)
        for (const auto& [column, width] : columns.counts)
          products += row->points * column->points * batch * height * width + row->weights * column->weights * begin;
      if (products < fewest) fewest = products, best = {rows, columns};
    }
  return best;
}

// best_tiling, cached: the search takes as long as some layers' transforms.
inline const std::pair<AxisTiling, AxisTiling>& cached_tiling(const MapShape& results, int64_t inputs, int64_t batch,
                                                              const Window& window) {
  using Key = std::array<int64_t, 8>;
  static thread_local std::map<Key, std::pair<AxisTiling, AxisTiling>> cache;
  const Key key{results.height, results.width, results.channels, inputs,
                batch,          window.stride, window.dilation,  window.max_tile};
  auto entry = cache.find(key);
  if (entry == cache.end()) {
    if (cache.size() == MAX_CACHED_TILINGS) cache.clear();
    entry = cache.emplace(key, best_tiling(results, inputs, batch, window)).first;
  }
  return entry->second;
}

// All tiles with these transforms.
inline std::vector<Tile> list_tiles(const AxisTiling& rows, const AxisTransform* row_transform,
                                    const AxisTiling& columns, const AxisTransform* column_transform, int64_t batch) {
  std::vector<Tile> tiles;
  for (int64_t image = 0; image < batch; ++image)
    for (const Segment& row : rows.segments)
      for (const Segment& column : columns.segments)
        if (row.axis == row_transform && column.axis == column_transform)
          tiles.push_back({image, row.start, column.start});
  return tiles;
}

// Calls `work(plan, tiles)` for each combination of row and column transforms.
template <class Work>
void for_each_plan(const MapShape& results, int64_t inputs, int64_t batch, const Window& window, const Work& work) {
  const auto& [rows, columns] = cached_tiling(results, inputs, batch, window);
  for (const auto& [row, height] : rows.counts)
    for (const auto& [column, width] : columns.counts)
      work(TilePlan(row, column, window, batch * height * width, inputs),
           list_tiles(rows, row, columns, column, batch));
}

// Batches of tiles: at most `max_tiles`, and as many as fit in `room` floats.
class TileBatches {
 public:
  TileBatches(const TilePlan& plan, int64_t outputs, int64_t max_tiles, int64_t room) : plan_(plan), outputs_(outputs) {
    const int64_t width = plan.depth + CACHE_LINE + panel_count(outputs) * PANEL;
    batch_size_ = std::max<int64_t>(ROWS, std::min(max_tiles, room / (plan.points() * width)));
  }

  int64_t batch_size() const { return batch_size_; }
  // Workspace floats for `count` tiles.
  int64_t size(int64_t count) const {
    return WorkspaceLayout(plan_, (count + batches(count) - 1) / batches(count)).size(panel_count(outputs_));
  }

  // Calls `work(layout, tiles, inputs, products)` for batches of `count` tiles, in `space`.
  template <class Work>
  void run(const Tile* tiles, int64_t count, float* space, const Work& work) const {
    for (int64_t batch = 0, all = batches(count); batch < all; ++batch) {
      const int64_t begin = count * batch / all, end = count * (batch + 1) / all;
      const WorkspaceLayout layout(plan_, end - begin);
      work(layout, tiles + begin, space, space + layout.input_offset(plan_.points(), 0));
    }
  }

 private:
  int64_t batches(int64_t count) const { return (count + batch_size_ - 1) / batch_size_; }

  const TilePlan& plan_;
  int64_t outputs_, batch_size_;
};

// The same for all tiles, in a new workspace.
template <class Work>
void for_each_batch(const TilePlan& plan, const std::vector<Tile>& all, int64_t outputs, int64_t max_tiles,
                    const at::TensorOptions& options, const Work& work) {
  const TileBatches batches(plan, outputs, max_tiles, WORKSPACE);
  const int64_t count = all.size();
  const auto space = at::empty({batches.size(count)}, options);
  batches.run(all.data(), count, space.mutable_data_ptr<float>(), work);
}

}  // namespace fastfcn
