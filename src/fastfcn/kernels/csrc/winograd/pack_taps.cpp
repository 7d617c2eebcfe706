// Packs the weights of 3x3 convolutions for `winograd`: in training at every step, hence in C++.
#include <ATen/Parallel.h>

#include "common/arguments.h"
#include "common/register.h"

namespace fastfcn {
namespace {

// One tap of up to CACHE_LINE inputs, with outputs made adjacent.
void copy(const float* from, int64_t by_input, int64_t by_output, int64_t inputs, int64_t lanes, float* to) {
  if (by_output == 1) {
    for (int64_t input = 0; input < inputs; ++input)
      std::copy_n(from + input * by_input, lanes, to + input * 9 * PANEL);
    return;
  }
  for (int64_t lane = 0; lane < lanes; ++lane)
    for (int64_t input = 0; input < inputs; ++input)
      to[input * 9 * PANEL + lane] = from[lane * by_output + input * by_input];
}

}  // namespace

// (O, I, 3, 3), any memory format -> (panels of O, I, 9, PANEL), zeros after the last output. `transposed`: weights of
// the convolution that maps result gradients to input gradients, (panels of I, O, 9, PANEL).
at::Tensor pack_taps(const at::Tensor& weight, bool transposed) {
  TORCH_CHECK(weight.dim() == 4 && weight.size(0) > 0 && weight.size(1) > 0 && weight.size(2) == 3 &&
                  weight.size(3) == 3 && is_float32_on_cpu(weight),
              "expected float32 weights (O, I, 3, 3) on the CPU, got ", weight.toString(), " ", weight.sizes());
  const auto dense = weight.stride(2) == 3 * weight.stride(3) ? weight : weight.contiguous();
  const int64_t outputs = dense.size(transposed), inputs = dense.size(!transposed);
  const int64_t by_output = dense.stride(transposed), by_input = dense.stride(!transposed), by_tap = dense.stride(3);
  auto packed = at::empty({panel_count(outputs), inputs, 9, PANEL}, weight.options());
  const float* from = dense.const_data_ptr<float>();
  float* to = packed.mutable_data_ptr<float>();
  at::parallel_for(0, panel_count(outputs), 1, [&](int64_t begin, int64_t end) {
    for (int64_t panel = begin; panel < end; ++panel) {
      const int64_t first = panel * PANEL, lanes = std::min(PANEL, outputs - first);
      if (lanes < PANEL) std::fill_n(to + panel * inputs * 9 * PANEL, inputs * 9 * PANEL, 0.f);
      for (int64_t block = 0; block < inputs; block += CACHE_LINE)  // one cache line of each output
        for (int tap = 0; tap < 9; ++tap)
          copy(from + first * by_output + block * by_input + tap * by_tap, by_input, by_output,
               std::min(CACHE_LINE, inputs - block), lanes,
               to + ((panel * inputs + block) * 9 + (transposed ? 8 - tap : tap)) * PANEL);
    }
  });
  return packed;
}

FASTFCN_OPERATOR(pack_taps)

}  // namespace fastfcn
