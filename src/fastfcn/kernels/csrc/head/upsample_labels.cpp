// Bilinear resize of logits and argmax over classes, fused: full-size logits never exist.
//
// Each row of logits is widened once, class by class, and shared by all result rows that read it. Then LANES pixels at
// a time are processed, for all result rows between the same two logit rows.
#include <ATen/Parallel.h>

#include "common/bilinear.h"
#include "common/register.h"
#include "common/scratch.h"
#include "common/tensors.h"
#include "common/vector.h"

#if defined(__AVX__)
#include <immintrin.h>
#endif

namespace fastfcn {
namespace {

constexpr int64_t RESULT_ROWS = 4;  // result rows processed together

// Horizontal interpolation of LANES neighboring result pixels.
class RowInterpolation {
 public:
  // For the pixels from `first`; lanes after the last column hold arbitrary values.
  RowInterpolation(const std::vector<Source>& columns, int64_t first) : begin_(columns[first].low) {
    const int64_t count = std::min<int64_t>(LANES, columns.size() - first);
    for (int64_t lane = 0; lane < count; ++lane) {
      const Source& column = columns[first + lane];
      low_[lane] = column.low - begin_, high_[lane] = column.high - begin_, fractions_[lane] = column.fraction;
    }
    near_ = high_[count - 1] < LANES;
  }

  // LANES floats must be readable from every column of `row`.
  Vector apply(const float* row) const {
    const Vector left = select(row + begin_, low_), right = select(row + begin_, high_);
    return left + fractions_ * (right - left);
  }

 private:
  Vector select(const float* from, const int32_t* offsets) const {
#if defined(__AVX512F__)
    const auto lanes = _mm512_loadu_si512(offsets);
    if (near_) return reinterpret_cast<Vector>(_mm512_permutexvar_ps(lanes, _mm512_loadu_ps(from)));
#elif defined(__AVX2__)
    const auto lanes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(offsets));
    if (near_) return reinterpret_cast<Vector>(_mm256_permutevar8x32_ps(_mm256_loadu_ps(from), lanes));
#endif
    Vector result;
    for (int lane = 0; lane < LANES; ++lane) result[lane] = from[offsets[lane]];
    return result;
  }

  int64_t begin_;
  int32_t low_[LANES] = {}, high_[LANES] = {};
  Vector fractions_{};
  bool near_;  // all offsets are within one vector
};

// A row of logits at full width: (groups of LANES pixels, classes, LANES).
class WideRow {
 public:
  WideRow(int64_t classes, int64_t columns_before, const std::vector<Source>& columns)
      : classes_(classes), columns_(columns), columns_before_(columns_before),
        narrow_(classes * columns_before + LANES), values_((columns.size() + LANES - 1) / LANES * classes * LANES) {}

  bool holds(const float* from) const { return from == from_; }

  // `from`: (columns, classes).
  void read(const float* from) {
    if (holds(from)) return;
    from_ = from;
    for (int64_t column = 0; column < columns_before_; ++column)
      for (int64_t channel = 0; channel < classes_; ++channel)
        narrow_[channel * columns_before_ + column] = from[column * classes_ + channel];
    const int64_t width = columns_.size();
    for (int64_t first = 0; first < width; first += LANES) {
      const RowInterpolation interpolation(columns_, first);
      for (int64_t channel = 0; channel < classes_; ++channel)
        store(values_.data() + first * classes_ + channel * LANES,
              interpolation.apply(narrow_.data() + channel * columns_before_));
    }
  }

  Vector at(int64_t channel, int64_t x) const { return load(values_.data() + x * classes_ + channel * LANES); }

 private:
  const int64_t classes_;
  const std::vector<Source>& columns_;
  const int64_t columns_before_;
  Scratch narrow_, values_;  // narrow_: (classes, columns_before)
  const float* from_ = nullptr;
};

// Argmax (lowest class of equal logits) of LANES pixels from x, in NUM_ROWS result rows between the same two logit
// rows; written to `to`, rows `width` apart. Several rows are independent, which hides the latency of comparisons.
template <int NUM_ROWS>
void write_argmax(const WideRow& upper, const WideRow& lower, const Source* rows, int64_t classes, int64_t x,
                  int64_t width, uint8_t* to) {
  Vector best[NUM_ROWS], label[NUM_ROWS] = {};
  for (int row = 0; row < NUM_ROWS; ++row)
    best[row] = upper.at(0, x) + rows[row].fraction * (lower.at(0, x) - upper.at(0, x));
  for (int64_t channel = 1; channel < classes; ++channel) {
    const Vector above = upper.at(channel, x), difference = lower.at(channel, x) - above;
    const Vector number = Vector{} + static_cast<float>(channel);
    for (int row = 0; row < NUM_ROWS; ++row) {
      const Vector value = above + rows[row].fraction * difference;
      const auto higher = value > best[row];
      label[row] = higher ? number : label[row];
      best[row] = higher ? value : best[row];
    }
  }
  for (int row = 0; row < NUM_ROWS; ++row)
    for (int64_t lane = 0; lane < std::min<int64_t>(LANES, width - x); ++lane)
      to[row * width + x + lane] = static_cast<uint8_t>(label[row][lane]);
}

}  // namespace

at::Tensor upsample_labels(const at::Tensor& logits, int64_t height, int64_t width, bool align_corners) {
  const auto x = channels_last(logits);
  const int64_t batch = x.size(0), classes = x.size(1), rows_before = x.size(2), columns_before = x.size(3);
  TORCH_CHECK(classes <= 256, "at most 256 classes, not ", classes);
  check_setting("height", height), check_setting("width", width);
  auto out = at::empty({batch, height, width}, x.options().dtype(at::kByte));
  const auto rows = sources(rows_before, height, align_corners);
  const auto columns = sources(columns_before, width, align_corners);
  const float* from = x.const_data_ptr<float>();
  uint8_t* to = out.mutable_data_ptr<uint8_t>();
  at::parallel_for(0, batch * height, 1, [&](int64_t begin, int64_t end) {
    WideRow wide_rows[] = {{classes, columns_before, columns}, {classes, columns_before, columns}};
    int first = 0;  // index of the upper row
    for (int64_t line = begin, next; line < end; line = next) {
      const int64_t top = rows[line % height].low;
      for (next = line + 1; next < end && next % height > 0 && rows[next % height].low == top;) ++next;
      const float* low = from + (line / height * rows_before + top) * columns_before * classes;
      if (wide_rows[1 - first].holds(low)) first = 1 - first;
      WideRow &upper = wide_rows[first], &lower = wide_rows[1 - first];
      upper.read(low);
      lower.read(top + 1 < rows_before ? low + columns_before * classes : low);
      for (int64_t pixel = 0; pixel < width; pixel += LANES) {
        int64_t row = line;
        for (; row + RESULT_ROWS <= next; row += RESULT_ROWS)
          write_argmax<RESULT_ROWS>(upper, lower, &rows[row % height], classes, pixel, width, to + row * width);
        for (; row < next; ++row)
          write_argmax<1>(upper, lower, &rows[row % height], classes, pixel, width, to + row * width);
      }
    }
  });
  return out;
}

FASTFCN_OPERATOR(upsample_labels)

}  // namespace fastfcn
