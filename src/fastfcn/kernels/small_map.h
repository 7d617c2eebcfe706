// A separable convolution of a resized map that is done on the map as it was, before its resize.
#pragma once

#include <ATen/ATen.h>

#include "parallel.h"

namespace fastfcn {

// C rows of a packed matrix of `rows` to `outputs` columns.
struct Pointwise {
  const float* packed;
  int64_t rows, outputs;
};

struct SmallMap {
  virtual ~SmallMap() = default;
  // Add the results at `count` pixels of the resized map from (y, x) on to `out`, whose pixels lie `apart` floats apart.
  virtual void add_to(int64_t y, int64_t x, int64_t count, float* out, int64_t apart) const = 0;
};

// Products of rows of `channels`, each made by `make(row, to)`, into `results` (rows, outputs).
template <class Make>
void multiply_rows_made(int64_t channels, const Pointwise& pointwise, const at::Tensor& results, const Make& make) {
  const int64_t apart = channels + LANES;
  float* to = results.mutable_data_ptr<float>();
  share_rows(results.size(0), [&](int64_t begin, int64_t end) {
    Scratch narrow(BLOCK * apart);
    for (int64_t first = begin; first < end; first += BLOCK) {
      const int64_t count = std::min(BLOCK, end - first);
      for (int64_t row = 0; row < count; ++row) make(first + row, narrow.data() + row * apart);
      multiply(count, pointwise.outputs, channels, narrow.data(), apart, pointwise.packed, pointwise.rows,
               to + first * pointwise.outputs, pointwise.outputs, false, nullptr);
    }
  });
}

}  // namespace fastfcn
