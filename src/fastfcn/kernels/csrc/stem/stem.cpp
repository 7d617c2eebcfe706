// The stem of a ResNet: a convolution at stride 2 of an image's few channels and ReLU, alone or with max pooling 3x3 at
// stride 2.
//
// The convolution is one matrix product for some pixels of a row: what a row of taps reads of the image lies side by
// side, and the next pixel's two pixels on, so that nothing is gathered. With pooling, the map in between is four times
// as large as the result: of its rows only those that the next row of results needs exist, in cache.
#include "common/nontemporal.h"
#include "common/register.h"
#include "common/tensors.h"
#include "gemm/parallel.h"
#include "stem/pool_rows.h"

namespace fastfcn {
namespace {

constexpr int64_t COLOURS = 3, STRIDE = 2;

// `packed`: (panels, kernel * kernel * COLOURS, PANEL), a pixel's channels side by side.
struct Stem {
  int64_t height, width, kernel, outputs;
  const float *packed, *bias;

  int64_t rows() const { return (height - 1) / STRIDE + 1; }
  int64_t columns() const { return (width - 1) / STRIDE + 1; }
  // With those that only fill up the last block of ROWS, and one before the first and after the last.
  int64_t held_columns() const { return (columns() + ROWS - 1) / ROWS * ROWS + 2; }
  int64_t line() const { return (held_columns() * STRIDE + kernel) * COLOURS; }  // of the image, padded
};

// ROWS pixels of one panel: `lines` begin where the first of them begins to read.
void convolve_pixels(const Stem& stem, const float* lines, int64_t panel, float* to) {
  const int64_t length = stem.kernel * COLOURS;
  const float *weights = stem.packed + panel * stem.kernel * length * PANEL, *bias = stem.bias + panel * PANEL;
  Vector sum[ROWS][VECTORS];  // in registers
#pragma GCC unroll 16
  for (int pixel = 0; pixel < ROWS; ++pixel)
    for (int v = 0; v < VECTORS; ++v) sum[pixel][v] = load(bias + v * LANES);
  for (int64_t row = 0; row < stem.kernel; ++row, lines += stem.line())
    for (int64_t i = 0; i < length; ++i, weights += PANEL) {
      Vector right[VECTORS];
      for (int v = 0; v < VECTORS; ++v) right[v] = load(weights + v * LANES);
#pragma GCC unroll 16
      for (int pixel = 0; pixel < ROWS; ++pixel)
        for (int v = 0; v < VECTORS; ++v) sum[pixel][v] += lines[pixel * STRIDE * COLOURS + i] * right[v];
    }
#pragma GCC unroll 16
  for (int pixel = 0; pixel < ROWS; ++pixel)
    for (int v = 0; v < VECTORS; ++v)
      store(to + pixel * stem.outputs + panel * PANEL + v * LANES, positive(sum[pixel][v]));
}

// The lines of the image, with zeros around them, that some rows of the convolution read. Each thread has its own.
class Lines {
 public:
  Lines(const Stem& stem, const float* image, int64_t rows)
      : stem_(stem), image_(image), lines_((STRIDE * (rows - 1) + stem.kernel) * stem.line()) {}

  void read(int64_t first, int64_t last) {
    const int64_t size = stem_.width * COLOURS, before = stem_.kernel / 2;
    float* to = lines_.data() + before * COLOURS;
    for (int64_t y = STRIDE * first - before; y <= STRIDE * (last - 1) + before; ++y, to += stem_.line())
      if (y >= 0 && y < stem_.height)
        std::copy_n(image_ + y * size, size, to);
      else
        std::fill_n(to, size, 0.f);
  }

  // ROWS pixels from column x on, of the `row`th row that was read, all channels of each side by side.
  void convolve(int64_t row, int64_t x, float* to) const {
    const float* const lines = lines_.data() + (row * stem_.line() + x * COLOURS) * STRIDE;
    for (int64_t panel = 0; panel < stem_.outputs / PANEL; ++panel) convolve_pixels(stem_, lines, panel, to);
  }

 private:
  const Stem& stem_;
  const float* image_;
  Scratch lines_;
};

// The rows of the map in between that a thread pools.
class Band {
 public:
  Band(const Stem& stem, const float* image)
      : stem_(stem), lines_(stem, image, POOL), rows_((POOL + 1) * stem.held_columns() * stem.outputs) {}

  // One row of results, with the convolution's rows from `first` on, if those before it are there.
  void result(int64_t y, int64_t first, float* to) {
    const int64_t last = std::min(STRIDE * y + 2, stem_.rows());
    lines_.read(first, last);
    for (int64_t index = first; index < last; ++index) {
      float* const values = row(index);
      for (int64_t x = 0; x < stem_.columns(); x += ROWS)
        lines_.convolve(index - first, x, values + (x + 1) * stem_.outputs);
      std::fill_n(values + (stem_.columns() + 1) * stem_.outputs, stem_.outputs, 0.f);
    }
    pool_rows({row(STRIDE * y - 1), row(STRIDE * y), row(STRIDE * y + 1)}, (stem_.columns() + 1) / STRIDE,
              stem_.outputs, to, stem_.outputs);
  }

 private:
  // Of the map in between; what lies above or below has zeros, like all columns around it: no result is less.
  float* row(int64_t y) {
    return rows_.data() + (y < 0 || y >= stem_.rows() ? POOL : y % POOL) * stem_.held_columns() * stem_.outputs;
  }

  const Stem& stem_;
  Lines lines_;
  Scratch rows_;
};

at::Tensor pooled(const Stem& stem, const at::Tensor& x) {
  const int64_t rows = (stem.rows() + 1) / STRIDE, columns = (stem.columns() + 1) / STRIDE;
  auto out = at::empty({x.size(0), stem.outputs, rows, columns}, x.options(), at::MemoryFormat::ChannelsLast);
  for (int64_t image = 0; image < x.size(0); ++image)
    at::parallel_for(0, rows, 1, [&](int64_t begin, int64_t end) {
      Band band(stem, x.const_data_ptr<float>() + image * stem.height * stem.width * COLOURS);
      float* to = out.mutable_data_ptr<float>() + image * rows * columns * stem.outputs;
      for (int64_t y = begin; y < end; ++y)
        band.result(y, y == begin ? std::max<int64_t>(0, STRIDE * y - 1) : STRIDE * y, to + y * columns * stem.outputs);
    });
  return out;
}

at::Tensor convolved(const Stem& stem, const at::Tensor& x) {
  const int64_t rows = stem.rows(), columns = stem.columns(), outputs = stem.outputs;
  auto out = at::empty({x.size(0), outputs, rows, columns}, x.options(), at::MemoryFormat::ChannelsLast);
  const bool large = is_large(rows, columns, outputs);
  for (int64_t image = 0; image < x.size(0); ++image)
    share_out(rows, 1, [&](int64_t begin, int64_t end) {
      Lines lines(stem, x.const_data_ptr<float>() + image * stem.height * stem.width * COLOURS, 1);
      Scratch block(ROWS * outputs);
      float* to = out.mutable_data_ptr<float>() + (image * rows + begin) * columns * outputs;
      for (int64_t y = begin; y < end; ++y) {
        lines.read(y, y + 1);
        for (int64_t column = 0; column < columns; column += ROWS) {
          lines.convolve(0, column, block.data());
          const int64_t count = std::min<int64_t>(ROWS, columns - column) * outputs;
          for (int64_t at = 0; at < count; at += LANES, to += LANES) {
            const Vector value = load(block.data() + at);
            large ? stream(to, value) : store(to, value);
          }
        }
      }
      finish_streams();
    });
  return out;
}

}  // namespace

// (B, 3, H, W) -> (B, outputs, h, w): with `pool` h and w are a fourth, or else half, rounded up. The kernel is odd,
// and half of it pads the image.
at::Tensor stem(const at::Tensor& images, const at::Tensor& packed, const at::Tensor& bias, int64_t kernel, bool pool) {
  const auto x = channels_last(images);
  const int64_t outputs = bias.size(0);
  TORCH_CHECK(x.size(1) == COLOURS, "images of ", COLOURS, " channels are needed, not ", x.sizes());
  TORCH_CHECK(packed.size(0) * PANEL == outputs && packed.size(1) == kernel * kernel * COLOURS && kernel % 2 == 1,
              "weights of ", kernel, "x", kernel, " taps for outputs in multiples of ", PANEL, " are needed, not ",
              packed.sizes());
  const Stem stem{x.size(2), x.size(3), kernel, outputs, packed.const_data_ptr<float>(), bias.const_data_ptr<float>()};
  return pool ? pooled(stem, x) : convolved(stem, x);
}

FASTFCN_OPERATOR(stem)

}  // namespace fastfcn
