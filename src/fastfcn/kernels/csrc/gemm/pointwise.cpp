// 1x1 convolution with bias, residual and ReLU in one pass: a matrix product of pixels (B H W, I) and weights (I, O).
//
// The summands are never stored separately: a residual is overwritten (the sums start with its values), and the 1x1
// convolution in a block's shortcut accumulates into the same sums.
#include "common/convolutions.h"
#include "common/register.h"
#include "common/tensors.h"
#include "gemm/parallel.h"

namespace fastfcn {
namespace {

// A map and its packed weights: (panels of O, I, PANEL).
struct Factor {
  at::Tensor x, packed;
  int64_t stride;

  // The input pixels of `count` output pixels from `first`, and their row stride; copied together if the stride is not
  // 1. Each image has rows x columns output pixels.
  std::pair<const float*, int64_t> pixels(int64_t first, int64_t count, int64_t rows, int64_t columns) const {
    const int64_t inputs = x.size(1), height = x.size(2), width = x.size(3), row_stride = inputs + LANES;
    const float* data = x.const_data_ptr<float>();
    if (stride == 1) return {data + first * inputs, inputs};
    static thread_local Scratch gathered;
    gathered.resize(MAX_BLOCK_ROWS * row_stride);
    for (int64_t pixel = 0; pixel < count; ++pixel) {
      const int64_t row = (first + pixel) / columns, column = (first + pixel) % columns;
      const int64_t y = row / rows * height + row % rows * stride;
      std::copy_n(data + (y * width + column * stride) * inputs, inputs, gathered.data() + pixel * row_stride);
    }
    return {gathered.data(), row_stride};
  }
};

// Writes the sum of all products to `out`, or adds it to the values in `out`.
void convolve(const std::vector<Factor>& factors, const at::Tensor& bias, bool relu, const at::Tensor& out,
              bool accumulate) {
  const int64_t outputs = bias.size(0), rows = out.size(2), columns = out.size(3);
  float* to = out.mutable_data_ptr<float>();
  const Epilogue epilogue{bias.const_data_ptr<float>(), nullptr, 0, relu};
  const int64_t pixels = out.size(0) * rows * columns;
  parallel_for_blocks(pixels, outputs, [&](int64_t first, int64_t count, int64_t begin, int64_t end) {
    const Epilogue here = epilogue.at(0, begin);
    for (size_t index = 0; index < factors.size(); ++index) {
      const auto [from, row_stride] = factors[index].pixels(first, count, rows, columns);
      const int64_t inputs = factors[index].x.size(1);
      multiply(count, end - begin, inputs, from, row_stride,
               factors[index].packed.const_data_ptr<float>() + begin * inputs, to + first * outputs + begin, outputs,
               accumulate || index > 0, index + 1 == factors.size() ? &here : nullptr);
    }
  });
}

// A map and its weights, checked.
Factor factor(const at::Tensor& features, const char* name, const at::Tensor& packed, const at::Tensor& bias,
              int64_t stride) {
  check_setting("stride", stride);
  const auto x = channels_last(features);
  return {x, check_packed(name, packed, bias.size(0), x.size(1)), stride};
}

}  // namespace

at::Tensor pointwise(const at::Tensor& features, const at::Tensor& packed, const at::Tensor& bias, bool relu,
                     int64_t stride) {
  const auto offsets = check_vector("bias", bias);
  const auto input = factor(features, "packed", packed, offsets, stride);
  auto out = at::empty(convolved_shape(input.x, offsets, stride), input.x.options(), at::MemoryFormat::ChannelsLast);
  convolve({input}, offsets, relu, out, false);
  return out;
}

void pointwise_add_(const at::Tensor& residual, const at::Tensor& features, const at::Tensor& packed,
                    const at::Tensor& bias, bool relu, int64_t stride) {
  const auto offsets = check_vector("bias", bias);
  const auto input = factor(features, "packed", packed, offsets, stride);
  const auto out = residual_map(residual, convolved_shape(input.x, offsets, stride), features);
  convolve({input}, offsets, relu, out, true);
  if (!out.is_same(residual)) residual.copy_(out);
}

// Adds the convolutions of `features` at stride 1 and of `shortcut` at `stride`.
at::Tensor pointwise_pair(const at::Tensor& features, const at::Tensor& packed, const at::Tensor& bias, bool relu,
                          const at::Tensor& shortcut, const at::Tensor& shortcut_packed, int64_t stride) {
  const auto offsets = check_vector("bias", bias);
  const auto input = factor(features, "packed", packed, offsets, 1);
  const auto other = factor(shortcut, "shortcut_packed", shortcut_packed, offsets, stride);
  const auto shape = convolved_shape(input.x, offsets, 1);
  TORCH_CHECK(shape == convolved_shape(other.x, offsets, stride), "expected a shortcut that becomes ", shape, ", got ",
              other.x.sizes());
  auto out = at::empty(shape, input.x.options(), at::MemoryFormat::ChannelsLast);
  convolve({other, input}, offsets, relu, out, false);
  return out;
}

// Floats in one vector of this build; packing.py packs weights accordingly.
int64_t lanes() { return LANES; }

FASTFCN_OPERATOR(pointwise)
FASTFCN_OPERATOR(pointwise_add_)
FASTFCN_OPERATOR(pointwise_pair)
FASTFCN_FUNCTION(lanes)

}  // namespace fastfcn
