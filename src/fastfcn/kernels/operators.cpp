// The operators as torch sees them; kernels/operators.py says what they compute, in plain torch.
#include <ATen/ATen.h>
#include <torch/library.h>

#include "matmul.h"

namespace fastfcn {
using at::Tensor;
using Maybe = std::optional<Tensor>;

Tensor pointwise(const Tensor& features, const Tensor& packed, const Tensor& bias, const Maybe& residual, bool relu,
                 int64_t stride);
Tensor winograd(const Tensor& features, const Tensor& taps, const Tensor& bias, const Maybe& residual, bool relu,
                int64_t dilation, int64_t longest);
Tensor jpu(const at::TensorList& maps, const Tensor& taps, const Tensor& packed, const Tensor& bias,
           at::IntArrayRef dilations, bool align_corners);
Tensor labels(const Tensor& scores, int64_t height, int64_t width, bool align_corners);
}  // namespace fastfcn

TORCH_LIBRARY(fastfcn, library) {
  library.def("lanes() -> int", [] { return static_cast<int64_t>(fastfcn::LANES); });
  library.def(
      "pointwise(Tensor features, Tensor packed, Tensor bias, Tensor? residual, bool relu, int stride) -> Tensor");
  library.def(
      "winograd(Tensor features, Tensor taps, Tensor bias, Tensor? residual, bool relu, int dilation, int longest) "
      "-> Tensor");
  library.def(
      "jpu(Tensor[] maps, Tensor taps, Tensor packed, Tensor bias, int[] dilations, bool align_corners) -> Tensor");
  library.def("labels(Tensor scores, int height, int width, bool align_corners) -> Tensor");
}

TORCH_LIBRARY_IMPL(fastfcn, CPU, library) {
  library.impl("pointwise", fastfcn::pointwise);
  library.impl("winograd", fastfcn::winograd);
  library.impl("jpu", fastfcn::jpu);
  library.impl("labels", fastfcn::labels);
}
