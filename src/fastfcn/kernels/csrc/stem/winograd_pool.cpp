// The last convolution of a stem, 3x3 in Winograd's form, its ReLU, and max pooling 3x3 at stride 2.
//
// The map in between, four times as large as the result, never exists. A thread takes strips of rows of tiles, and
// pools the results of a few tiles as soon as it has them, with the last column of the tiles before and the last row of
// the tiles above; the last row of one strip is added to the first results of the next at the end.
#include <map>
#include <mutex>

#include "common/convolutions.h"
#include "common/register.h"
#include "common/tensors.h"
#include "stem/pool_rows.h"
#include "winograd/few_channels.h"

namespace fastfcn {
namespace {

// The tiles of a batch, row by row, all of `side` x `side` results, of which the last ones reach beyond the map.
struct Tiles {
  std::vector<Tile> all;
  int64_t rows, columns;  // of all images, and of each row

  Tiles(const Map& map, int64_t batch, int64_t side)
      : rows(batch * ((map.height + side - 1) / side)), columns((map.width + side - 1) / side) {
    for (int64_t image = 0; image < batch; ++image)
      for (int64_t y = 0; y < map.height; y += side)
        for (int64_t x = 0; x < map.width; x += side) all.push_back({image, y, x});
  }
  const Tile* row(int64_t index) const { return all.data() + index * columns; }
};

// Some rows of tiles, worked off one after the other by one thread.
class Strip {
 public:
  // `last`: zeros, for a row of the map and one pixel on either side; `out`: (B, h, w, channels), of `pooled`.
  Strip(const FewChannels& few, const Map& map, const Map& pooled, const Ending& ending, float* last, float* out)
      : few_(few), map_(map), pooled_(pooled), ending_(ending), side_(few.kind().rows->results), last_(last), out_(out),
        large_(is_large(map.height, map.width, map.channels)) {
    before_.resize((side_ + 1) * map.channels);
  }

  void row(const Tiles& tiles, int64_t index, int64_t end) {
    const Tile* const from = tiles.row(index);
    const int64_t parts = (tiles.columns + few_.held() - 1) / few_.held(), floats = (map_.width + 2) * map_.channels;
    if (from->y == 0) std::fill_n(last_, floats, 0.f);
    std::fill(before_.begin(), before_.end(), 0.f);
    for (int64_t part = 0; part < parts; ++part) {
      const int64_t first = tiles.columns * part / parts, next = tiles.columns * (part + 1) / parts;
      part_of_row(from + first, next - first, from + next, std::min(next - first, tiles.row(end) - (from + next)));
    }
  }

 private:
  void part_of_row(const Tile* tiles, int64_t count, const Tile* coming, int64_t coming_count) {
    const int64_t rows = std::min(side_, map_.height - tiles->y),
                  columns = std::min(count * side_, map_.width - tiles->x);
    const Layout layout(few_.kind(), count);
    few_.products(layout, tiles, coming, coming_count, [&](int64_t first, int64_t last, const float* sums) {
      // With a row and a column of what is there already, and of what lies beyond the map.
      const int64_t channel = first * PANEL;
      const Map block{rows + 2, columns + 2, std::min(last * PANEL, map_.channels) - channel};
      results_.resize(std::max<size_t>(results_.size(), block.pixel(1, 0, 0)));
      for (int64_t tile = 0; tile < count; ++tile)
        for (int64_t panel = 0; panel < last - first; ++panel)
          transform_results(sums + layout.sum(panel, 0, tile), layout.sums_apart(), panel, {0, 1, 1 + tile * side_},
                            few_.kind(), block, results_.data(), ending_.at(0, channel));
      join(block, tiles->x, channel);
      pool(*tiles, block, channel);
    });
  }

  // The block's edges from what is there already, which is then the block's last row and column.
  void join(const Map& block, int64_t left, int64_t channel) {
    float *const values = results_.data(), *const above = last_ + (left + 1) * map_.channels + channel;
    const int64_t rows = block.height - 2, columns = block.width - 2;
    for (int64_t x = 0; x < columns; ++x)
      std::copy_n(above + x * map_.channels, block.channels, values + block.pixel(0, 0, x + 1));
    for (int64_t y = 0; y <= rows; ++y) {
      float *const row = values + block.pixel(0, y, 0), *const before = before_.data() + y * map_.channels + channel;
      std::copy_n(before, block.channels, row);
      std::copy_n(row + columns * block.channels, block.channels, before);
      std::fill_n(row + (columns + 1) * block.channels, block.channels, 0.f);
    }
    std::fill_n(values + block.pixel(0, rows + 1, 0), block.width * block.channels, 0.f);
    for (int64_t x = 0; x < columns; ++x)
      std::copy_n(values + block.pixel(0, rows, x + 1), block.channels, above + x * map_.channels);
  }

  void pool(const Tile& first, const Map& block, int64_t channel) {
    const int64_t count = (block.width - 1) / POOL_STRIDE;
    float* to = out_ + pooled_.pixel(first.image, first.y / POOL_STRIDE, first.x / POOL_STRIDE) + channel;
    for (int64_t y = 0; y + POOL <= block.height; y += POOL_STRIDE, to += pooled_.pixel(0, 1, 0)) {
      const auto row = [&](int64_t index) { return results_.data() + block.pixel(0, index, 0); };
      pool_rows({row(y), row(y + 1), row(y + 2)}, count, block.channels, to, pooled_.channels, large_);
    }
  }

  const FewChannels& few_;
  const Map &map_, &pooled_;
  const Ending& ending_;
  int64_t side_;
  float *last_, *out_;
  bool large_;  // the map in between: until its result is read, as much has gone through the caches
  // Of the calling thread, which works off one strip after the other.
  static inline thread_local Scratch before_;   // (side + 1, channels): the last column, with the row above
  static inline thread_local Scratch results_;  // a block, of some panels
};

// All rows of tiles; each part that a thread gets of them is a strip.
void in_strips(const FewChannels& few, const Tiles& tiles, const Map& map, const Ending& ending,
               const at::Tensor& out) {
  const Map pooled{out.size(2), out.size(3), map.channels};
  float* const to = out.mutable_data_ptr<float>();
  std::map<int64_t, Scratch> last_rows;  // of each strip, by the row of tiles behind it
  std::mutex mutex;
  share_out(tiles.rows, 1, [&](int64_t begin, int64_t end) {
    Scratch last((map.width + 2) * map.channels);
    Strip strip(few, map, pooled, ending, last.data(), to);
    for (int64_t row = begin; row < end; ++row) strip.row(tiles, row, end);
    finish_streams();
    const std::lock_guard<std::mutex> lock(mutex);
    last_rows.emplace(end, std::move(last));
  });
  last_rows.erase(tiles.rows);
  for (const auto& [behind, last] : last_rows) {
    const Tile& tile = *tiles.row(behind);
    if (tile.y > 0)
      pool_rows<true>({last.data(), last.data(), last.data()}, pooled.width, map.channels,
                      to + pooled.pixel(tile.image, tile.y / POOL_STRIDE, 0), map.channels);
  }
}

}  // namespace

// (B, C, H, W) -> (B, outputs, ceil(H / 2), ceil(W / 2)); `taps`: (panels, inputs, 9, PANEL).
at::Tensor winograd_pool(const at::Tensor& features, const at::Tensor& taps, const at::Tensor& bias, int64_t longest) {
  const auto x = channels_last(features);
  const int64_t inputs = x.size(1), outputs = bias.size(0), side = longest / POOL_STRIDE * POOL_STRIDE;
  check_winograd(inputs, outputs, longest);
  const Axis& form = axis(side, 1, false);
  if (form.places * form.places * inputs * outputs > FEW_TRANSFORMED)
    return max_pool(winograd(x, taps, bias, true, 1, 1, longest, false));
  const Map map{x.size(2), x.size(3), outputs};
  const Tiles tiles(map, x.size(0), side);
  const FewChannels few(x, taps, Kind(&form, &form, {1, 1, side}, tiles.all.size(), inputs));
  auto out = at::empty(convolved_shape(x, bias, POOL_STRIDE), x.options(), at::MemoryFormat::ChannelsLast);
  in_strips(few, tiles, map, {bias.const_data_ptr<float>(), nullptr, 0, true}, out);
  return out;
}

FASTFCN_OPERATOR(winograd_pool)

}  // namespace fastfcn
