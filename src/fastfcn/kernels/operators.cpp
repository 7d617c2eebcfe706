// The operators as torch sees them; kernels/operators.py says what they compute, in plain torch.
#include <ATen/ATen.h>
#include <torch/library.h>

#include "matmul.h"

namespace fastfcn {
using at::Tensor;

Tensor pointwise(const Tensor& features, const Tensor& packed, const Tensor& bias, bool relu, int64_t stride);
void pointwise_onto(const Tensor& residual, const Tensor& features, const Tensor& packed, const Tensor& bias, bool relu,
                    int64_t stride);
Tensor pointwise_pair(const Tensor& features, const Tensor& packed, const Tensor& bias, bool relu,
                      const Tensor& shortcut, const Tensor& shortcut_packed, int64_t stride);
Tensor winograd(const Tensor& features, const Tensor& taps, const Tensor& bias, bool relu, int64_t stride,
                int64_t dilation, int64_t longest);
void winograd_onto(const Tensor& residual, const Tensor& features, const Tensor& taps, const Tensor& bias, bool relu,
                   int64_t stride, int64_t dilation, int64_t longest);
Tensor jpu(const at::TensorList& maps, const Tensor& taps, const Tensor& packed, const Tensor& bias,
           at::IntArrayRef dilations, bool align_corners, const std::optional<Tensor>& next_packed,
           const std::optional<Tensor>& next_bias);
Tensor pack_taps(const Tensor& weight, bool transposed);
Tensor winograd_weight_gradient(const Tensor& features, const Tensor& gradients, int64_t dilation, int64_t longest);
Tensor depthwise(const Tensor& features, const Tensor& weight, const Tensor& shift, int64_t dilation);
Tensor depthwise_weight_gradient(const Tensor& features, const Tensor& gradients, int64_t dilation);
std::tuple<Tensor, Tensor> channel_moments(const Tensor& features);
Tensor max_pool(const Tensor& features);
Tensor encode(const Tensor& features, const Tensor& packed, const Tensor& scale);
Tensor labels(const Tensor& scores, int64_t height, int64_t width, bool align_corners);
bool use_arena(bool on);
}  // namespace fastfcn

TORCH_LIBRARY(fastfcn, library) {
  library.def("lanes() -> int", [] { return static_cast<int64_t>(fastfcn::LANES); });
  library.def("use_arena(bool on) -> bool", fastfcn::use_arena);
  library.def("pointwise(Tensor features, Tensor packed, Tensor bias, bool relu, int stride) -> Tensor");
  library.def(
      "pointwise_onto(Tensor(a!) residual, Tensor features, Tensor packed, Tensor bias, bool relu, int stride) -> ()");
  library.def(
      "pointwise_pair(Tensor features, Tensor packed, Tensor bias, bool relu, Tensor shortcut, Tensor shortcut_packed, "
      "int stride) -> Tensor");
  library.def(
      "winograd(Tensor features, Tensor taps, Tensor bias, bool relu, int stride, int dilation, int longest) -> Tensor");
  library.def(
      "winograd_onto(Tensor(a!) residual, Tensor features, Tensor taps, Tensor bias, bool relu, int stride, "
      "int dilation, int longest) -> ()");
  library.def(
      "jpu(Tensor[] maps, Tensor taps, Tensor packed, Tensor bias, int[] dilations, bool align_corners, "
      "Tensor? next_packed=None, Tensor? next_bias=None) -> Tensor");
  library.def("pack_taps(Tensor weight, bool transposed) -> Tensor");
  library.def("winograd_weight_gradient(Tensor features, Tensor gradients, int dilation, int longest) -> Tensor");
  library.def("depthwise(Tensor features, Tensor weight, Tensor shift, int dilation) -> Tensor");
  library.def("depthwise_weight_gradient(Tensor features, Tensor gradients, int dilation) -> Tensor");
  library.def("channel_moments(Tensor features) -> (Tensor, Tensor)");
  library.def("max_pool(Tensor features) -> Tensor");
  library.def("encode(Tensor features, Tensor packed, Tensor scale) -> Tensor");
  library.def("labels(Tensor scores, int height, int width, bool align_corners) -> Tensor");
}

TORCH_LIBRARY_IMPL(fastfcn, CPU, library) {
  library.impl("pointwise", fastfcn::pointwise);
  library.impl("pointwise_onto", fastfcn::pointwise_onto);
  library.impl("pointwise_pair", fastfcn::pointwise_pair);
  library.impl("winograd", fastfcn::winograd);
  library.impl("winograd_onto", fastfcn::winograd_onto);
  library.impl("jpu", fastfcn::jpu);
  library.impl("pack_taps", fastfcn::pack_taps);
  library.impl("winograd_weight_gradient", fastfcn::winograd_weight_gradient);
  library.impl("depthwise", fastfcn::depthwise);
  library.impl("depthwise_weight_gradient", fastfcn::depthwise_weight_gradient);
  library.impl("channel_moments", fastfcn::channel_moments);
  library.impl("max_pool", fastfcn::max_pool);
  library.impl("encode", fastfcn::encode);
  library.impl("labels", fastfcn::labels);
}
