// Bilinear resize of scores and the class of the highest one, pixel by pixel: full-size scores never exist.
//
// A row of scores is resized across once, class by class, for all the rows of the result that it has a share in. These
// are then looked at LANES pixels at a time.
#include <ATen/Parallel.h>

#include "bilinear.h"
#include "matmul.h"
#include "tensors.h"

namespace fastfcn {
namespace {

// A row of scores at full width: (groups of LANES pixels, classes, LANES).
class WideRow {
 public:
  WideRow(int64_t classes, int64_t columns_before, const std::vector<Source>& columns)
      : classes_(classes), columns_(columns), before_(columns_before), narrow_(classes * columns_before),
        values_((columns.size() + LANES - 1) / LANES * classes * LANES) {}

  bool holds(const float* from) const { return from == from_; }

  // `from`: (columns, classes).
  void read(const float* from) {
    if (holds(from)) return;
    from_ = from;
    for (int64_t column = 0; column < before_; ++column)
      for (int64_t channel = 0; channel < classes_; ++channel)
        narrow_[channel * before_ + column] = from[column * classes_ + channel];
    const int64_t width = columns_.size();
    for (int64_t first = 0; first < width; first += LANES) {
      int low[LANES] = {}, high[LANES] = {};
      Vector share{};
      for (int64_t lane = 0; lane < std::min<int64_t>(LANES, width - first); ++lane) {
        const Source& column = columns_[first + lane];
        low[lane] = column.low, high[lane] = column.high, share[lane] = column.share;
      }
      for (int64_t channel = 0; channel < classes_; ++channel) {
        const float* row = narrow_.data() + channel * before_;
        float left[LANES], right[LANES];
        for (int lane = 0; lane < LANES; ++lane) left[lane] = row[low[lane]], right[lane] = row[high[lane]];
        store(values_.data() + first * classes_ + channel * LANES, load(left) + share * (load(right) - load(left)));
      }
    }
  }

  Vector at(int64_t channel, int64_t x) const { return load(values_.data() + x * classes_ + channel * LANES); }

 private:
  const int64_t classes_;
  const std::vector<Source>& columns_;
  const int64_t before_;
  std::vector<float> narrow_, values_;  // narrow_: (classes, columns before)
  const float* from_ = nullptr;
};

// The first of the highest classes of LANES pixels from x on, `share` of the way from one row to the other.
inline Vector highest(const WideRow& upper, const WideRow& lower, float share, int64_t classes, int64_t x) {
  const Vector first = upper.at(0, x);
  Vector best = first + share * (lower.at(0, x) - first), found{};
  for (int64_t channel = 1; channel < classes; ++channel) {
    const Vector above = upper.at(channel, x), value = above + share * (lower.at(channel, x) - above);
    found = value > best ? Vector{} + static_cast<float>(channel) : found;
    best = value > best ? value : best;
  }
  return found;
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
  at::parallel_for(0, batch * height, 1, [&](int64_t begin, int64_t end) {
    WideRow held[] = {{classes, columns_before, columns}, {classes, columns_before, columns}};
    int first = 0;  // the upper one
    for (int64_t line = begin; line < end; ++line) {
      const Source& source = rows[line % height];
      const float* image = from + line / height * rows_before * columns_before * classes;
      const float* low = image + source.low * columns_before * classes;
      if (held[1 - first].holds(low)) first = 1 - first;
      WideRow &upper = held[first], &lower = held[1 - first];
      upper.read(low);
      lower.read(image + source.high * columns_before * classes);
      for (int64_t pixel = 0; pixel < width; pixel += LANES) {
        const Vector found = highest(upper, lower, source.share, classes, pixel);
        for (int64_t lane = 0; lane < std::min<int64_t>(LANES, width - pixel); ++lane)
          to[line * width + pixel + lane] = static_cast<uint8_t>(found[lane]);
      }
    }
  });
  return out;
}

}  // namespace fastfcn
