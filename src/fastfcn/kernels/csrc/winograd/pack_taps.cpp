// The weights of a 3x3 convolution in the form that `winograd` reads; in training there are new ones at each step.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include "common/register.h"
#include "gemm/micro_kernel.h"

namespace fastfcn {
namespace {

// One tap of a few inputs, whose outputs come to lie side by side.
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

// (O, I, 3, 3), of any memory format -> (panels of O, I, 9, PANEL), zeros after the last output; or, `transposed`,
// those of the convolution that takes a gradient of the results to one of the inputs: (panels of I, O, 9, PANEL).
at::Tensor pack_taps(const at::Tensor& weight, bool transposed) {
  TORCH_CHECK(weight.dim() == 4 && weight.size(2) == 3 && weight.size(3) == 3 && weight.scalar_type() == at::kFloat &&
                  weight.device().is_cpu(),
              "float32 weights (O, I, 3, 3) on the CPU are needed, not ", weight.toString(), " ", weight.sizes());
  const auto held = weight.stride(2) == 3 * weight.stride(3) ? weight : weight.contiguous();
  const int64_t outputs = held.size(transposed), inputs = held.size(!transposed);
  const int64_t by_output = held.stride(transposed), by_input = held.stride(!transposed), by_tap = held.stride(3);
  auto packed = at::empty({panels(outputs), inputs, 9, PANEL}, weight.options());
  const float* from = held.const_data_ptr<float>();
  float* to = packed.mutable_data_ptr<float>();
  at::parallel_for(0, panels(outputs), 1, [&](int64_t begin, int64_t end) {
    for (int64_t panel = begin; panel < end; ++panel) {
      const int64_t first = panel * PANEL, lanes = std::min(PANEL, outputs - first);
      if (lanes < PANEL) std::fill_n(to + panel * inputs * 9 * PANEL, inputs * 9 * PANEL, 0.f);
      for (int64_t block = 0; block < inputs; block += LINE)  // a line of the cache of each output
        for (int tap = 0; tap < 9; ++tap)
          copy(from + first * by_output + block * by_input + tap * by_tap, by_input, by_output,
               std::min(LINE, inputs - block), lanes,
               to + ((panel * inputs + block) * 9 + (transposed ? 8 - tap : tap)) * PANEL);
    }
  });
  return packed;
}

FASTFCN_OPERATOR(pack_taps)

}  // namespace fastfcn
