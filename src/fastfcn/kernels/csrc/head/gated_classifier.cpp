// Enc head: from the encoded features to the classifier whose weights they scale. Batch norm and ReLU of the codes,
// mean over codes, a linear layer and its sigmoid (Zhang et al., "Context Encoding for Semantic Segmentation", 2018).
#include <ATen/Parallel.h>

#include <cmath>

#include "common/arguments.h"
#include "common/reductions.h"
#include "common/register.h"

namespace fastfcn {
namespace {

constexpr int64_t MIN_CHANNELS = 64;  // per thread

// Mean over `count` codes of `channels` values each, after batch norm (`scale`, `shift`) and ReLU.
Scratch mean_code(const float* codes, int64_t count, int64_t channels, const float* scale, const float* shift) {
  Scratch mean(channels);
  for (int64_t code = 0; code < count; ++code, codes += channels)
    for (int64_t channel = 0; channel < channels; ++channel)
      mean[channel] += std::max(0.f, codes[channel] * scale[code] + shift[code]) / count;
  return mean;
}

}  // namespace

// `codes`: (B, K, C); `scale`, `shift`: (K), folded batch norm; `gate`: (C, C); `gate_bias`: (C); `packed`: the
// classifier, (panels, C, PANEL). Returns one scaled classifier per image: (B, panels, C, PANEL).
at::Tensor gated_classifier(const at::Tensor& codes, const at::Tensor& scale, const at::Tensor& shift,
                            const at::Tensor& gate, const at::Tensor& gate_bias, const at::Tensor& packed) {
  TORCH_CHECK(codes.dim() == 3 && is_float32_on_cpu(codes) && codes.size(1) > 0 && codes.size(2) > 0,
              "expected float32 codes (B, K, C) on the CPU, got ", codes.toString(), " ", codes.sizes());
  const int64_t batch = codes.size(0), count = codes.size(1), channels = codes.size(2);
  TORCH_CHECK(packed.dim() == 3 && packed.size(0) > 0, "expected `packed` to be (panels, C, ", PANEL, "), got ",
              packed.sizes());
  const int64_t panels = packed.size(0);
  const auto classifier = check_packed("packed", packed, panels * PANEL, channels);
  const auto scales = check_shape("scale", scale, {count}), shifts = check_shape("shift", shift, {count});
  const auto gates = check_shape("gate", gate, {channels, channels});
  const auto gate_offsets = check_shape("gate_bias", gate_bias, {channels});
  const auto contiguous_codes = codes.contiguous();
  auto out = at::empty({batch, panels, channels, PANEL}, packed.options());
  for (int64_t image = 0; image < batch; ++image) {
    const auto mean = mean_code(contiguous_codes.const_data_ptr<float>() + image * count * channels, count, channels,
                                scales.const_data_ptr<float>(), shifts.const_data_ptr<float>());
    at::parallel_for(0, channels, MIN_CHANNELS, [&](int64_t begin, int64_t end) {
      for (int64_t channel = begin; channel < end; ++channel) {
        const float sum = dot(gates.const_data_ptr<float>() + channel * channels, mean.data(), channels);
        const float gamma = 1 / (1 + std::exp(-sum - gate_offsets.const_data_ptr<float>()[channel]));
        for (int64_t panel = 0; panel < panels; ++panel) {
          const int64_t row = (panel * channels + channel) * PANEL;
          float* to = out.mutable_data_ptr<float>() + image * panels * channels * PANEL + row;
          for (int64_t column = 0; column < PANEL; ++column)
            to[column] = classifier.const_data_ptr<float>()[row + column] * (1 + gamma);
        }
      }
    });
  }
  return out;
}

FASTFCN_OPERATOR(gated_classifier)

}  // namespace fastfcn
