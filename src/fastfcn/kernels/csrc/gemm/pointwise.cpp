// 1x1 convolution with batch norm's bias, a residual and ReLU in one pass.
//
// What is added is never a map of its own: a residual is written over, as the sums begin with it, and a second 1x1
// convolution, the shortcut of a residual block, adds to the same sums.
#include "common/convolutions.h"
#include "common/register.h"
#include "common/tensors.h"
#include "gemm/parallel.h"

namespace fastfcn {
namespace {

// A map and the weights it is multiplied by: (panels, inputs, PANEL).
struct Factor {
  at::Tensor x, packed;
  int64_t stride;

  // `count` pixels of the results (rows x columns for each image) from `first` on, gathered where there is a stride.
  std::pair<const float*, int64_t> pixels(int64_t first, int64_t count, int64_t rows, int64_t columns) const {
    const int64_t inputs = x.size(1), height = x.size(2), width = x.size(3), apart = inputs + LANES;
    const float* data = x.const_data_ptr<float>();
    if (stride == 1) return {data + first * inputs, inputs};
    static thread_local Scratch gathered;
    gathered.resize(BLOCK * apart);
    for (int64_t pixel = 0; pixel < count; ++pixel) {
      const int64_t row = (first + pixel) / columns, column = (first + pixel) % columns;
      const int64_t y = row / rows * height + row % rows * stride;
      std::copy_n(data + (y * width + column * stride) * inputs, inputs, gathered.data() + pixel * apart);
    }
    return {gathered.data(), apart};
  }
};

// The products of all factors into `out`, `onto` what it holds or not.
void convolve(const std::vector<Factor>& factors, const at::Tensor& bias, bool relu, const at::Tensor& out, bool onto) {
  const int64_t outputs = bias.size(0), rows = out.size(2), columns = out.size(3);
  float* to = out.mutable_data_ptr<float>();
  const Ending ending{bias.const_data_ptr<float>(), nullptr, 0, relu};
  const int64_t pixels = out.size(0) * rows * columns;
  share_results(pixels, outputs, [&](int64_t first, int64_t count, int64_t begin, int64_t end) {
    const Ending here = ending.at(0, begin);
    for (size_t index = 0; index < factors.size(); ++index) {
      const auto [from, apart] = factors[index].pixels(first, count, rows, columns);
      const int64_t inputs = factors[index].x.size(1);
      multiply(count, end - begin, inputs, from, apart, factors[index].packed.const_data_ptr<float>() + begin * inputs,
               to + first * outputs + begin, outputs, onto || index > 0, index + 1 == factors.size() ? &here : nullptr);
    }
  });
}

}  // namespace

at::Tensor pointwise(const at::Tensor& features, const at::Tensor& packed, const at::Tensor& bias, bool relu,
                     int64_t stride) {
  const auto x = channels_last(features);
  auto out = at::empty(convolved_shape(x, bias, stride), x.options(), at::MemoryFormat::ChannelsLast);
  convolve({{x, packed, stride}}, bias, relu, out, false);
  return out;
}

void pointwise_add_(const at::Tensor& residual, const at::Tensor& features, const at::Tensor& packed,
                    const at::Tensor& bias, bool relu, int64_t stride) {
  const auto x = channels_last(features);
  const auto out = residual_map(residual, convolved_shape(x, bias, stride));
  convolve({{x, packed, stride}}, bias, relu, out, true);
  if (!out.is_same(residual)) residual.copy_(out);
}

// `features` at stride 1 and `shortcut` at `stride`, each with its weights, into one sum.
at::Tensor pointwise_pair(const at::Tensor& features, const at::Tensor& packed, const at::Tensor& bias, bool relu,
                          const at::Tensor& shortcut, const at::Tensor& shortcut_packed, int64_t stride) {
  const auto x = channels_last(features), other = channels_last(shortcut);
  const auto shape = convolved_shape(x, bias, 1);
  TORCH_CHECK(shape == convolved_shape(other, bias, stride), "the shortcut's size is ", other.sizes());
  auto out = at::empty(shape, x.options(), at::MemoryFormat::ChannelsLast);
  convolve({{other, shortcut_packed, stride}, {x, packed, 1}}, bias, relu, out, false);
  return out;
}

// The width of the vectors that this build uses; packing.py packs weights for it.
int64_t lanes() { return LANES; }

FASTFCN_OPERATOR(pointwise)
FASTFCN_OPERATOR(pointwise_add_)
FASTFCN_OPERATOR(pointwise_pair)
FASTFCN_FUNCTION(lanes)

}  // namespace fastfcn
