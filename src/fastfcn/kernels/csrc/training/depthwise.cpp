// Training of dilated depthwise 3x3 convolutions: forward, weight gradient, and the channel moments for batch norm.
//
// GROUP channels are processed at a time, so that all rows within reach of a dilation stay in L2.
#include <tuple>

#include "common/register.h"
#include "common/tensors.h"
#include "gemm/parallel.h"

namespace fastfcn {
namespace {

constexpr int64_t GROUP = 4 * LANES;  // channels processed at a time

struct Rows {  // rows of one image, channels last
  const float* data;
  int64_t height, width, channels;

  // The input row that `tap` reads for result row y, or null if it is padding.
  const float* at(int64_t y, int tap, int64_t dilation) const {
    const int64_t row = y + (tap / 3 - 1) * dilation;
    return row < 0 || row >= height ? nullptr : data + row * width * channels;
  }
  // The result columns for which `tap` is inside the map.
  std::pair<int64_t, int64_t> columns(int tap, int64_t dilation) const {
    const int64_t shift = (tap % 3 - 1) * dilation;
    return {std::max<int64_t>(0, -shift), std::min(width, width - shift)};
  }
};

// Calls `work(image, first, last)` for each image and each group of channels [first, last).
template <class Work>
void parallel_for_channels(int64_t batch, int64_t channels, const Work& work) {
  const int64_t groups = (channels + GROUP - 1) / GROUP;
  dynamic_parallel_for(batch * groups, 1, [&](int64_t begin, int64_t end) {
    for (int64_t item = begin; item < end; ++item) {
      const int64_t first = item % groups * GROUP;
      work(item / groups, first, std::min(channels, first + GROUP));
    }
  });
}

// One result of one vector of channels, at column x.
inline Vector convolved(const float* const* row, const std::pair<int64_t, int64_t>* columns, const Vector* weights,
                        int64_t x, int64_t dilation, int64_t channels, int64_t channel) {
  Vector sum{};
  for (int tap = 0; tap < TAPS; ++tap)
    if (row[tap] && x >= columns[tap].first && x < columns[tap].second)
      sum += weights[tap] * load(row[tap] + (x + (tap % 3 - 1) * dilation) * channels + channel);
  return sum;
}

}  // namespace

// `weight`: (C, 1, 3, 3); `shift`: (C), subtracted from each channel's results.
at::Tensor depthwise(const at::Tensor& features, const at::Tensor& weight, const at::Tensor& shift, int64_t dilation) {
  const auto x = channels_last(features);
  const int64_t batch = x.size(0), channels = x.size(1), height = x.size(2), width = x.size(3);
  check_lanes(channels);
  check_setting("dilation", dilation);
  const auto weights = check_shape("weight", weight, {channels, 1, 3, 3});
  const auto shifts = check_shape("shift", shift, {channels});
  const auto taps = weights.reshape({channels / LANES, LANES, TAPS}).transpose(1, 2).contiguous();
  auto out = at::empty(x.sizes(), x.options(), at::MemoryFormat::ChannelsLast);
  float* to = out.mutable_data_ptr<float>();
  parallel_for_channels(batch, channels, [&](int64_t image, int64_t first, int64_t last) {
    const int64_t pixels = image * height * width;
    const Rows rows{x.const_data_ptr<float>() + pixels * channels, height, width, channels};
    std::pair<int64_t, int64_t> columns[TAPS];
    for (int tap = 0; tap < TAPS; ++tap) columns[tap] = rows.columns(tap, dilation);
    for (int64_t y = 0; y < height; ++y) {
      const float* row[TAPS];
      for (int tap = 0; tap < TAPS; ++tap) row[tap] = rows.at(y, tap, dilation);
      for (int64_t channel = first; channel < last; channel += LANES) {
        Vector weights[TAPS];
        for (int tap = 0; tap < TAPS; ++tap)
          weights[tap] = load(taps.const_data_ptr<float>() + channel * TAPS + tap * LANES);
        const Vector channel_shift = load(shifts.const_data_ptr<float>() + channel);
        for (int64_t column = 0; column < width; ++column)
          store(to + (pixels + y * width + column) * channels + channel,
                convolved(row, columns, weights, column, dilation, channels, channel) - channel_shift);
      }
    }
  });
  return out;
}

// Returns the weight's gradient, (C, 1, 3, 3).
at::Tensor depthwise_weight_gradient(const at::Tensor& features, const at::Tensor& gradients, int64_t dilation) {
  const auto x = channels_last(features), gradient = channels_last(gradients);
  TORCH_CHECK(x.sizes() == gradient.sizes(), "expected a gradient of shape ", x.sizes(), ", got ", gradient.sizes());
  const int64_t batch = x.size(0), channels = x.size(1), height = x.size(2), width = x.size(3);
  check_lanes(channels);
  check_setting("dilation", dilation);
  auto sums = at::zeros({batch, channels / LANES, TAPS, LANES}, x.options());
  float* to = sums.mutable_data_ptr<float>();
  parallel_for_channels(batch, channels, [&](int64_t image, int64_t first, int64_t last) {
    const int64_t pixels = image * height * width;
    const Rows rows{x.const_data_ptr<float>() + pixels * channels, height, width, channels};
    for (int64_t y = 0; y < height; ++y)
      for (int64_t channel = first; channel < last; channel += LANES) {
        const float* gradient_row = gradient.const_data_ptr<float>() + (pixels + y * width) * channels + channel;
        float* sum = to + (image * channels + channel) * TAPS;
        for (int tap = 0; tap < TAPS; ++tap) {
          const float* row = rows.at(y, tap, dilation);
          if (!row) continue;
          const auto [begin, end] = rows.columns(tap, dilation);
          const float* from = row + (tap % 3 - 1) * dilation * channels + channel;
          Vector total{};
          for (int64_t column = begin; column < end; ++column)
            total += load(from + column * channels) * load(gradient_row + column * channels);
          store(sum + tap * LANES, load(sum + tap * LANES) + total);
        }
      }
  });
  return sums.sum(0).transpose(1, 2).reshape({channels, 1, 3, 3}).contiguous();
}

// Each channel's mean and biased variance over all images and pixels, (C) each; sums in float64.
std::tuple<at::Tensor, at::Tensor> channel_moments(const at::Tensor& features) {
  const auto x = channels_last(features);
  const int64_t channels = x.size(1), rows = x.size(0) * x.size(2), width = x.size(3);
  check_lanes(channels);
  TORCH_CHECK(rows > 0, "expected at least one image, got ", x.sizes());
  auto mean = at::empty({channels}, x.options()), variance = at::empty({channels}, x.options());
  const float* data = x.const_data_ptr<float>();
  const double count = static_cast<double>(rows * width);
  parallel_for_channels(1, channels, [&](int64_t, int64_t first, int64_t last) {
    double sums[GROUP] = {}, squares[GROUP] = {};
    for (int64_t pixel = 0; pixel < rows * width; ++pixel)
      for (int64_t channel = first; channel < last; ++channel) {
        const double value = data[pixel * channels + channel];
        sums[channel - first] += value;
        squares[channel - first] += value * value;
      }
    for (int64_t channel = first; channel < last; ++channel) {
      const double middle = sums[channel - first] / count;
      mean.mutable_data_ptr<float>()[channel] = static_cast<float>(middle);
      variance.mutable_data_ptr<float>()[channel] =
          static_cast<float>(std::max(0.0, squares[channel - first] / count - middle * middle));
    }
  });
  return {mean, variance};
}

FASTFCN_OPERATOR(depthwise)
FASTFCN_OPERATOR(depthwise_weight_gradient)
FASTFCN_OPERATOR(channel_moments)

}  // namespace fastfcn
