// 3x3 convolution of stride 1 and any dilation in Winograd's form (winograd.h).
//
// The results are cut into tiles. The inputs of a tile are transformed, multiplied by the transformed weights (one
// matrix product for each place of a tile, over all tiles), and transformed back: with tiles of 4x4 that takes 36
// products instead of 144. A dilated convolution is an ordinary one on each phase of the map (every dilation-th
// pixel), tile by tile.
#include "winograd.h"

#include <ATen/Parallel.h>

#include "tensors.h"

namespace fastfcn {
namespace {

constexpr int64_t WORKSPACE = 24 << 20;  // floats of transformed inputs held at once

struct Tile {
  int64_t image, y, x;  // of its first result
};

struct Map {
  int64_t height, width, channels;

  int64_t pixel(int64_t image, int64_t y, int64_t x) const { return ((image * height + y) * width + x) * channels; }
};

template <int ROWS_OUT, int COLUMNS_OUT>
struct Winograd {
  static constexpr int ROWS_IN = Axis<ROWS_OUT>::PLACES, COLUMNS_IN = Axis<COLUMNS_OUT>::PLACES;
  static constexpr int PLACES = ROWS_IN * COLUMNS_IN;

  static std::vector<Tile> tiles(int64_t batch, const Map& map, int64_t dilation) {
    std::vector<Tile> result;
    for (int64_t image = 0; image < batch; ++image)
      for (int64_t phase_y = 0; phase_y < std::min(dilation, map.height); ++phase_y)
        for (int64_t phase_x = 0; phase_x < std::min(dilation, map.width); ++phase_x)
          for (int64_t y = phase_y; y < map.height; y += ROWS_OUT * dilation)
            for (int64_t x = phase_x; x < map.width; x += COLUMNS_OUT * dilation) result.push_back({image, y, x});
    return result;
  }

  // The inputs of one tile, transformed, to places `apart` floats from each other.
  static void transform_inputs(const float* data, const Map& map, const Tile& tile, int64_t dilation, float* out,
                               int64_t apart) {
    const float* pixels[PLACES];
    for (int row = 0; row < ROWS_IN; ++row)
      for (int column = 0; column < COLUMNS_IN; ++column) {
        const int64_t y = tile.y + (row - 1) * dilation, x = tile.x + (column - 1) * dilation;
        const bool inside = y >= 0 && y < map.height && x >= 0 && x < map.width;
        pixels[row * COLUMNS_IN + column] = inside ? data + map.pixel(tile.image, y, x) : nullptr;
      }
    for (int64_t channel = 0; channel < map.channels; channel += LANES) {
      Vector values[PLACES], half[PLACES];
      for (int place = 0; place < PLACES; ++place)
        values[place] = pixels[place] ? load(pixels[place] + channel) : Vector{};
      for (int column = 0; column < COLUMNS_IN; ++column)
        Axis<ROWS_OUT>::into(values + column, COLUMNS_IN, half + column, COLUMNS_IN);
      for (int row = 0; row < ROWS_IN; ++row)
        Axis<COLUMNS_OUT>::into(half + row * COLUMNS_IN, 1, values + row * COLUMNS_IN, 1);
      for (int place = 0; place < PLACES; ++place) store(out + place * apart + channel, values[place]);
    }
  }

  // The results of one tile, from its products at places `apart` floats from each other.
  static void transform_results(const float* products, int64_t apart, const Tile& tile, int64_t dilation,
                                const Map& map, float* out, const Ending& ending) {
    const int64_t rows = std::min<int64_t>(ROWS_OUT, (map.height - tile.y - 1) / dilation + 1);
    const int64_t columns = std::min<int64_t>(COLUMNS_OUT, (map.width - tile.x - 1) / dilation + 1);
    for (int64_t channel = 0; channel < map.channels; channel += LANES) {
      Vector values[PLACES], half[ROWS_OUT * COLUMNS_IN], results[ROWS_OUT * COLUMNS_OUT];
      for (int place = 0; place < PLACES; ++place) values[place] = load(products + place * apart + channel);
      for (int column = 0; column < COLUMNS_IN; ++column)
        Axis<ROWS_OUT>::back(values + column, COLUMNS_IN, half + column, COLUMNS_IN);
      for (int row = 0; row < ROWS_OUT; ++row)
        Axis<COLUMNS_OUT>::back(half + row * COLUMNS_IN, 1, results + row * COLUMNS_OUT, 1);
      for (int64_t row = 0; row < rows; ++row)
        for (int64_t column = 0; column < columns; ++column) {
          const int64_t place = map.pixel(tile.image, tile.y + row * dilation, tile.x + column * dilation) + channel;
          const Ending here = ending.at(0, channel);
          store(out + place, finished(results[row * COLUMNS_OUT + column], here, place - channel));
        }
    }
  }

  static at::Tensor run(const at::Tensor& x, const at::Tensor& weights, const Ending& ending, int64_t outputs,
                        int64_t dilation) {
    const Map map{x.size(2), x.size(3), x.size(1)}, results{x.size(2), x.size(3), outputs};
    auto out = empty_map(x.size(0), outputs, map.height, map.width, x);
    const auto all = tiles(x.size(0), map, dilation);
    const int64_t count = all.size(), most = std::max<int64_t>(BLOCK, WORKSPACE / (PLACES * map.channels));
    const int64_t chunks = (count + most - 1) / most, chunk = (count + chunks - 1) / chunks;
    // Odd numbers of cache lines: places a power of two apart would throw each other out of the cache.
    const int64_t row = map.channels + LANES, apart = chunk * row + 3 * LANES, sum_apart = chunk * outputs + 3 * LANES;
    const auto transformed = at::empty({PLACES * apart}, x.options()), sums = at::empty({PLACES * sum_apart}, x.options());
    float *left = transformed.template mutable_data_ptr<float>(), *products = sums.template mutable_data_ptr<float>();
    for (int64_t start = 0; start < count; start += chunk) {
      const int64_t here = std::min(chunk, count - start);
      at::parallel_for(0, here, 1, [&](int64_t begin, int64_t end) {
        for (int64_t tile = begin; tile < end; ++tile)
          transform_inputs(x.const_data_ptr<float>(), map, all[start + tile], dilation, left + tile * row, apart);
      });
      at::parallel_for(0, PLACES, 1, [&](int64_t begin, int64_t end) {
        for (int64_t place = begin; place < end; ++place)
          multiply(here, outputs, map.channels, left + place * apart, row,
                   weights.const_data_ptr<float>() + place * weights.stride(0), products + place * sum_apart, outputs,
                   false, nullptr);
      });
      at::parallel_for(0, here, 1, [&](int64_t begin, int64_t end) {
        for (int64_t tile = begin; tile < end; ++tile)
          transform_results(products + tile * outputs, sum_apart, all[start + tile], dilation, results,
                            out.template mutable_data_ptr<float>(), ending);
      });
    }
    return out;
  }
};

}  // namespace

// `weights`: (places, panels, inputs, PANEL), transformed and packed for tiles of rows x columns results (3 or 4).
at::Tensor winograd(const at::Tensor& features, const at::Tensor& weights, const at::Tensor& bias,
                    const std::optional<at::Tensor>& residual, bool relu, int64_t dilation, int64_t rows,
                    int64_t columns) {
  const auto x = channels_last(features);
  const int64_t outputs = bias.size(0);
  TORCH_CHECK(x.size(1) % LANES == 0 && outputs % LANES == 0, "channels in multiples of ", LANES, " are needed");
  const auto added = residual ? channels_last(*residual) : at::Tensor();
  const Ending ending{bias.const_data_ptr<float>(), residual ? added.const_data_ptr<float>() : nullptr, outputs, relu};
  if (rows == 4)
    return columns == 4 ? Winograd<4, 4>::run(x, weights, ending, outputs, dilation)
                        : Winograd<4, 3>::run(x, weights, ending, outputs, dilation);
  return columns == 4 ? Winograd<3, 4>::run(x, weights, ending, outputs, dilation)
                      : Winograd<3, 3>::run(x, weights, ending, outputs, dilation);
}

}  // namespace fastfcn
