// The gradient of the weights of a 3x3 convolution of stride 1 and any dilation, in Winograd's form.
//
// Winograd's convolution is back((taps w) * (into x)), each a linear transform of a tile (winograd.h). By its
// transposes the gradient of w is the sum over all tiles of taps'((into x) * (back' g)): for each place of a tile one
// matrix product of transformed inputs and transformed gradients, over the tiles, and then one transform for each
// weight.
#include "common/register.h"
#include "common/tensors.h"
#include "gemm/parallel.h"
#include "winograd/tile_transforms.h"

namespace fastfcn {
namespace {

constexpr int64_t GRADIENT_TILES = 20 * ROWS;  // at a time
constexpr int64_t INPUTS = 4 * ROWS;           // at a time: their products with one panel stay in the second cache
static_assert(INPUTS % LANES == 0, "inputs are transformed a vector at a time");

// One panel of the gradients of the results of one tile, transformed; 0 stands beyond the map.
void transform_gradients(const float* data, const Map& map, int64_t panel, const Tile& tile, const Kind& kind,
                         int64_t apart, float* out) {
  const int height = kind.rows->results, width = kind.columns->results;
  const int64_t end = std::min(map.channels, (panel + 1) * PANEL);
  alignas(LINE_BYTES) Vector values[MOST_RESULTS * MOST_RESULTS], half[MOST_PLACES * MOST_RESULTS];
  for (int64_t channel = panel * PANEL; channel < (panel + 1) * PANEL; channel += LANES, out += LANES) {
    for (int row = 0; row < height; ++row)
      for (int column = 0; column < width; ++column) {
        const int64_t y = tile.y + row * kind.dilation, x = tile.x + column * kind.dilation;
        const bool inside = channel < end && y < map.height && x < map.width;
        values[row * width + column] = inside ? load(data + map.pixel(tile.image, y, x) + channel) : Vector{};
      }
    float* const middle = reinterpret_cast<float*>(half);
    const Steps down{width * LANES, LANES}, across{LANES, width * LANES};
    kind.rows->spread(reinterpret_cast<float*>(values), down, width, middle, down);
    kind.columns->spread(middle, across, kind.rows->places, out, {apart, kind.columns->places * apart});
  }
}

struct WeightGradient {
  const at::Tensor &x, &gradient;
  Map map, results;
  float* out;  // (outputs, 9, inputs)

  // What all tiles of a kind add, `onto` what is there; afterwards something is.
  void run(Kind kind, const std::vector<Tile>& all, bool& onto) const {
    kind.depth = std::min(map.channels, INPUTS);
    in_parts(kind, all, results.channels, GRADIENT_TILES, x.options(),
             [&](const Layout& layout, const Tile* tiles, float* left, float* right) {
               spread(kind, layout, tiles, right);
               for (int64_t first = 0; first < map.channels; first += kind.depth)
                 add(kind, layout, first, std::min(map.channels, first + kind.depth), tiles, left, right, onto);
               onto = true;
             });
  }

  // All gradients, transformed: where products lie in the convolution itself, as packed right sides.
  void spread(const Kind& kind, const Layout& layout, const Tile* tiles, float* right) const {
    share_out(panels(results.channels) * layout.tiles, 16, [&](int64_t begin, int64_t end) {
      for (int64_t item = begin; item < end; ++item) {
        const int64_t panel = item / layout.tiles, tile = item % layout.tiles;
        transform_gradients(gradient.const_data_ptr<float>(), results, panel, tiles[tile], kind, layout.sums_apart(),
                            right + layout.sum(panel, 0, tile));
      }
    });
  }

  // The weights of inputs [first, last).
  void add(const Kind& kind, const Layout& layout, int64_t first, int64_t last, const Tile* tiles, float* left,
           const float* right, bool onto) const {
    share_out(layout.tiles, 1, [&](int64_t begin, int64_t end) {
      for (int64_t tile = begin; tile < end; ++tile)
        transform_inputs(x.const_data_ptr<float>(), map, first, last, tiles[tile], kind, layout.left_apart(),
                         left + layout.left(0, tile));
    });
    const int64_t inputs = last - first;
    share_out(panels(results.channels), 1, [&](int64_t begin, int64_t end) {
      static thread_local Scratch products;
      products.resize(kind.places() * inputs * PANEL);
      for (int64_t panel = begin; panel < end; ++panel) {
        for (int64_t place = 0; place < kind.places(); ++place)
          for (int64_t input = 0; input < inputs; input += ROWS)
            any_rows<ROWS, true>(std::min<int64_t>(ROWS, inputs - input), layout.tiles,
                                 left + layout.left(place, 0) + input, layout.row(),
                                 right + layout.sum(panel, place, 0),
                                 products.data() + (place * inputs + input) * PANEL, PANEL, false, nullptr);
        for (int64_t input = 0; input < inputs; ++input)
          gather(kind, products.data() + input * PANEL, inputs * PANEL, panel, first + input, onto);
      }
    });
  }

  // From the products of one input with a panel of outputs, places `apart`, to the gradients of their weights.
  void gather(const Kind& kind, const float* products, int64_t apart, int64_t panel, int64_t input, bool onto) const {
    const int64_t end = std::min(results.channels, (panel + 1) * PANEL);
    alignas(LINE_BYTES) Vector values[9], half[3 * MOST_PLACES];
    float* const middle = reinterpret_cast<float*>(half);
    const int64_t columns = kind.columns->places;
    for (int64_t channel = panel * PANEL; channel < end; channel += LANES, products += LANES) {
      kind.rows->gather(products, {columns * apart, apart}, columns, middle, {columns * LANES, LANES});
      kind.columns->gather(middle, {LANES, columns * LANES}, 3, reinterpret_cast<float*>(values), {LANES, 3 * LANES});
      for (int lane = 0; lane < LANES; ++lane)
        for (int tap = 0; tap < 9; ++tap) {
          float& to = out[((channel + lane) * 9 + tap) * map.channels + input];
          to = values[tap][lane] + (onto ? to : 0.f);
        }
    }
  }
};

}  // namespace

// Returns (outputs, inputs, 3, 3), channels last; tiles have at most `longest` results (3 to 6) along each axis.
at::Tensor winograd_weight_gradient(const at::Tensor& features, const at::Tensor& gradients, int64_t dilation,
                                    int64_t longest) {
  const auto x = channels_last(features), gradient = channels_last(gradients);
  const int64_t batch = x.size(0), inputs = x.size(1), outputs = gradient.size(1);
  check_winograd(inputs, outputs, longest);
  TORCH_CHECK(gradient.size(0) == batch && gradient.sizes().slice(2) == x.sizes().slice(2),
              "a gradient of the features' size ", x.sizes(), " is needed, not ", gradient.sizes());
  auto out = at::empty({outputs, inputs, 3, 3}, x.options(), at::MemoryFormat::ChannelsLast);
  const Map map{x.size(2), x.size(3), inputs}, results{x.size(2), x.size(3), outputs};
  const WeightGradient task{x, gradient, map, results, out.mutable_data_ptr<float>()};
  bool onto = false;
  each_kind(results, inputs, batch, {1, dilation, longest},
            [&](const Kind& kind, const std::vector<Tile>& tiles) { task.run(kind, tiles, onto); });
  return out;
}

FASTFCN_OPERATOR(winograd_weight_gradient)

}  // namespace fastfcn
