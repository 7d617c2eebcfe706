// A separable convolution of a resized map that is done on the map as it was, before its resize.
#pragma once

#include <ATen/ATen.h>

#include "bilinear.h"
#include "parallel.h"

namespace fastfcn {

// C rows of a packed matrix of `rows` to `outputs` columns.
struct Pointwise {
  const float* packed;
  int64_t rows, outputs;
};

// An axis of a resized map that is convolved with three taps.
struct TapAxis {
  std::vector<Source> sources;
  int64_t dilation;

  // The three taps, each moved and resized, at one place of the axis. `from`: `channels` that the first tap gives at the
  // small map's first place, `taps_apart` from the next tap's and `step` from the next place's.
  template <bool ONTO>
  void sum(int64_t place, const float* from, int64_t taps_apart, int64_t step, int64_t channels, float* out) const {
    const float* terms[6] = {};
    float scale[6];
    int count = 0;
    for (const int64_t tap : {1, 0, 2}) {  // the middle one is always inside
      const int64_t at = place + (tap - 1) * dilation;
      if (at < 0 || at >= static_cast<int64_t>(sources.size())) continue;
      terms[count] = from + tap * taps_apart + sources[at].low * step, scale[count++] = 1 - sources[at].share;
      terms[count] = from + tap * taps_apart + sources[at].high * step, scale[count++] = sources[at].share;
    }
    for (int64_t channel = 0; channel < channels; channel += LANES) {
      Vector total = scale[0] * load(terms[0] + channel) + scale[1] * load(terms[1] + channel);
      if constexpr (ONTO) total += load(out + channel);
      if (count > 2) total += scale[2] * load(terms[2] + channel) + scale[3] * load(terms[3] + channel);
      if (count > 4) total += scale[4] * load(terms[4] + channel) + scale[5] * load(terms[5] + channel);
      store(out + channel, total);
    }
  }
};

struct SmallMap {
  virtual ~SmallMap() = default;
  // The results at `count` pixels of the resized map from (y, x) on, into `out`, whose pixels lie `apart` floats apart, or
  // added to what is there with `onto`.
  virtual void give(int64_t y, int64_t x, int64_t count, float* out, int64_t apart, bool onto) const = 0;
};

// Products of rows of `channels`, each made by `make(row, to)`, into `results` (rows, outputs).
template <class Make>
void multiply_rows_made(int64_t channels, const Pointwise& pointwise, const at::Tensor& results, const Make& make) {
  const int64_t apart = channels + LANES;
  float* to = results.mutable_data_ptr<float>();
  share_results(results.size(0), pointwise.outputs, [&](int64_t first, int64_t count, int64_t begin, int64_t end) {
    static thread_local Scratch narrow;
    narrow.resize(BLOCK * apart);
    for (int64_t row = 0; row < count; ++row) make(first + row, narrow.data() + row * apart);
    multiply(count, end - begin, channels, narrow.data(), apart, pointwise.packed + begin * pointwise.rows,
             pointwise.rows, to + first * pointwise.outputs + begin, pointwise.outputs, false, nullptr);
  });
}

}  // namespace fastfcn
