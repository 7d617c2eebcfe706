// 3x3 convolution of stride 1 and any dilation in Winograd's form (winograd.h).
//
// The results are cut into tiles. The inputs of a tile are transformed, multiplied by the transformed weights (one
// matrix product for each place of a tile, over all tiles), and transformed back: with tiles of 6x6 that takes 64
// products instead of 324. A dilated convolution is an ordinary one on each phase of the map (every dilation-th
// pixel); its tiles are as long as the phase allows, and where a phase is but one or two pixels long, the taps that
// would see only zeros take no products. The weights are kept as they are and transformed in cache where they are
// multiplied: transformed they would take up to seven times their memory, and longer to read.
#include <ATen/Parallel.h>

#include "large_maps.h"
#include "tensors.h"
#include "winograd_tiles.h"

namespace fastfcn {
namespace {

constexpr int64_t MOST_TILES = 10 * ROWS;  // at a time: of few channels they then stay in the second caches

// One panel of the results of one tile, the `number`th held, from its products.
void transform_results(const float* products, const Layout& layout, int64_t number, int64_t panel, const Tile& tile,
                       const Kind& kind, const Map& map, float* out, const Ending& ending) {
  const int height = kind.rows->results, width = kind.columns->results;
  const int64_t rows = std::min<int64_t>(height, (map.height - tile.y - 1) / kind.dilation + 1);
  const int64_t columns = std::min<int64_t>(width, (map.width - tile.x - 1) / kind.dilation + 1);
  const int64_t end = std::min(map.channels, (panel + 1) * PANEL);
  Vector values[MOST_PLACES * MOST_PLACES], half[MOST_PLACES * MOST_PLACES];
  const float* from = products + layout.sum(panel, 0, number);
  for (int64_t channel = panel * PANEL; channel < end; channel += LANES, from += LANES) {
    for (int place = 0; place < kind.places(); ++place) values[place] = load(from + place * layout.sums_apart());
    kind.rows->back(values, kind.columns->places, half);
    kind.columns->back(half, height, values);
    const Ending here = ending.at(0, channel);
    for (int row = 0; row < rows; ++row)
      for (int column = 0; column < columns; ++column) {
        const int64_t place =
            map.pixel(tile.image, tile.y + row * kind.dilation, tile.x + column * kind.dilation) + channel;
        store(out + place, finished(values[row * width + column], here, place - channel));
      }
  }
}

// Weights of the places in rows [first, last) of a tile, transformed: (places, depth, PANEL), places `apart` floats from
// each other, from (depth, 9, PANEL).
void transform_weights(const float* taps, int64_t depth, const Kind& kind, int first, int last, int64_t apart,
                       float* out) {
  const int columns = kind.columns->places;
  float down[MOST_PLACES][3], right[MOST_PLACES][3];  // copies, which no store can change
  for (int tap = 0; tap < 3; ++tap) {
    for (int row = first; row < last; ++row) down[row][tap] = kind.rows->taps[row][tap];
    for (int column = 0; column < columns; ++column) right[column][tap] = kind.columns->taps[column][tap];
  }
  for (int64_t k = 0; k < depth; ++k)
    for (int64_t lane = 0; lane < PANEL; lane += LANES) {
      const float* from = taps + k * 9 * PANEL + lane;
      Vector given[9];
      for (int tap = 0; tap < 9; ++tap) given[tap] = load(from + tap * PANEL);
      float* to = out + k * PANEL + lane;
      for (int row = first; row < last; ++row) {
        Vector line[3];
        for (int tap = 0; tap < 3; ++tap)
          line[tap] = down[row][0] * given[tap] + down[row][1] * given[3 + tap] + down[row][2] * given[6 + tap];
        for (int column = 0; column < columns; ++column, to += apart)
          store(to, right[column][0] * line[0] + right[column][1] * line[1] + right[column][2] * line[2]);
      }
    }
}

// What inputs [start, start + depth) add to the products of the places in rows [first, last), for one panel of outputs.
void multiply_places(const Kind& kind, const Layout& layout, int64_t start, int64_t depth, int first, int last,
                     int64_t panel, const float* taps, const float* left, float* sums) {
  static thread_local std::vector<float> weights(WEIGHTS_IN_CACHE + MOST_PLACES * MOST_PLACES * LANES);
  const int64_t apart = depth * PANEL + LANES;  // as in Layout::row
  transform_weights(taps, depth, kind, first, last, apart, weights.data());
  for (int64_t place = first * kind.columns->places; place < last * kind.columns->places; ++place) {
    const float* right = weights.data() + (place - first * kind.columns->places) * apart;
    for (int64_t tile = 0; tile < layout.tiles; tile += ROWS)
      any_rows<ROWS>(std::min<int64_t>(ROWS, layout.tiles - tile), depth, left + layout.left(place, tile),
                     layout.row(), right, sums + layout.sum(panel, place, tile), PANEL, start > 0, nullptr);
  }
}

struct Convolution {
  const at::Tensor &x, &taps;
  const Ending& ending;
  Map map, results;
  at::Tensor out;

  void run(const Kind& kind, const std::vector<Tile>& all) const {
    in_parts(kind, all, results.channels, MOST_TILES, x.options(),
             [&](const Layout& layout, const Tile* tiles, float* left, float* sums) {
               for (int64_t first = 0; first < map.channels; first += kind.depth)
                 add(kind, layout, first, std::min(map.channels, first + kind.depth), tiles, left, sums);
               finish(kind, layout, tiles, sums);
             });
  }

  // What the channels [first, last) add to the sums.
  void add(const Kind& kind, const Layout& layout, int64_t first, int64_t last, const Tile* tiles, float* left,
           float* sums) const {
    at::parallel_for(0, layout.tiles, 1, [&](int64_t begin, int64_t end) {
      for (int64_t tile = begin; tile < end; ++tile)
        transform_inputs(x.const_data_ptr<float>(), map, first, last, tiles[tile], kind, layout.left_apart(),
                         left + layout.left(0, tile));
    });
    const int64_t groups = (kind.rows->places + kind.together - 1) / kind.together;
    at::parallel_for(0, panels(results.channels) * groups, 1, [&](int64_t begin, int64_t end) {
      for (int64_t item = begin; item < end; ++item) {
        const int64_t panel = item / groups, row = item % groups * kind.together;
        const float* weights = taps.const_data_ptr<float>() + (panel * map.channels + first) * 9 * PANEL;
        multiply_places(kind, layout, first, last - first, row, std::min(kind.rows->places + 0L, row + kind.together),
                        panel, weights, left, sums);
      }
    });
  }

  void finish(const Kind& kind, const Layout& layout, const Tile* tiles, const float* sums) const {
    at::parallel_for(0, panels(results.channels) * layout.tiles, 16, [&](int64_t begin, int64_t end) {
      for (int64_t item = begin; item < end; ++item) {
        const int64_t tile = item % layout.tiles;
        transform_results(sums, layout, tile, item / layout.tiles, tiles[tile], kind, results,
                          out.mutable_data_ptr<float>(), ending);
      }
    });
  }
};

// Into `out`; `taps`: (panels, inputs, 9, PANEL); tiles have at most `longest` results (3 to 6) along each axis.
void convolve(const at::Tensor& x, const at::Tensor& taps, const Ending& ending, int64_t dilation, int64_t longest,
              const at::Tensor& out) {
  const int64_t batch = x.size(0), outputs = out.size(1);
  check_winograd(x.size(1), outputs, longest);
  const Map map{x.size(2), x.size(3), x.size(1)}, results{x.size(2), x.size(3), outputs};
  const Convolution convolution{x, taps, ending, map, results, out};
  each_kind(map, batch, dilation, longest,
            [&](const Kind& kind, const std::vector<Tile>& tiles) { convolution.run(kind, tiles); });
}

}  // namespace

at::Tensor winograd(const at::Tensor& features, const at::Tensor& taps, const at::Tensor& bias, bool relu,
                    int64_t dilation, int64_t longest) {
  const auto x = channels_last(features);
  auto out = empty_map(convolved_shape(x, bias, 1), x);
  convolve(x, taps, {bias.const_data_ptr<float>(), nullptr, 0, relu}, dilation, longest, out);
  return out;
}

// The residual is written over, each result in the place of its own.
void winograd_onto(const at::Tensor& residual, const at::Tensor& features, const at::Tensor& taps,
                   const at::Tensor& bias, bool relu, int64_t dilation, int64_t longest) {
  const auto x = channels_last(features);
  const auto out = residual_map(residual, convolved_shape(x, bias, 1));
  convolve(x, taps, {bias.const_data_ptr<float>(), out.const_data_ptr<float>(), bias.size(0), relu}, dilation, longest,
           out);
  if (!out.is_same(residual)) residual.copy_(out);
}

}  // namespace fastfcn
