// Bilinear resize of scores and the class of the highest one, pixel by pixel: full-size scores never exist.
#include <ATen/Parallel.h>

#include <limits>

#include "bilinear.h"
#include "matmul.h"
#include "tensors.h"

namespace fastfcn {
namespace {

// The lowest and the highest of a vector's values, in a few steps of halves.
template <class Choose>
inline float reduce(Vector values, Choose choose) {
  for (int half = LANES / 2; half > 0; half /= 2)
    for (int lane = 0; lane < half; ++lane) values[lane] = choose(values[lane], values[lane + half]);
  return values[0];
}

// The first of the highest values of `a + share (b - a)`; `count` is a multiple of LANES, `lanes` is 0, 1, 2, ...
inline int64_t highest(const float* a, const float* b, float share, int64_t count, const Vector& lanes) {
  Vector best = load(a) + share * (load(b) - load(a)), channels = lanes;
  for (int64_t channel = LANES; channel < count; channel += LANES) {
    const Vector here = load(a + channel), value = here + share * (load(b + channel) - here);
    channels = value > best ? lanes + static_cast<float>(channel) : channels;
    best = value > best ? value : best;
  }
  const float top = reduce(best, [](float one, float other) { return std::max(one, other); });
  const Vector found = best == Vector{} + top ? channels : Vector{} + 1e9f;
  return static_cast<int64_t>(reduce(found, [](float one, float other) { return std::min(one, other); }));
}

}  // namespace

at::Tensor labels(const at::Tensor& scores, int64_t height, int64_t width, bool align_corners) {
  const auto x = channels_last(scores);
  const int64_t batch = x.size(0), classes = x.size(1), rows_before = x.size(2), columns_before = x.size(3);
  TORCH_CHECK(classes <= 256, "at most 256 classes, not ", classes);
  auto out = at::empty({batch, height, width}, x.options().dtype(at::kByte));
  const auto rows = sources(rows_before, height, align_corners);
  const auto columns = sources(columns_before, width, align_corners);
  const float* from = x.const_data_ptr<float>();
  uint8_t* to = out.mutable_data_ptr<uint8_t>();
  const int64_t wide = (classes + LANES - 1) / LANES * LANES;
  at::parallel_for(0, batch * height, 1, [&](int64_t begin, int64_t end) {
    Vector lanes{};
    for (int lane = 0; lane < LANES; ++lane) lanes[lane] = lane;
    // Places past the last class never win.
    std::vector<float> row(columns_before * wide, -std::numeric_limits<float>::max());
    for (int64_t line = begin; line < end; ++line) {
      const Source source = rows[line % height];
      const float* image = from + line / height * rows_before * columns_before * classes;
      const float *upper = image + source.low * columns_before * classes,
                  *lower = image + source.high * columns_before * classes;
      for (int64_t column = 0; column < columns_before; ++column)
        for (int64_t channel = 0; channel < classes; ++channel) {
          const float above = upper[column * classes + channel], below = lower[column * classes + channel];
          row[column * wide + channel] = above + source.share * (below - above);
        }
      for (int64_t column = 0; column < width; ++column)
        to[line * width + column] = highest(row.data() + columns[column].low * wide,
                                            row.data() + columns[column].high * wide, columns[column].share, wide, lanes);
    }
  });
  return out;
}

}  // namespace fastfcn
