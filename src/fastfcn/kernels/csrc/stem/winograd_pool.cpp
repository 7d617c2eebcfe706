// Last 3x3 convolution of a deep stem (Winograd), ReLU and max pooling 3x3 at stride 2, fused.
//
// The map in between, four times as large as the result, never exists. Each thread processes strips of tile rows and
// pools a few tiles' results at once, together with the last column of the tiles to the left and the last row of the
// tiles above. At the end, the last row of each strip is added to the first result row of the next one.
#include <map>
#include <mutex>

#include "common/convolutions.h"
#include "common/register.h"
#include "common/tensors.h"
#include "stem/pool_rows.h"
#include "winograd/few_channels.h"

namespace fastfcn {
namespace {

// All tiles of a batch, row by row, side x side results each; the last ones extend beyond the map.
struct Tiles {
  std::vector<Tile> all;
  int64_t rows, columns;  // tile rows of all images, tiles of a row

  Tiles(const MapShape& map, int64_t batch, int64_t side)
      : rows(batch * ((map.height + side - 1) / side)), columns((map.width + side - 1) / side) {
    for (int64_t image = 0; image < batch; ++image)
      for (int64_t y = 0; y < map.height; y += side)
        for (int64_t x = 0; x < map.width; x += side) all.push_back({image, y, x});
  }
  const Tile* row(int64_t index) const { return all.data() + index * columns; }
};

// Consecutive tile rows, processed by one thread.
class Strip {
 public:
  // `last`: zeros, one row of the map plus a pixel on each side; `out`: (B, h, w, channels), described by `pooled`.
  Strip(const FewChannels& few, const MapShape& map, const MapShape& pooled, const Epilogue& epilogue, float* last,
        float* out)
      : few_(few), map_(map), pooled_(pooled), epilogue_(epilogue), side_(few.plan().rows->results), row_above_(last),
        out_(out), large_(exceeds_cache(map.height, map.width, map.channels)) {
    column_before_.resize((side_ + 1) * map.channels);
  }

  void row(const Tiles& tiles, int64_t index, int64_t end) {
    const Tile* const from = tiles.row(index);
    const int64_t parts = (tiles.columns + few_.batch_size() - 1) / few_.batch_size();
    if (from->y == 0) std::fill_n(row_above_, (map_.width + 2) * map_.channels, 0.f);
    std::fill(column_before_.begin(), column_before_.end(), 0.f);
    for (int64_t part = 0; part < parts; ++part) {
      const int64_t first = tiles.columns * part / parts, next = tiles.columns * (part + 1) / parts;
      part_of_row(from + first, next - first, from + next, std::min(next - first, tiles.row(end) - (from + next)));
    }
  }

 private:
  void part_of_row(const Tile* tiles, int64_t count, const Tile* upcoming, int64_t upcoming_count) {
    const int64_t rows = std::min(side_, map_.height - tiles->y);
    const int64_t columns = std::min(count * side_, map_.width - tiles->x);
    const WorkspaceLayout layout(few_.plan(), count);
    few_.products(layout, tiles, upcoming, upcoming_count, [&](int64_t first, int64_t last, const float* sums) {
      // The tiles' results with one additional row and column before (from earlier tiles) and after (beyond the map).
      const int64_t channel = first * PANEL;
      const MapShape block{rows + 2, columns + 2, std::min(last * PANEL, map_.channels) - channel};
      results_.resize(std::max<size_t>(results_.size(), block.pixel(1, 0, 0)));
      for (int64_t tile = 0; tile < count; ++tile)
        for (int64_t panel = 0; panel < last - first; ++panel)
          transform_results(sums + layout.product_offset(panel, 0, tile), layout.product_stride(), panel,
                            {0, 1, 1 + tile * side_}, few_.plan(), block, results_.data(), epilogue_.at(0, channel));
      join_edges(block, tiles->x, channel);
      pool(*tiles, block, channel);
    });
  }

  // Fills the block's first row and column from earlier tiles, and saves its last row and column for later ones.
  void join_edges(const MapShape& block, int64_t left, int64_t channel) {
    float *const values = results_.data(), *const above = row_above_ + (left + 1) * map_.channels + channel;
    const int64_t rows = block.height - 2, columns = block.width - 2;
    for (int64_t x = 0; x < columns; ++x)
      std::copy_n(above + x * map_.channels, block.channels, values + block.pixel(0, 0, x + 1));
    for (int64_t y = 0; y <= rows; ++y) {
      float* const row = values + block.pixel(0, y, 0);
      float* const before = column_before_.data() + y * map_.channels + channel;
      std::copy_n(before, block.channels, row);
      std::copy_n(row + columns * block.channels, block.channels, before);
      std::fill_n(row + (columns + 1) * block.channels, block.channels, 0.f);
    }
    std::fill_n(values + block.pixel(0, rows + 1, 0), block.width * block.channels, 0.f);
    for (int64_t x = 0; x < columns; ++x)
      std::copy_n(values + block.pixel(0, rows, x + 1), block.channels, above + x * map_.channels);
  }

  void pool(const Tile& first, const MapShape& block, int64_t channel) {
    const int64_t count = (block.width - 1) / POOL_STRIDE;
    float* to = out_ + pooled_.pixel(first.image, first.y / POOL_STRIDE, first.x / POOL_STRIDE) + channel;
    for (int64_t y = 0; y + POOL <= block.height; y += POOL_STRIDE, to += pooled_.pixel(0, 1, 0)) {
      const auto row = [&](int64_t index) { return results_.data() + block.pixel(0, index, 0); };
      pool_rows({row(y), row(y + 1), row(y + 2)}, count, block.channels, to, pooled_.channels, large_);
    }
  }

  const FewChannels& few_;
  const MapShape &map_, &pooled_;
  const Epilogue& epilogue_;
  int64_t side_;
  float *row_above_, *out_;
  bool large_;  // results will be evicted before they are read
  // Per thread; a thread processes one strip after another.
  static inline thread_local Scratch column_before_;  // (side + 1, channels), last column of the tiles before
  static inline thread_local Scratch results_;        // a block of some panels
};

// Processes all tile rows; each part that a thread takes is a strip.
void in_strips(const FewChannels& few, const Tiles& tiles, const MapShape& map, const Epilogue& epilogue,
               const at::Tensor& out) {
  const MapShape pooled{out.size(2), out.size(3), map.channels};
  float* const to = out.mutable_data_ptr<float>();
  std::map<int64_t, Scratch> last_rows;  // last row of each strip, by the tile row after it
  std::mutex mutex;
  dynamic_parallel_for(tiles.rows, 1, [&](int64_t begin, int64_t end) {
    Scratch last((map.width + 2) * map.channels);
    Strip strip(few, map, pooled, epilogue, last.data(), to);
    for (int64_t row = begin; row < end; ++row) strip.row(tiles, row, end);
    finish_nontemporal_stores();
    const std::lock_guard<std::mutex> lock(mutex);
    last_rows.emplace(end, std::move(last));
  });
  last_rows.erase(tiles.rows);
  for (const auto& [next_row, last] : last_rows) {
    const Tile& tile = *tiles.row(next_row);
    if (tile.y > 0)
      pool_rows<true>({last.data(), last.data(), last.data()}, pooled.width, map.channels,
                      to + pooled.pixel(tile.image, tile.y / POOL_STRIDE, 0), map.channels);
  }
}

}  // namespace

// (B, I, H, W) -> (B, O, ceil(H / 2), ceil(W / 2)); `taps`: (panels of O, I, 9, PANEL).
at::Tensor winograd_pool(const at::Tensor& features, const at::Tensor& taps, const at::Tensor& bias, int64_t max_tile) {
  const auto x = channels_last(features);
  const auto offsets = check_vector("bias", bias);
  const int64_t inputs = x.size(1), outputs = offsets.size(0), side = max_tile / POOL_STRIDE * POOL_STRIDE;
  check_channels_and_tile(inputs, outputs, max_tile);
  const auto weights = check_taps(taps, outputs, inputs);
  const AxisTransform& transform = axis_transform(side, 1, false);
  if (transform.points * transform.points * inputs * outputs > MAX_TRANSFORMED_FLOATS)
    return max_pool(winograd(x, weights, offsets, true, 1, 1, max_tile, false));
  auto out = at::empty(convolved_shape(x, offsets, POOL_STRIDE), x.options(), at::MemoryFormat::ChannelsLast);
  if (x.size(0) == 0) return out;
  const MapShape map{x.size(2), x.size(3), outputs};
  const Tiles tiles(map, x.size(0), side);
  const FewChannels few(x, weights, TilePlan(&transform, &transform, {1, 1, side}, tiles.all.size(), inputs));
  in_strips(few, tiles, map, {offsets.const_data_ptr<float>(), nullptr, 0, true}, out);
  return out;
}

FASTFCN_OPERATOR(winograd_pool)

}  // namespace fastfcn
