// Max pooling 3x3 at stride 2, padding 1. Unlike torch's, it stores no indices.
#include <ATen/Parallel.h>

#include "common/convolutions.h"
#include "common/register.h"
#include "common/tensors.h"
#include "common/vector.h"

namespace fastfcn {
namespace {

// The pixels of one pooling window that are inside the map.
struct PoolWindow {
  const float* at[9];
  int count = 0;
};

void write_maximum(const PoolWindow& window, int64_t channels, float* out) {
  int64_t channel = 0;
  for (; channel + LANES <= channels; channel += LANES) {
    Vector maximum = load(window.at[0] + channel);
    for (int index = 1; index < window.count; ++index) {
      const Vector value = load(window.at[index] + channel);
      maximum = maximum > value ? maximum : value;
    }
    store(out + channel, maximum);
  }
  for (; channel < channels; ++channel) {
    out[channel] = window.at[0][channel];
    for (int index = 1; index < window.count; ++index) out[channel] = std::max(out[channel], window.at[index][channel]);
  }
}

}  // namespace

// (B, C, H, W) -> (B, C, ceil(H / 2), ceil(W / 2)); padding is ignored.
at::Tensor max_pool(const at::Tensor& features) {
  const auto x = channels_last(features);
  const int64_t channels = x.size(1), height = x.size(2), width = x.size(3);
  const int64_t rows = (height + 1) / 2, columns = (width + 1) / 2;
  auto out = at::empty({x.size(0), channels, rows, columns}, x.options(), at::MemoryFormat::ChannelsLast);
  const float* from = x.const_data_ptr<float>();
  float* to = out.mutable_data_ptr<float>();
  at::parallel_for(0, x.size(0) * rows, 1, [&](int64_t begin, int64_t end) {
    for (int64_t pixel = begin * columns; pixel < end * columns; ++pixel) {
      const int64_t row = pixel / columns, image = row / rows, y = 2 * (row % rows), x = 2 * (pixel % columns);
      PoolWindow window;
      for (int64_t down = std::max<int64_t>(y - 1, 0); down <= std::min(y + 1, height - 1); ++down)
        for (int64_t across = std::max<int64_t>(x - 1, 0); across <= std::min(x + 1, width - 1); ++across)
          window.at[window.count++] = from + ((image * height + down) * width + across) * channels;
      write_maximum(window, channels, to + pixel * channels);
    }
  });
  return out;
}

FASTFCN_OPERATOR(max_pool)

}  // namespace fastfcn
