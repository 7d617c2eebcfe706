// Winograd convolution of few channels: weights are transformed once, and each thread takes batches of tiles from
// inputs to results within its own cache.
#pragma once

#include "gemm/parallel.h"
#include "winograd/tile_transforms.h"

namespace fastfcn {

constexpr int64_t MAX_TRANSFORMED_FLOATS = 3 << 19;  // of weights: they stay in the last-level cache
constexpr int64_t THREAD_CACHE_FLOATS = 150'000;     // a thread's inputs and products, about half of L2
constexpr int64_t PANELS_PER_GROUP = 4;              // panels whose results are written in turn

// The products of one point and one panel of outputs, for all tiles of the workspace; `prefetch` advances with each
// group of tiles.
inline void multiply_tiles(const WorkspaceLayout& layout, int64_t point, int64_t panel, int64_t depth,
                           const float* weights, const float* left, float* sums, bool accumulate, Prefetch& prefetch) {
  left += layout.input_offset(point, 0), sums += layout.product_offset(panel, point, 0);
  for (int64_t group = 0; group < layout.groups; ++group, prefetch.advance()) {
    const int64_t rows = layout.min_tiles + (group < layout.larger_groups);
    multiply_any_rows<ROWS>(rows, depth, left, layout.tile_stride(), weights, sums, accumulate, prefetch);
    left += rows * layout.tile_stride(), sums += rows * PANEL;
  }
}

class FewChannels {
 public:
  // `x`: (B, I, H, W), channels last; `taps`: (panels of O, I, 9, PANEL).
  FewChannels(const at::Tensor& x, const at::Tensor& taps, const TilePlan& plan)
      : data_(x.const_data_ptr<float>()), map_{x.size(2), x.size(3), x.size(1)}, outputs_(taps.size(0)),
        panels_per_group_(std::min(PANELS_PER_GROUP, outputs_)), plan_(plan),
        weight_stride_(panels_per_group_ * map_.channels * PANEL + CACHE_LINE) {
    plan_.depth = map_.channels;
    const int64_t groups = (outputs_ + panels_per_group_ - 1) / panels_per_group_, size = map_.channels * PANEL;
    weights_ = at::empty({groups, plan.weights(), weight_stride_}, x.options());
    dynamic_parallel_for(outputs_ * map_.channels / LANES, 1, [&](int64_t begin, int64_t end) {
      for (int64_t input = begin * LANES; input < end * LANES; input += LANES) {  // over all panels
        const int64_t panel = input / map_.channels;
        transform_weights(taps.const_data_ptr<float>() + input * 9 * PANEL, LANES, plan_, 0, plan_.rows->weights,
                          weight_stride_,
                          weights_.mutable_data_ptr<float>() + weights(panel, 0) + input % map_.channels * PANEL);
      }
    });
  }

  const TilePlan& plan() const { return plan_; }
  // Tiles processed at a time.
  int64_t batch_size() const {
    const int64_t fit =
        THREAD_CACHE_FLOATS / (plan_.points() * (map_.channels + CACHE_LINE + panels_per_group_ * PANEL));
    return std::max<int64_t>(ROWS, fit / ROWS * ROWS);
  }

  // Computes the products of all tiles of `layout`, some panels at a time, and calls `use(first, last, sums)` for
  // panels [first, last), `sums` pointing to those of `first` in this thread's memory. Meanwhile the inputs of
  // `upcoming` tiles are prefetched.
  template <class Use>
  void products(const WorkspaceLayout& layout, const Tile* tiles, const Tile* upcoming, int64_t upcoming_count,
                const Use& use) const {
    static thread_local Scratch space;
    if (const auto size = static_cast<size_t>(layout.size(panels_per_group_)); space.size() < size) space.resize(size);
    const int64_t points = plan_.points(), size = map_.channels * PANEL;
    float *left = space.data(), *sums = left + layout.input_offset(points, 0);
    for (int64_t tile = 0; tile < layout.tiles; ++tile)
      transform_inputs(data_, map_, 0, map_.channels, tiles[tile], plan_, layout.input_stride(),
                       left + layout.input_offset(0, tile));
    const InputPrefetch inputs(data_, map_, plan_, upcoming, upcoming_count);
    for (int64_t first = 0; first < outputs_; first += panels_per_group_) {
      const int64_t last = std::min(outputs_, first + panels_per_group_), count = last - first;
      for (int64_t point = 0; point < points; ++point) {
        const auto [from, length] = inputs.part(point);
        Prefetch prefetch = Prefetch::over(from + length * first / outputs_, length * count / outputs_,
                                           count * layout.groups, map_.channels);
        const float* right = weights_.const_data_ptr<float>() + weights(first, plan_.weight(point));
        for (int64_t panel = first; panel < last; ++panel, right += size)
          multiply_tiles(layout, point, panel - first, map_.channels, right, left, sums, false, prefetch);
      }
      use(first, last, sums);
    }
  }

 private:
  int64_t weights(int64_t panel, int64_t weight) const {
    return (panel / panels_per_group_ * plan_.weights() + weight) * weight_stride_ +
           panel % panels_per_group_ * map_.channels * PANEL;
  }

  const float* data_;
  MapShape map_;
  int64_t outputs_, panels_per_group_;  // panels
  TilePlan plan_;
  int64_t weight_stride_;  // padded: powers of two would map to the same cache sets
  at::Tensor weights_;     // (panel groups, weights, panels_per_group x inputs x PANEL + padding)
};

}  // namespace fastfcn
