// Encoding layer (fastfcn.ops.encoding.encode is the plain version), reading its map from memory once.
//
// For each block of pixels, which stays in L2: the dot products with the codewords, their softmax (the soft
// assignment), and the weighted sums over pixels, a product of two tall matrices of which the first is transposed. Each
// thread sums over its own pixels; the threads' sums are added at the end.
#include <ATen/Parallel.h>

#include "common/exponential.h"
#include "common/reductions.h"
#include "common/register.h"
#include "common/tensors.h"
#include "gemm/matmul.h"

namespace fastfcn {
namespace {

constexpr int64_t BLOCK_PIXELS = 128;  // pixels of a block
constexpr float MASKED = -1e30f;       // added to the logits of padding columns

// Packed codewords (panels, channels, PANEL) and, for each of `columns` columns of all panels: the scale, the
// codeword's squared norm, and a mask, 0 or MASKED for padding.
struct Codewords {
  int64_t channels, columns;
  const float* packed;
  Scratch scale, squares, mask;

  Codewords(const at::Tensor& packed, const at::Tensor& scale)
      : channels(packed.size(1)), columns(packed.size(0) * PANEL), packed(packed.const_data_ptr<float>()),
        scale(columns), squares(columns), mask(columns, MASKED) {
    std::copy_n(scale.const_data_ptr<float>(), scale.size(0), this->scale.data());
    std::fill_n(mask.data(), scale.size(0), 0.f);
    for (int64_t panel = 0; panel < columns; panel += PANEL)
      for (int64_t channel = 0; channel < channels; ++channel)
        for (int64_t column = panel; column < panel + PANEL; ++column)
          squares[column] += at(channel, panel)[column - panel] * at(channel, panel)[column - panel];
  }

  // Values of one channel, from a column to the end of its panel.
  const float* at(int64_t channel, int64_t column) const {
    return packed + (column / PANEL * channels + channel) * PANEL + column % PANEL;
  }
};

// Turns one pixel's products with the codewords into its soft assignment, and adds that to `totals`. Panels of products
// are BLOCK_PIXELS * PANEL floats apart.
void assign(float square, const Codewords& codes, float* products, float* totals) {
  const auto at_column = [&](int64_t column) {
    return products + column / PANEL * BLOCK_PIXELS * PANEL + column % PANEL;
  };
  Vector maximum = Vector{} + MASKED, sums{};
  for (int64_t column = 0; column < codes.columns; column += LANES) {
    const Vector distance = square - 2 * load(at_column(column)) + load(&codes.squares[column]);
    const Vector logit = load(&codes.scale[column]) * distance + load(&codes.mask[column]);
    maximum = maximum > logit ? maximum : logit;
    store(at_column(column), logit);
  }
  const float highest = horizontal_max(maximum);
  for (int64_t column = 0; column < codes.columns; column += LANES) {
    const Vector weight = exponential(load(at_column(column)) - highest);
    sums += weight;
    store(at_column(column), weight);
  }
  const float sum = horizontal_sum(sums);
  for (int64_t column = 0; column < codes.columns; column += LANES) {
    const Vector weight = load(at_column(column)) / sum;
    store(at_column(column), weight);
    store(totals + column, load(totals + column) + weight);
  }
}

// Adds `count` pixels to `sums`: (panels, channels, PANEL), and after these the sums of the assignment, (columns).
void add_block(const float* x, int64_t count, const Codewords& codes, float* products, float* sums) {
  const int64_t channels = codes.channels, panels = codes.columns / PANEL;
  for (int64_t panel = 0; panel < panels; ++panel)
    for (int64_t pixel = 0; pixel < count; pixel += ROWS)
      multiply_any_rows<ROWS>(std::min<int64_t>(ROWS, count - pixel), channels, x + pixel * channels, channels,
                              codes.packed + panel * channels * PANEL,
                              products + (panel * BLOCK_PIXELS + pixel) * PANEL, false);
  for (int64_t pixel = 0; pixel < count; ++pixel) {
    const float* values = x + pixel * channels;
    assign(dot(values, values, channels), codes, products + pixel * PANEL, sums + channels * codes.columns);
  }
  for (int64_t panel = 0; panel < panels; ++panel)
    for (int64_t channel = 0; channel < channels; channel += ROWS)
      multiply_any_rows<ROWS, true>(std::min<int64_t>(ROWS, channels - channel), count, x + channel, channels,
                                    products + panel * BLOCK_PIXELS * PANEL,
                                    sums + (panel * channels + channel) * PANEL, true);
}

}  // namespace

// `features`: (B, C, H, W); `packed`: codewords (panels of K, C, PANEL); `scale`: (K). Returns (B, K, C).
at::Tensor encode(const at::Tensor& features, const at::Tensor& packed, const at::Tensor& scale) {
  const auto x = channels_last(features);
  const auto scales = check_vector("scale", scale);
  const int64_t channels = x.size(1), pixels = x.size(2) * x.size(3), count = scales.size(0);
  const auto codewords = check_packed("packed", packed, count, channels);
  const Codewords codes(codewords, scales);
  const int64_t threads = at::get_num_threads();
  auto out = at::empty({x.size(0), count, channels}, x.options());
  for (int64_t image = 0; image < x.size(0); ++image) {
    const auto parts = at::zeros({threads, channels + 1, codes.columns}, x.options());
    at::parallel_for(0, threads, 1, [&](int64_t begin, int64_t end) {
      Scratch products(BLOCK_PIXELS * codes.columns);
      for (int64_t part = begin; part < end; ++part)
        for (int64_t first = pixels * part / threads, last = pixels * (part + 1) / threads; first < last;
             first += BLOCK_PIXELS)
          add_block(x.const_data_ptr<float>() + (image * pixels + first) * channels,
                    std::min(BLOCK_PIXELS, last - first), codes, products.data(),
                    parts.mutable_data_ptr<float>() + part * (channels + 1) * codes.columns);
    });
    const auto sums = parts.sum(0);
    const float *from = sums.const_data_ptr<float>(), *totals = from + channels * codes.columns;
    float* to = out.mutable_data_ptr<float>() + image * count * channels;
    for (int64_t code = 0; code < count; ++code) {
      const float* codeword = codes.at(0, code);
      const float* sums_of_code = from + (codeword - codes.packed);  // the same layout
      for (int64_t channel = 0; channel < channels; ++channel)
        *to++ = sums_of_code[channel * PANEL] - totals[code] * codeword[channel * PANEL];
    }
  }
  return out;
}

FASTFCN_OPERATOR(encode)

}  // namespace fastfcn
