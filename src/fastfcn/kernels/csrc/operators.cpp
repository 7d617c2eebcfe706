// The operators as torch sees them; kernels/operators.py says what they compute, in plain torch.
#include "operators.h"

#include <torch/library.h>

#include "gemm/micro_kernel.h"

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
      "winograd(Tensor features, Tensor taps, Tensor bias, bool relu, int stride, int dilation, int longest, "
      "bool lines=False) -> Tensor");
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
  library.def(
      "bottlenecks(Tensor features, Tensor[] weights, Tensor[] biases, int stride, int[] dilations, int longest) -> "
      "Tensor");
  library.def("winograd_pool(Tensor features, Tensor taps, Tensor bias, int longest) -> Tensor");
  library.def("stem(Tensor images, Tensor packed, Tensor bias, int kernel, bool pool) -> Tensor");
  library.def("max_pool(Tensor features) -> Tensor");
  library.def("encode(Tensor features, Tensor packed, Tensor scale) -> Tensor");
  library.def(
      "class_weights(Tensor codes, Tensor scale, Tensor shift, Tensor gate, Tensor gate_bias, Tensor packed) -> "
      "Tensor");
  library.def("labels(Tensor logits, int height, int width, bool align_corners) -> Tensor");
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
  library.impl("bottlenecks", fastfcn::bottlenecks);
  library.impl("winograd_pool", fastfcn::winograd_pool);
  library.impl("stem", fastfcn::stem);
  library.impl("max_pool", fastfcn::max_pool);
  library.impl("encode", fastfcn::encode);
  library.impl("class_weights", fastfcn::class_weights);
  library.impl("labels", fastfcn::labels);
}
