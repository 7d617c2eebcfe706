// Weight gradient of a 3x3 convolution of stride 1 and any dilation, with Winograd's algorithm.
//
// With the transforms of axis_transforms.h, a tile of the convolution is y = R((T w) * (I x)): T taps_to_points, I
// inputs_to_points, R points_to_results, * elementwise. Hence grad w = T' sum over tiles of (I x) * (R' grad y): one
// matrix product of transformed inputs and transformed gradients over all tiles for each Winograd point, then one
// transform per weight.
#include "common/register.h"
#include "common/tensors.h"
#include "gemm/parallel.h"
#include "winograd/tile_transforms.h"

namespace fastfcn {
namespace {

constexpr int64_t MAX_GRADIENT_TILES = 20 * ROWS;  // tiles processed at a time
constexpr int64_t MAX_INPUTS = 4 * ROWS;           // their products with one panel stay in L2
static_assert(MAX_INPUTS % LANES == 0, "inputs are transformed a vector at a time");

// Transforms one panel of one tile's result gradients; zeros beyond the map.
void transform_gradients(const float* data, const MapShape& map, int64_t panel, const Tile& tile, const TilePlan& plan,
                         int64_t point_stride, float* out) {
  const int height = plan.rows->results, width = plan.columns->results;
  const int64_t end = std::min(map.channels, (panel + 1) * PANEL);
  alignas(CACHE_LINE_BYTES) Vector values[MAX_RESULTS * MAX_RESULTS], half[MAX_POINTS * MAX_RESULTS];
  for (int64_t channel = panel * PANEL; channel < (panel + 1) * PANEL; channel += LANES, out += LANES) {
    for (int row = 0; row < height; ++row)
      for (int column = 0; column < width; ++column) {
        const int64_t y = tile.y + row * plan.dilation, x = tile.x + column * plan.dilation;
        const bool inside = channel < end && y < map.height && x < map.width;
        values[row * width + column] = inside ? load(data + map.pixel(tile.image, y, x) + channel) : Vector{};
      }
    float* const middle = reinterpret_cast<float*>(half);
    const Strides down{width * LANES, LANES}, across{LANES, width * LANES};
    plan.rows->results_to_points(reinterpret_cast<float*>(values), down, width, middle, down);
    plan.columns->results_to_points(middle, across, plan.rows->points, out,
                                    {point_stride, plan.columns->points * point_stride});
  }
}

struct WeightGradient {
  const at::Tensor &x, &gradient;
  MapShape map, results;
  float* out;  // (outputs, 9, inputs)

  // Adds the contribution of all tiles of a plan; overwrites `out` if `accumulate` is false, and then sets it.
  void run(TilePlan plan, const std::vector<Tile>& all, bool& accumulate) const {
    plan.depth = std::min(map.channels, MAX_INPUTS);
    for_each_batch(plan, all, results.channels, MAX_GRADIENT_TILES, x.options(),
                   [&](const WorkspaceLayout& layout, const Tile* tiles, float* left, float* right) {
                     transform_all_gradients(plan, layout, tiles, right);
                     for (int64_t first = 0; first < map.channels; first += plan.depth)
                       add(plan, layout, first, std::min(map.channels, first + plan.depth), tiles, left, right,
                           accumulate);
                     accumulate = true;
                   });
  }

  // Transforms all result gradients into packed panels, in the part of the workspace that holds products in the forward
  // convolution.
  void transform_all_gradients(const TilePlan& plan, const WorkspaceLayout& layout, const Tile* tiles,
                               float* right) const {
    dynamic_parallel_for(panel_count(results.channels) * layout.tiles, 16, [&](int64_t begin, int64_t end) {
      for (int64_t item = begin; item < end; ++item) {
        const int64_t panel = item / layout.tiles, tile = item % layout.tiles;
        transform_gradients(gradient.const_data_ptr<float>(), results, panel, tiles[tile], plan,
                            layout.product_stride(), right + layout.product_offset(panel, 0, tile));
      }
    });
  }

  // The gradients of the weights of inputs [first, last).
  void add(const TilePlan& plan, const WorkspaceLayout& layout, int64_t first, int64_t last, const Tile* tiles,
           float* left, const float* right, bool accumulate) const {
    dynamic_parallel_for(layout.tiles, 1, [&](int64_t begin, int64_t end) {
      for (int64_t tile = begin; tile < end; ++tile)
        transform_inputs(x.const_data_ptr<float>(), map, first, last, tiles[tile], plan, layout.input_stride(),
                         left + layout.input_offset(0, tile));
    });
    const int64_t inputs = last - first;
    dynamic_parallel_for(panel_count(results.channels), 1, [&](int64_t begin, int64_t end) {
      static thread_local Scratch products;
      products.resize(plan.points() * inputs * PANEL);
      for (int64_t panel = begin; panel < end; ++panel) {
        for (int64_t point = 0; point < plan.points(); ++point)
          for (int64_t input = 0; input < inputs; input += ROWS)
            multiply_any_rows<ROWS, true>(std::min<int64_t>(ROWS, inputs - input), layout.tiles,
                                          left + layout.input_offset(point, 0) + input, layout.tile_stride(),
                                          right + layout.product_offset(panel, point, 0),
                                          products.data() + (point * inputs + input) * PANEL, false);
        for (int64_t input = 0; input < inputs; ++input)
          write_gradients(plan, products.data() + input * PANEL, inputs * PANEL, panel, first + input, accumulate);
      }
    });
  }

  // Transforms the products of one input and a panel of outputs (`point_stride` floats between points) to weight
  // gradients.
  void write_gradients(const TilePlan& plan, const float* products, int64_t point_stride, int64_t panel, int64_t input,
                       bool accumulate) const {
    const int64_t end = std::min(results.channels, (panel + 1) * PANEL);
    alignas(CACHE_LINE_BYTES) Vector values[9], half[3 * MAX_POINTS];
    float* const middle = reinterpret_cast<float*>(half);
    const int64_t columns = plan.columns->points;
    for (int64_t channel = panel * PANEL; channel < end; channel += LANES, products += LANES) {
      plan.rows->points_to_taps(products, {columns * point_stride, point_stride}, columns, middle,
                                {columns * LANES, LANES});
      plan.columns->points_to_taps(middle, {LANES, columns * LANES}, 3, reinterpret_cast<float*>(values),
                                   {LANES, 3 * LANES});
      for (int lane = 0; lane < LANES; ++lane)
        for (int tap = 0; tap < 9; ++tap) {
          float& to = out[((channel + lane) * 9 + tap) * map.channels + input];
          to = values[tap][lane] + (accumulate ? to : 0.f);
        }
    }
  }
};

}  // namespace

// Returns (O, I, 3, 3), channels last. `max_tile`: most results of a tile along an axis, 3 to 6.
at::Tensor winograd_weight_gradient(const at::Tensor& features, const at::Tensor& gradients, int64_t dilation,
                                    int64_t max_tile) {
  const auto x = channels_last(features), gradient = channels_last(gradients);
  const int64_t batch = x.size(0), inputs = x.size(1), outputs = gradient.size(1);
  check_channels_and_tile(inputs, outputs, max_tile);
  check_setting("dilation", dilation);
  TORCH_CHECK(gradient.size(0) == batch && gradient.sizes().slice(2) == x.sizes().slice(2),
              "expected a gradient of the features' size ", x.sizes(), ", got ", gradient.sizes());
  auto out = at::empty({outputs, inputs, 3, 3}, x.options(), at::MemoryFormat::ChannelsLast);
  if (batch == 0) return out.zero_();
  const MapShape map{x.size(2), x.size(3), inputs}, results{x.size(2), x.size(3), outputs};
  const WeightGradient task{x, gradient, map, results, out.mutable_data_ptr<float>()};
  bool accumulate = false;
  for_each_plan(results, inputs, batch, {1, dilation, max_tile},
                [&](const TilePlan& plan, const std::vector<Tile>& tiles) { task.run(plan, tiles, accumulate); });
  return out;
}

FASTFCN_OPERATOR(winograd_weight_gradient)

}  // namespace fastfcn
