// Inverted residual block: 1x1 convolution to more channels, depthwise convolution, 1x1 convolution to few, residual.
//
// The map in between has up to six times the channels of the input. Each thread takes a strip of result rows and keeps
// only the rows of that map which its depthwise convolution reads, in a ring buffer in L2; neighboring strips both
// compute the rows that they share. Where these would be many, or weights do not fit into L2, the map is stored.
#include "common/cache_sizes.h"
#include "common/register.h"
#include "common/tensors.h"
#include "gemm/parallel.h"
#include "mobile/cached_product.h"
#include "mobile/depthwise_rows.h"

namespace fastfcn {
namespace {

constexpr int64_t PROJECTED_PIXELS = 48;       // at least so many per pass over the weights
constexpr double MAX_SHARED_ROWS = 0.15;       // fraction of rows computed twice
constexpr double BALANCED_SHARED_ROWS = 0.05;  // fraction up to which there are more strips than threads

// One block. `expand` is null if the depthwise convolution reads the input itself.
struct Mobile {
  int64_t batch, height, width, rows, columns, inputs, middle, outputs, kernel, stride, top, left;
  float limit;
  bool residual;
  const float *features, *expand, *expand_bias, *taps, *middle_bias, *project, *project_bias;
  float* out;

  int64_t blocks() const { return (middle + LANES - 1) / LANES; }
  int64_t weight_floats() const { return middle * (inputs + outputs + kernel * kernel); }
  // Fraction of the rows of the map in between that is computed twice.
  double shared(int64_t strips) const {
    return static_cast<double>((strips - 1) * std::max<int64_t>(0, kernel - stride)) / (rows * stride);
  }
};

// Result rows [y, y_end) and columns [x, x_end) of an image.
struct MobileTile {
  int64_t image, y, y_end, x, x_end;

  int64_t count() const { return x_end - x; }
};

// Rows of the map in between: (blocks, capacity, width, LANES), padded on the left and right. Row y is at y % capacity.
struct MiddleRows {
  float* data;
  int64_t capacity, width;

  int64_t block_stride() const { return capacity * width * LANES; }
  float* row(int64_t block, int64_t y) const { return data + block * block_stride() + y % capacity * width * LANES; }
};

// Columns of the padded rows that a tile reads.
int64_t padded_width(const Mobile& layer, int64_t count) { return (count - 1) * layer.stride + layer.kernel; }

// Computes rows [y, y_end) of the map in between, all channels, at the columns that the tile reads.
void expand_rows(const Mobile& layer, const MobileTile& tile, const MiddleRows& middle, int64_t y, int64_t y_end) {
  const int64_t first = tile.x * layer.stride - layer.left;  // may be padding, as may be the last
  const int64_t begin = std::max<int64_t>(first, 0), end = std::min(first + middle.width, layer.width);
  const float* image = layer.features + tile.image * layer.height * layer.width * layer.inputs;
  for (int64_t block = 0; block < layer.blocks(); block += VECTORS) {
    const int64_t here = std::min<int64_t>(VECTORS, layer.blocks() - block);
    for (int64_t row = y; row < y_end; ++row) {
      for (int64_t index = block; index < block + here; ++index) {
        float* padded = middle.row(index, row);
        std::fill(padded, padded + (begin - first) * LANES, 0.f);
        std::fill(padded + (end - first) * LANES, padded + middle.width * LANES, 0.f);
      }
      const float* from = image + (row * layer.width + begin) * layer.inputs;
      float* to = middle.row(block, row) + (begin - first) * LANES;
      if (!layer.expand) {
        for (int64_t index = block; index < block + here; ++index, to += middle.block_stride()) {
          const int64_t channels = std::min<int64_t>(LANES, layer.middle - index * LANES);
          const float* pixel = from + index * LANES;
          for (int64_t x = 0; x < end - begin; ++x, pixel += layer.inputs)
            store(to + x * LANES, channels == LANES ? load(pixel) : load_part(pixel, channels));
        }
        continue;
      }
      for_even_parts(end - begin, ROWS, [&](int64_t part, int64_t part_end) {
        const ToBlocks finish{layer.expand_bias + block * LANES, layer.limit, to + part * LANES, middle.block_stride()};
        const auto product = here == VECTORS ? cached_product<VECTORS, ToBlocks> : cached_product<1, ToBlocks>;
        product(part_end - part, layer.inputs, from + part * layer.inputs, layer.inputs,
                layer.expand + block / VECTORS * layer.inputs * PANEL, finish);
      });
    }
  }
}

// The last 1x1 convolution for `count` adjacent pixels of the result, from `pixel`. `a`: their depthwise results.
void project_pixels(const Mobile& layer, const float* a, int64_t a_stride, int64_t pixel, int64_t count) {
  for (int64_t channel = 0; channel < layer.outputs; channel += PANEL) {
    const int64_t channels = std::min(PANEL, layer.outputs - channel), vectors = (channels + LANES - 1) / LANES;
    const float* packed = layer.project + channel / PANEL * layer.middle * PANEL;
    for_even_parts(count, ROWS, [&](int64_t part, int64_t end) {
      const int64_t at = (pixel + part) * layer.outputs + channel;
      const ToPixels finish{layer.project_bias + channel, layer.residual ? layer.features + at : nullptr,
                            layer.out + at, layer.outputs, channels - (vectors - 1) * LANES};
      const auto product = vectors == VECTORS ? cached_product<VECTORS, ToPixels> : cached_product<1, ToPixels>;
      product(end - part, layer.middle, a + part * a_stride, a_stride, packed, finish);
    });
  }
}

// Computes result rows [y, y_end) of the tile, whose rows of the map in between are there.
void project_rows(const Mobile& layer, const MobileTile& tile, const MiddleRows& middle, int64_t y, int64_t y_end) {
  static thread_local Scratch convolved, padding;
  const int64_t count = tile.count(), a_stride = (layer.blocks() | 1) * LANES;
  convolved.resize(std::max<size_t>(convolved.size(), (y_end - y) * count * a_stride));
  padding.resize(std::max<size_t>(padding.size(), middle.width * LANES));  // zeros
  const auto depthwise = depthwise_function(layer.kernel, layer.stride);
  const int64_t taps = layer.kernel * layer.kernel * LANES;
  for (int64_t block = 0; block < layer.blocks(); ++block)
    for (int64_t row = y; row < y_end; ++row) {
      const float* rows[7];
      for (int64_t tap = 0; tap < layer.kernel; ++tap) {
        const int64_t from = row * layer.stride - layer.top + tap;
        rows[tap] = from < 0 || from >= layer.height ? padding.data() : middle.row(block, from);
      }
      depthwise({rows, layer.taps + block * taps, layer.middle_bias + block * LANES, layer.limit,
                 convolved.data() + (row - y) * count * a_stride + block * LANES, a_stride},
                count);
    }
  const int64_t first = (tile.image * layer.rows + y) * layer.columns + tile.x;
  if (count == layer.columns) return project_pixels(layer, convolved.data(), a_stride, first, (y_end - y) * count);
  for (int64_t row = 0; row < y_end - y; ++row)
    project_pixels(layer, convolved.data() + row * count * a_stride, a_stride, first + row * layer.columns, count);
}

// Result rows computed together: enough pixels for a pass over the weights of the last 1x1 convolution.
int64_t rows_at_once(const MobileTile& tile) {
  return std::clamp<int64_t>(PROJECTED_PIXELS / tile.count(), 1, tile.y_end - tile.y);
}

// Computes a tile with the map in between in a ring buffer.
void fused_tile(const Mobile& layer, const MobileTile& tile) {
  static thread_local Scratch ring;
  const int64_t step = rows_at_once(tile), capacity = (step - 1) * layer.stride + layer.kernel;
  const int64_t width = padded_width(layer, tile.count());
  ring.resize(std::max<size_t>(ring.size(), layer.blocks() * capacity * width * LANES));
  const MiddleRows middle{ring.data(), capacity, width};
  int64_t next = std::max<int64_t>(0, tile.y * layer.stride - layer.top);
  for (int64_t y = tile.y; y < tile.y_end; y += step) {
    const int64_t y_end = std::min(tile.y_end, y + step);
    const int64_t last = std::min(layer.height, (y_end - 1) * layer.stride - layer.top + layer.kernel);
    if (last > next) expand_rows(layer, tile, middle, next, last), next = last;
    project_rows(layer, tile, middle, y, y_end);
  }
}

// All tiles, `strips` per image and as wide as the ring buffer allows.
void fused(const Mobile& layer, int64_t strips) {
  const int64_t floats = layer.blocks() * layer.kernel * LANES * layer.stride;  // of the ring, per column
  const int64_t widest = std::max<int64_t>(2 * ROWS, l2_floats() / 2 / floats);
  const int64_t across = (layer.columns + widest - 1) / widest;
  dynamic_parallel_for(layer.batch * strips * across, 1, [&](int64_t begin, int64_t end) {
    for (int64_t index = begin; index < end; ++index) {
      const int64_t strip = index / across % strips, part = index % across;
      fused_tile(layer, {index / across / strips, layer.rows * strip / strips, layer.rows * (strip + 1) / strips,
                         layer.columns * part / across, layer.columns * (part + 1) / across});
    }
  });
}

// The same with the map in between stored, image by image.
void stored(const Mobile& layer, const at::TensorOptions& options) {
  const int64_t width = padded_width(layer, layer.columns);
  auto map = at::empty({layer.blocks(), layer.height, width, LANES}, options);
  const MiddleRows middle{map.mutable_data_ptr<float>(), layer.height, width};
  for (int64_t image = 0; image < layer.batch; ++image) {
    const MobileTile tile{image, 0, layer.rows, 0, layer.columns};
    at::parallel_for(0, layer.height, 1,
                     [&](int64_t begin, int64_t end) { expand_rows(layer, tile, middle, begin, end); });
    at::parallel_for(0, layer.rows, 1, [&](int64_t begin, int64_t end) {
      const int64_t step = rows_at_once(tile);
      for (int64_t y = begin; y < end; y += step) project_rows(layer, tile, middle, y, std::min(end, y + step));
    });
  }
}

void compute(const Mobile& layer, const at::TensorOptions& options) {
  const int64_t threads = at::get_num_threads(), few = std::min(layer.rows, (threads + layer.batch - 1) / layer.batch);
  const int64_t many = std::min(layer.rows, MIN_CHUNKS * few);
  if (layer.expand && (layer.shared(few) > MAX_SHARED_ROWS || layer.weight_floats() > l2_floats() / 2))
    return stored(layer, options);
  fused(layer, layer.shared(many) <= BALANCED_SHARED_ROWS ? many : few);
}

// The weights of a block, checked and contiguous; `expand` and its bias may be undefined.
struct MobileWeights {
  at::Tensor expand, expand_bias, taps, taps_bias, project, project_bias;
  int64_t middle;
};

MobileWeights check_weights(int64_t inputs, int64_t kernel, const std::optional<at::Tensor>& expand,
                            const std::optional<at::Tensor>& expand_bias, const at::Tensor& taps,
                            const at::Tensor& taps_bias, const at::Tensor& project, const at::Tensor& project_bias) {
  TORCH_CHECK(kernel == 3 || kernel == 5 || kernel == 7, "expected a kernel of 3, 5 or 7, got ", kernel);
  TORCH_CHECK(expand.has_value() == expand_bias.has_value(), "expected `expand` and `expand_bias`, or neither");
  MobileWeights weights;
  weights.taps_bias = check_vector("taps_bias", taps_bias);
  weights.project_bias = check_vector("project_bias", project_bias);
  const int64_t padded = weights.taps_bias.size(0);
  check_lanes(padded);
  weights.middle = expand ? padded : inputs;
  TORCH_CHECK((weights.middle + LANES - 1) / LANES * LANES == padded, "expected `taps_bias` of ", inputs,
              " values, padded to a multiple of ", LANES, ", got ", padded);
  if (expand) {
    weights.expand = check_packed("expand", *expand, padded, inputs);
    weights.expand_bias = check_shape("expand_bias", *expand_bias, {padded});
  }
  weights.taps = check_shape("taps", taps, {padded / LANES, kernel * kernel, LANES});
  weights.project = check_packed("project", project, weights.project_bias.size(0), weights.middle);
  return weights;
}

const float* data_of(const at::Tensor& tensor) { return tensor.defined() ? tensor.const_data_ptr<float>() : nullptr; }

}  // namespace

// `expand`: (panels of M, I, PANEL) or none; `taps`: (M / LANES, kernel * kernel, LANES); `project`: (panels of O, M,
// PANEL). M is a multiple of LANES, except without `expand`, where it is I and vectors of weights are padded with
// zeros.
at::Tensor inverted_residual(const at::Tensor& features, const std::optional<at::Tensor>& expand,
                             const std::optional<at::Tensor>& expand_bias, const at::Tensor& taps,
                             const at::Tensor& taps_bias, const at::Tensor& project, const at::Tensor& project_bias,
                             int64_t kernel, int64_t stride, bool same, double limit, bool residual) {
  const auto x = channels_last(features);
  check_setting("stride", stride, 2);
  const int64_t inputs = x.size(1), height = x.size(2), width = x.size(3);
  const auto weights = check_weights(inputs, kernel, expand, expand_bias, taps, taps_bias, project, project_bias);
  const int64_t outputs = weights.project_bias.size(0);
  TORCH_CHECK(!residual || (stride == 1 && inputs == outputs), "a residual needs stride 1 and ", inputs, " outputs");
  auto out = at::empty(convolved_shape(x, weights.project_bias, stride), x.options(), at::MemoryFormat::ChannelsLast);
  if (x.size(0) == 0) return out;
  Mobile layer{};
  layer.batch = x.size(0), layer.height = height, layer.width = width;
  layer.rows = out.size(2), layer.columns = out.size(3);
  layer.inputs = inputs, layer.middle = weights.middle, layer.outputs = outputs;
  layer.kernel = kernel, layer.stride = stride;
  layer.top = padding_before(height, kernel, stride, same), layer.left = padding_before(width, kernel, stride, same);
  layer.limit = check_limit(limit), layer.residual = residual;
  layer.features = data_of(x), layer.out = out.mutable_data_ptr<float>();
  layer.expand = data_of(weights.expand), layer.expand_bias = data_of(weights.expand_bias);
  layer.taps = data_of(weights.taps), layer.middle_bias = data_of(weights.taps_bias);
  layer.project = data_of(weights.project), layer.project_bias = data_of(weights.project_bias);
  compute(layer, x.options());
  return out;
}

FASTFCN_OPERATOR(inverted_residual)

}  // namespace fastfcn
