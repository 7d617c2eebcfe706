// First convolution of a ResNet (stride 2, three input channels) and ReLU, alone or with max pooling 3x3 at stride 2.
//
// The convolution is a matrix product over ROWS pixels of a row. In a row of the padded image the values that one row
// of taps reads are contiguous, and those of the next result start two pixels later, so nothing is gathered. With
// pooling, the map in between would be four times as large as the result; only the rows needed by the current result
// row are kept, in cache.
#include "common/nontemporal.h"
#include "common/register.h"
#include "common/tensors.h"
#include "gemm/parallel.h"
#include "stem/pool_rows.h"

namespace fastfcn {
namespace {

constexpr int64_t IMAGE_CHANNELS = 3, STEM_STRIDE = 2, MAX_KERNEL = 1023;

// `packed`: (panels, kernel * kernel * IMAGE_CHANNELS, PANEL), the channels of a tap adjacent.
struct Stem {
  int64_t height, width, kernel, outputs, top, left;
  const float *packed, *bias;
  float limit;

  int64_t rows() const { return (height - 1) / STEM_STRIDE + 1; }
  int64_t columns() const { return (width - 1) / STEM_STRIDE + 1; }
  // Including padding to a multiple of ROWS, and one column on each side for pooling.
  int64_t padded_columns() const { return (columns() + ROWS - 1) / ROWS * ROWS + 2; }
  // Of a padded image row.
  int64_t row_floats() const { return (padded_columns() * STEM_STRIDE + kernel) * IMAGE_CHANNELS; }
};

// ROWS pixels of one panel; `image_rows` points to the first value that the first of them reads.
void convolve_pixels(const Stem& stem, const float* image_rows, int64_t panel, float* to) {
  const int64_t length = stem.kernel * IMAGE_CHANNELS;
  const float *weights = stem.packed + panel * stem.kernel * length * PANEL, *bias = stem.bias + panel * PANEL;
  Vector sum[ROWS][VECTORS];  // in registers
#pragma GCC unroll 16
  for (int pixel = 0; pixel < ROWS; ++pixel)
    for (int v = 0; v < VECTORS; ++v) sum[pixel][v] = load(bias + v * LANES);
  for (int64_t row = 0; row < stem.kernel; ++row, image_rows += stem.row_floats())
    for (int64_t i = 0; i < length; ++i, weights += PANEL) {
      Vector right[VECTORS];
      for (int v = 0; v < VECTORS; ++v) right[v] = load(weights + v * LANES);
#pragma GCC unroll 16
      for (int pixel = 0; pixel < ROWS; ++pixel)
        for (int v = 0; v < VECTORS; ++v)
          sum[pixel][v] += image_rows[pixel * STEM_STRIDE * IMAGE_CHANNELS + i] * right[v];
    }
#pragma GCC unroll 16
  for (int pixel = 0; pixel < ROWS; ++pixel)
    for (int v = 0; v < VECTORS; ++v)
      store(to + pixel * stem.outputs + panel * PANEL + v * LANES, at_most(positive(sum[pixel][v]), stem.limit));
}

// Zero-padded rows of the image, as the convolution reads them. One per thread.
class ImageRows {
 public:
  ImageRows(const Stem& stem, const float* image, int64_t rows)
      : stem_(stem), image_(image), image_rows_((STEM_STRIDE * (rows - 1) + stem.kernel) * stem.row_floats()) {}

  void read(int64_t first, int64_t last) {
    const int64_t size = stem_.width * IMAGE_CHANNELS;
    float* to = image_rows_.data() + stem_.left * IMAGE_CHANNELS;
    for (int64_t y = STEM_STRIDE * first - stem_.top; y < STEM_STRIDE * (last - 1) - stem_.top + stem_.kernel;
         ++y, to += stem_.row_floats())
      if (y >= 0 && y < stem_.height)
        std::copy_n(image_ + y * size, size, to);
      else
        std::fill_n(to, size, 0.f);
  }

  // Computes ROWS pixels from column x of the `row`th row that was read, with all output channels adjacent.
  void convolve(int64_t row, int64_t x, float* to) const {
    const float* const image_rows = image_rows_.data() + (row * stem_.row_floats() + x * IMAGE_CHANNELS) * STEM_STRIDE;
    for (int64_t panel = 0; panel < stem_.outputs / PANEL; ++panel) convolve_pixels(stem_, image_rows, panel, to);
  }

 private:
  const Stem& stem_;
  const float* image_;
  Scratch image_rows_;
};

// Rows of the convolution's results in a ring buffer, for pooling.
class PooledRows {
 public:
  PooledRows(const Stem& stem, const float* image)
      : stem_(stem), image_rows_(stem, image, POOL), rows_((POOL + 1) * stem.padded_columns() * stem.outputs) {}

  // Computes one result row. The convolution's rows before `first` must already be in the buffer.
  void result(int64_t y, int64_t first, float* to) {
    const int64_t last = std::min(STEM_STRIDE * y + 2, stem_.rows());
    image_rows_.read(first, last);
    for (int64_t index = first; index < last; ++index) {
      float* const values = row(index);
      for (int64_t x = 0; x < stem_.columns(); x += ROWS)
        image_rows_.convolve(index - first, x, values + (x + 1) * stem_.outputs);
      std::fill_n(values + (stem_.columns() + 1) * stem_.outputs, stem_.outputs, 0.f);
    }
    pool_rows({row(STEM_STRIDE * y - 1), row(STEM_STRIDE * y), row(STEM_STRIDE * y + 1)},
              (stem_.columns() + 1) / STEM_STRIDE, stem_.outputs, to, stem_.outputs);
  }

 private:
  // A row of the convolution's results; rows above and below the map are zeros, like the padding columns: no result is
  // smaller.
  float* row(int64_t y) {
    return rows_.data() + (y < 0 || y >= stem_.rows() ? POOL : y % POOL) * stem_.padded_columns() * stem_.outputs;
  }

  const Stem& stem_;
  ImageRows image_rows_;
  Scratch rows_;
};

at::Tensor pooled(const Stem& stem, const at::Tensor& x) {
  const int64_t rows = (stem.rows() + 1) / STEM_STRIDE, columns = (stem.columns() + 1) / STEM_STRIDE;
  auto out = at::empty({x.size(0), stem.outputs, rows, columns}, x.options(), at::MemoryFormat::ChannelsLast);
  for (int64_t image = 0; image < x.size(0); ++image)
    at::parallel_for(0, rows, 1, [&](int64_t begin, int64_t end) {
      PooledRows pooled_rows(stem, x.const_data_ptr<float>() + image * stem.height * stem.width * IMAGE_CHANNELS);
      float* to = out.mutable_data_ptr<float>() + image * rows * columns * stem.outputs;
      for (int64_t y = begin; y < end; ++y)
        pooled_rows.result(y, y == begin ? std::max<int64_t>(0, STEM_STRIDE * y - 1) : STEM_STRIDE * y,
                           to + y * columns * stem.outputs);
    });
  return out;
}

at::Tensor convolved(const Stem& stem, const at::Tensor& x) {
  const int64_t rows = stem.rows(), columns = stem.columns(), outputs = stem.outputs;
  auto out = at::empty({x.size(0), outputs, rows, columns}, x.options(), at::MemoryFormat::ChannelsLast);
  const bool large = exceeds_cache(rows, columns, outputs);
  for (int64_t image = 0; image < x.size(0); ++image)
    dynamic_parallel_for(rows, 1, [&](int64_t begin, int64_t end) {
      ImageRows image_rows(stem, x.const_data_ptr<float>() + image * stem.height * stem.width * IMAGE_CHANNELS, 1);
      Scratch block(ROWS * outputs);
      float* to = out.mutable_data_ptr<float>() + (image * rows + begin) * columns * outputs;
      for (int64_t y = begin; y < end; ++y) {
        image_rows.read(y, y + 1);
        for (int64_t column = 0; column < columns; column += ROWS) {
          image_rows.convolve(0, column, block.data());
          const int64_t count = std::min<int64_t>(ROWS, columns - column) * outputs;
          for (int64_t at = 0; at < count; at += LANES, to += LANES) {
            const Vector value = load(block.data() + at);
            large ? store_nontemporal(to, value) : store(to, value);
          }
        }
      }
      finish_nontemporal_stores();
    });
  return out;
}

}  // namespace

// (B, 3, H, W) -> (B, O, h, w); h and w are a fourth of H and W with `pool`, else half, rounded up. `kernel` is odd;
// padding is kernel / 2, or with `same` as TensorFlow's.
at::Tensor stem(const at::Tensor& images, const at::Tensor& packed, const at::Tensor& bias, int64_t kernel, bool pool,
                bool same, std::optional<double> limit) {
  const auto x = channels_last(images);
  const auto offsets = check_vector("bias", bias);
  const int64_t outputs = offsets.size(0);
  check_setting("kernel", kernel, MAX_KERNEL);
  TORCH_CHECK(x.size(1) == IMAGE_CHANNELS, "expected images of ", IMAGE_CHANNELS, " channels, got ", x.sizes());
  TORCH_CHECK(packed.dim() == 3 && packed.size(0) * PANEL == outputs &&
                  packed.size(1) == kernel * kernel * IMAGE_CHANNELS && kernel % 2 == 1,
              "expected weights of ", kernel, "x", kernel, " taps (odd) for outputs in multiples of ", PANEL, ", got ",
              packed.sizes());
  const auto weights = check_packed("packed", packed, outputs, kernel * kernel * IMAGE_CHANNELS);
  const Stem stem{x.size(2),
                  x.size(3),
                  kernel,
                  outputs,
                  padding_before(x.size(2), kernel, STEM_STRIDE, same),
                  padding_before(x.size(3), kernel, STEM_STRIDE, same),
                  weights.const_data_ptr<float>(),
                  offsets.const_data_ptr<float>(),
                  check_limit(limit.value_or(std::numeric_limits<double>::infinity()))};
  return pool ? pooled(stem, x) : convolved(stem, x);
}

FASTFCN_OPERATOR(stem)

}  // namespace fastfcn
