// Bilinear resize of logits and the class of the highest one, pixel by pixel: full-size logits never exist.
//
// A row of logits is resized across once, class by class, for all the rows of the result that it has a share in. These
// are then looked at LANES pixels at a time, all rows between the same two one after the other.
#include <ATen/Parallel.h>

#include "common/bilinear.h"
#include "common/register.h"
#include "common/tensors.h"
#include "gemm/micro_kernel.h"

#if defined(__AVX__)
#include <immintrin.h>
#endif

namespace fastfcn {
namespace {

constexpr int64_t RESULT_ROWS = 4;  // rows of results

// LANES pixels of a row between the places of another.
class Spread {
 public:
  // Those from `first` on; what lies beyond the last column is of no account.
  Spread(const std::vector<Source>& columns, int64_t first) : begin_(columns[first].low) {
    const int64_t count = std::min<int64_t>(LANES, columns.size() - first);
    for (int64_t lane = 0; lane < count; ++lane) {
      const Source& column = columns[first + lane];
      low_[lane] = column.low - begin_, high_[lane] = column.high - begin_, share_[lane] = column.share;
    }
    near_ = high_[count - 1] < LANES;
  }

  // `row`: of which LANES floats may be read from any place on.
  Vector of(const float* row) const {
    const Vector left = chosen(row + begin_, low_), right = chosen(row + begin_, high_);
    return left + share_ * (right - left);
  }

 private:
  Vector chosen(const float* from, const int32_t* places) const {
#if defined(__AVX512F__)
    const auto lanes = _mm512_loadu_si512(places);
    if (near_) return reinterpret_cast<Vector>(_mm512_permutexvar_ps(lanes, _mm512_loadu_ps(from)));
#elif defined(__AVX2__)
    const auto lanes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(places));
    if (near_) return reinterpret_cast<Vector>(_mm256_permutevar8x32_ps(_mm256_loadu_ps(from), lanes));
#endif
    Vector result;
    for (int lane = 0; lane < LANES; ++lane) result[lane] = from[places[lane]];
    return result;
  }

  int64_t begin_;
  int32_t low_[LANES] = {}, high_[LANES] = {};
  Vector share_{};
  bool near_;  // all places lie within one vector
};

// A row of logits at full width: (groups of LANES pixels, classes, LANES).
class WideRow {
 public:
  WideRow(int64_t classes, int64_t columns_before, const std::vector<Source>& columns)
      : classes_(classes), columns_(columns), before_(columns_before), narrow_(classes * columns_before + LANES),
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
      const Spread spread(columns_, first);
      for (int64_t channel = 0; channel < classes_; ++channel)
        store(values_.data() + first * classes_ + channel * LANES, spread.of(narrow_.data() + channel * before_));
    }
  }

  Vector at(int64_t channel, int64_t x) const { return load(values_.data() + x * classes_ + channel * LANES); }

 private:
  const int64_t classes_;
  const std::vector<Source>& columns_;
  const int64_t before_;
  Scratch narrow_, values_;  // narrow_: (classes, columns before)
  const float* from_ = nullptr;
};

// The first of the highest classes of LANES pixels from x on, of MANY rows that lie between the same two, each `share`
// of the way from one to the other; into `to`, rows `width` apart. What is found in one row does not wait for another.
template <int MANY>
void write_highest(const WideRow& upper, const WideRow& lower, const Source* rows, int64_t classes, int64_t x,
                   int64_t width, uint8_t* to) {
  Vector best[MANY], found[MANY] = {};
  for (int row = 0; row < MANY; ++row) best[row] = upper.at(0, x) + rows[row].share * (lower.at(0, x) - upper.at(0, x));
  for (int64_t channel = 1; channel < classes; ++channel) {
    const Vector above = upper.at(channel, x), apart = lower.at(channel, x) - above;
    const Vector number = Vector{} + static_cast<float>(channel);
    for (int row = 0; row < MANY; ++row) {
      const Vector value = above + rows[row].share * apart;
      const auto higher = value > best[row];
      found[row] = higher ? number : found[row];
      best[row] = higher ? value : best[row];
    }
  }
  for (int row = 0; row < MANY; ++row)
    for (int64_t lane = 0; lane < std::min<int64_t>(LANES, width - x); ++lane)
      to[row * width + x + lane] = static_cast<uint8_t>(found[row][lane]);
}

}  // namespace

at::Tensor upsample_labels(const at::Tensor& logits, int64_t height, int64_t width, bool align_corners) {
  const auto x = channels_last(logits);
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
    for (int64_t line = begin, next; line < end; line = next) {
      const int64_t top = rows[line % height].low;
      for (next = line + 1; next < end && next % height > 0 && rows[next % height].low == top;) ++next;
      const float* low = from + (line / height * rows_before + top) * columns_before * classes;
      if (held[1 - first].holds(low)) first = 1 - first;
      WideRow &upper = held[first], &lower = held[1 - first];
      upper.read(low);
      lower.read(top + 1 < rows_before ? low + columns_before * classes : low);
      for (int64_t pixel = 0; pixel < width; pixel += LANES) {
        int64_t row = line;
        for (; row + RESULT_ROWS <= next; row += RESULT_ROWS)
          write_highest<RESULT_ROWS>(upper, lower, &rows[row % height], classes, pixel, width, to + row * width);
        for (; row < next; ++row)
          write_highest<1>(upper, lower, &rows[row % height], classes, pixel, width, to + row * width);
      }
    }
  });
  return out;
}

FASTFCN_OPERATOR(upsample_labels)

}  // namespace fastfcn
