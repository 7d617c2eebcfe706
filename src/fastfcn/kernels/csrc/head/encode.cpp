// The Encoding layer of ops/encoding.py, which reads its map from memory once.
//
// Of a block of pixels, which stays in the second cache, the products with the codewords are made, of these the soft
// assignment, and with that the sums over pixels: the transposed matrix product of two tall matrices. Each thread adds
// up pixels of its own; the threads' sums are added at the end.
#include <ATen/Parallel.h>

#include "common/exponential.h"
#include "common/reductions.h"
#include "common/register.h"
#include "common/tensors.h"
#include "gemm/matmul.h"

namespace fastfcn {
namespace {

constexpr int64_t SPAN = 128;    // pixels of a block
constexpr float NEVER = -1e30f;  // added to the logits of columns that only fill up a panel

// `columns`: those of all panels; `packed`: (panels, channels, PANEL); of each column the scale, the codeword's square,
// and 0 or NEVER.
struct Codewords {
  int64_t channels, columns;
  const float* packed;
  Scratch scale, squares, beyond;

  Codewords(const at::Tensor& packed, const at::Tensor& scale)
      : channels(packed.size(1)), columns(packed.size(0) * PANEL), packed(packed.const_data_ptr<float>()),
        scale(columns), squares(columns), beyond(columns, NEVER) {
    std::copy_n(scale.const_data_ptr<float>(), scale.size(0), this->scale.data());
    std::fill_n(beyond.data(), scale.size(0), 0.f);
    for (int64_t panel = 0; panel < columns; panel += PANEL)
      for (int64_t channel = 0; channel < channels; ++channel)
        for (int64_t column = panel; column < panel + PANEL; ++column)
          squares[column] += at(channel, panel)[column - panel] * at(channel, panel)[column - panel];
  }

  // Its numbers of a channel, from a column on to the end of the panel.
  const float* at(int64_t channel, int64_t column) const {
    return packed + (column / PANEL * channels + channel) * PANEL + column % PANEL;
  }
};

// One pixel's products with the codewords become its soft assignment, which is added to `totals`. Those of each panel
// lie SPAN * PANEL floats from the next.
void assign(float square, const Codewords& codes, float* products, float* totals) {
  const auto place = [&](int64_t column) { return products + column / PANEL * SPAN * PANEL + column % PANEL; };
  Vector most = Vector{} + NEVER, sums{};
  for (int64_t column = 0; column < codes.columns; column += LANES) {
    const Vector distance = square - 2 * load(place(column)) + load(&codes.squares[column]);
    const Vector logit = load(&codes.scale[column]) * distance + load(&codes.beyond[column]);
    most = most > logit ? most : logit;
    store(place(column), logit);
  }
  const float top = highest(most);
  for (int64_t column = 0; column < codes.columns; column += LANES) {
    const Vector share = exponential(load(place(column)) - top);
    sums += share;
    store(place(column), share);
  }
  const float sum = total(sums);
  for (int64_t column = 0; column < codes.columns; column += LANES) {
    const Vector share = load(place(column)) / sum;
    store(place(column), share);
    store(totals + column, load(totals + column) + share);
  }
}

// What `count` pixels add to `sums` (channels, columns) and, in its last row, to the sums of the assignment.
void add_block(const float* x, int64_t count, const Codewords& codes, float* products, float* sums) {
  const int64_t channels = codes.channels, panels = codes.columns / PANEL;
  for (int64_t panel = 0; panel < panels; ++panel)
    for (int64_t pixel = 0; pixel < count; pixel += ROWS)
      any_rows<ROWS>(std::min<int64_t>(ROWS, count - pixel), channels, x + pixel * channels, channels,
                     codes.packed + panel * channels * PANEL, products + (panel * SPAN + pixel) * PANEL, PANEL, false,
                     nullptr);
  for (int64_t pixel = 0; pixel < count; ++pixel) {
    const float* values = x + pixel * channels;
    assign(product(values, values, channels), codes, products + pixel * PANEL, sums + channels * codes.columns);
  }
  for (int64_t panel = 0; panel < panels; ++panel)
    for (int64_t channel = 0; channel < channels; channel += ROWS)
      any_rows<ROWS, true>(std::min<int64_t>(ROWS, channels - channel), count, x + channel, channels,
                           products + panel * SPAN * PANEL, sums + channel * codes.columns + panel * PANEL,
                           codes.columns, true, nullptr);
}

}  // namespace

// `features`: (B, C, H, W); `packed`: the codewords (panels, C, PANEL); `scale`: (K). Returns (B, K, C).
at::Tensor encode(const at::Tensor& features, const at::Tensor& packed, const at::Tensor& scale) {
  const auto x = channels_last(features);
  const int64_t channels = x.size(1), pixels = x.size(2) * x.size(3), count = scale.size(0);
  TORCH_CHECK(packed.size(1) == channels && panels(count) == packed.size(0),
              "codewords as long as the map's channels are needed, and a scale for each");
  const Codewords codes(packed, scale);
  const int64_t threads = at::get_num_threads();
  auto out = at::empty({x.size(0), count, channels}, x.options());
  for (int64_t image = 0; image < x.size(0); ++image) {
    const auto parts = at::zeros({threads, channels + 1, codes.columns}, x.options());
    at::parallel_for(0, threads, 1, [&](int64_t begin, int64_t end) {
      Scratch products(SPAN * codes.columns);
      for (int64_t part = begin; part < end; ++part)
        for (int64_t first = pixels * part / threads, last = pixels * (part + 1) / threads; first < last; first += SPAN)
          add_block(x.const_data_ptr<float>() + (image * pixels + first) * channels, std::min(SPAN, last - first),
                    codes, products.data(), parts.mutable_data_ptr<float>() + part * (channels + 1) * codes.columns);
    });
    const auto sums = parts.sum(0);
    const float *from = sums.const_data_ptr<float>(), *totals = from + channels * codes.columns;
    float* to = out.mutable_data_ptr<float>() + image * count * channels;
    for (int64_t code = 0; code < count; ++code) {
      const float* codeword = codes.at(0, code);
      for (int64_t channel = 0; channel < channels; ++channel)
        *to++ = from[channel * codes.columns + code] - totals[code] * codeword[channel * PANEL];
    }
  }
  return out;
}

FASTFCN_OPERATOR(encode)

}  // namespace fastfcn
