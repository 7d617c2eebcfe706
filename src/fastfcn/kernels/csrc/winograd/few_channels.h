// Winograd's form of few channels: the weights are transformed once, and each thread takes tiles of its own from inputs
// to results. That many stay in its cache.
#pragma once

#include "gemm/parallel.h"
#include "winograd/tile_transforms.h"

namespace fastfcn {

constexpr int64_t FEW_TRANSFORMED = 3 << 19;  // floats, transformed: they stay in the last cache
constexpr int64_t OWN_CACHE = 150'000;        // floats of a thread's inputs and products, in half of its second cache
constexpr int64_t TOGETHER = 4;               // panels of results that are finished one after the other

// The products of one place and panel of outputs for all tiles held; `ahead` is for products of a group of tiles each.
inline void multiply_tiles(const Layout& layout, int64_t place, int64_t panel, int64_t depth, const float* weights,
                           const float* left, float* sums, bool before, Ahead& ahead) {
  left += layout.left(place, 0), sums += layout.sum(panel, place, 0);
  for (int64_t group = 0; group < layout.groups; ++group, ahead.next()) {
    const int64_t rows = layout.least + (group < layout.larger);
    any_rows<ROWS>(rows, depth, left, layout.row(), weights, sums, PANEL, before, nullptr, ahead);
    left += rows * layout.row(), sums += rows * PANEL;
  }
}

class FewChannels {
 public:
  // Of `x`, which is channels last, with `taps`, (panels, inputs, 9, PANEL).
  FewChannels(const at::Tensor& x, const at::Tensor& taps, const Kind& kind)
      : data_(x.const_data_ptr<float>()), map_{x.size(2), x.size(3), x.size(1)}, outputs_(taps.size(0)),
        together_(std::min(TOGETHER, outputs_)), kind_(kind), apart_(together_ * map_.channels * PANEL + LINE) {
    kind_.depth = map_.channels;
    const int64_t groups = (outputs_ + together_ - 1) / together_, size = map_.channels * PANEL;
    weights_ = at::empty({groups, kind.weights(), apart_}, x.options());
    share_out(outputs_ * map_.channels / LANES, 1, [&](int64_t begin, int64_t end) {
      for (int64_t input = begin * LANES; input < end * LANES; input += LANES) {  // of all panels
        const int64_t panel = input / map_.channels;
        transform_weights(taps.const_data_ptr<float>() + input * 9 * PANEL, LANES, kind_, 0, kind_.rows->weights,
                          apart_,
                          weights_.mutable_data_ptr<float>() + weights(panel, 0) + input % map_.channels * PANEL);
      }
    });
  }

  const Kind& kind() const { return kind_; }
  // How many tiles are best worked off at a time.
  int64_t held() const {
    const int64_t fit = OWN_CACHE / (kind_.places() * (map_.channels + LINE + together_ * PANEL));
    return std::max<int64_t>(ROWS, fit / ROWS * ROWS);
  }

  // Those of all tiles of `layout`, of this kind(), some panels at a time: `use(first, last, sums)`, the sums in memory
  // of the calling thread, where `first` is panel 0. Meanwhile what those `coming` will read is fetched.
  template <class Use>
  void products(const Layout& layout, const Tile* tiles, const Tile* coming, int64_t coming_count,
                const Use& use) const {
    static thread_local Scratch space;
    if (const auto size = static_cast<size_t>(layout.size(together_)); space.size() < size) space.resize(size);
    const int64_t places = kind_.places(), size = map_.channels * PANEL;
    float *left = space.data(), *sums = left + layout.left(places, 0);
    for (int64_t tile = 0; tile < layout.tiles; ++tile)
      transform_inputs(data_, map_, 0, map_.channels, tiles[tile], kind_, layout.left_apart(),
                       left + layout.left(0, tile));
    const Coming inputs(data_, map_, kind_, coming, coming_count);
    for (int64_t first = 0; first < outputs_; first += together_) {
      const int64_t last = std::min(outputs_, first + together_), count = last - first;
      for (int64_t place = 0; place < places; ++place) {
        const auto [from, length] = inputs.part(place);
        Ahead ahead = Ahead::over(from + length * first / outputs_, length * count / outputs_, count * layout.groups,
                                  map_.channels);
        const float* right = weights_.const_data_ptr<float>() + weights(first, kind_.weight(place));
        for (int64_t panel = first; panel < last; ++panel, right += size)
          multiply_tiles(layout, place, panel - first, map_.channels, right, left, sums, false, ahead);
      }
      use(first, last, sums);
    }
  }

 private:
  int64_t weights(int64_t panel, int64_t weight) const {
    return (panel / together_ * kind_.weights() + weight) * apart_ + panel % together_ * map_.channels * PANEL;
  }

  const float* data_;
  Map map_;
  int64_t outputs_, together_;  // panels
  Kind kind_;
  int64_t apart_;       // what lies a power of two apart throws each other out of the cache
  at::Tensor weights_;  // (groups of panels, weights, together x inputs x PANEL and a LINE unused)
};

}  // namespace fastfcn
