// Sums of a map's pixels, each times its weights: the transposed matrix product of a tall map and a tall matrix.
//
// Each thread adds up its own pixels, a block at a time, which stays in its second cache while all channels are worked
// off; the threads' sums are added at the end.
#include <ATen/Parallel.h>

#include "matmul.h"
#include "tensors.h"

namespace fastfcn {
namespace {

constexpr int64_t PIXELS = 128;  // of a block

// Pixels [first, last) of x (pixels, channels) and of `weights` (panels, all pixels, PANEL), into sums (channels, row).
void add_pixels(const float* x, int64_t channels, const float* weights, int64_t pixels, int64_t first, int64_t last,
                int64_t row, float* sums) {
  for (int64_t begin = first; begin < last; begin += PIXELS)
    for (int64_t panel = 0; panel * PANEL < row; ++panel)
      for (int64_t channel = 0; channel < channels; channel += ROWS)
        any_rows<ROWS, true>(std::min<int64_t>(ROWS, channels - channel), std::min(PIXELS, last - begin),
                             x + begin * channels + channel, channels, weights + (panel * pixels + begin) * PANEL,
                             sums + channel * row + panel * PANEL, row, begin > first, nullptr);
}

}  // namespace

// `features`: (1, C, H, W); `packed`: the weights (H * W, K) in panels (panels, H * W, PANEL). Returns (C, panels * PANEL).
at::Tensor pixel_sums(const at::Tensor& features, const at::Tensor& packed) {
  const auto x = channels_last(features), weights = packed.contiguous();
  const int64_t channels = x.size(1), pixels = x.size(2) * x.size(3), row = weights.size(0) * PANEL;
  TORCH_CHECK(x.size(0) == 1 && weights.size(1) == pixels, "weights of the pixels of one image are needed");
  const int64_t threads = at::get_num_threads();
  const auto parts = at::zeros({threads, channels, row}, x.options());
  at::parallel_for(0, threads, 1, [&](int64_t begin, int64_t end) {
    for (int64_t part = begin; part < end; ++part)
      add_pixels(x.const_data_ptr<float>(), channels, weights.const_data_ptr<float>(), pixels, pixels * part / threads,
                 pixels * (part + 1) / threads, row, parts.mutable_data_ptr<float>() + part * channels * row);
  });
  return parts.sum(0);
}

}  // namespace fastfcn
