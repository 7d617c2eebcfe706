// 3x3 convolution with Winograd's algorithm: stride 1 with any dilation, or stride 2 with dilation 1 or an even one.
//
// Results are divided into tiles. A tile's inputs are transformed to points, multiplied by the transformed weights (for
// each point one matrix product over all tiles and channels), and transformed back: 64 products instead of 324 for a
// tile of 6x6 results, 81 instead of 144 for 4x4 at stride 2. A dilated convolution is an ordinary one on each phase of
// the map (every dilation-th pixel); if a phase is only one or two pixels long, taps that read only padding take no
// products. Weights are stored untransformed and transformed in cache right before they are used: transformed they
// would take up to seven times the memory, and longer to read. Weights of few channels are transformed once per call
// (few_channels.h).
#include "common/convolutions.h"
#include "common/register.h"
#include "common/tensors.h"
#include "winograd/few_channels.h"

namespace fastfcn {
namespace {

constexpr int64_t MAX_TILES = 132;                  // per batch: their sums stay in the last-level cache
constexpr int64_t MIN_BLOCKS_PER_THREAD = 16;       // of ROWS tiles, for the few-channels path
constexpr int64_t MAX_OUTPUTS_TILE_PARALLEL = 256;  // with more, threads share tiles
constexpr int64_t MAX_OUTPUTS_PER_TILE = 8;         // per tile of a batch, else transforming weights dominates

// Adds inputs [start, start + depth) to the products of the points that use weight rows [first, last), for one panel of
// outputs. Meanwhile the taps at `next` are prefetched.
void multiply_points(const TilePlan& plan, const WorkspaceLayout& layout, int64_t start, int64_t depth, int first,
                     int last, int64_t panel, const float* taps, const float* next, const float* left, float* sums) {
  static thread_local Scratch weights(cached_weight_floats() + MAX_POINTS * MAX_POINTS * CACHE_LINE);
  const int64_t weight_stride = depth * PANEL + CACHE_LINE;  // padded as in WorkspaceLayout::tile_stride
  const int64_t columns = plan.columns->points;
  const int64_t begin = plan.rows->point(first) * columns, end = plan.rows->point(last) * columns;
  transform_weights(taps, depth, plan, first, last, weight_stride, weights.data());
  Prefetch prefetch = Prefetch::over(next, depth * 9 * PANEL, (end - begin) * layout.groups, depth);
  const float* const right = weights.data() - first * plan.columns->weights * weight_stride;
  for (int64_t point = begin; point < end; ++point)
    multiply_tiles(layout, point, panel, depth, right + plan.weight(point) * weight_stride, left, sums, start > 0,
                   prefetch);
}

struct Convolution {
  const at::Tensor &x, &taps;
  const Epilogue& epilogue;
  MapShape map, results;
  at::Tensor out;

  void run(const TilePlan& plan, const std::vector<Tile>& all) const {
    const int64_t count = all.size(), weights = plan.weights() * map.channels * results.channels;
    if (weights <= MAX_TRANSFORMED_FLOATS && count >= MIN_BLOCKS_PER_THREAD * ROWS * at::get_num_threads())
      return run_few_channels(plan, all);
    const auto work = [&](const WorkspaceLayout& layout, const Tile* tiles, float* left, float* sums) {
      for (int64_t first = 0; first < map.channels; first += plan.depth)
        add(plan, layout, first, std::min(map.channels, first + plan.depth), tiles, left, sums);
      finish(layout, tiles, sums);
    };
    const int64_t threads = at::in_parallel_region() ? 1 : at::get_num_threads();
    const TileBatches batches(plan, results.channels, MAX_TILES, WORKSPACE / threads);  // per thread
    const int64_t tiles_at_once = std::min(batches.batch_size(), count / threads);
    const bool tile_parallel =
        results.channels <= std::min(MAX_OUTPUTS_TILE_PARALLEL, MAX_OUTPUTS_PER_TILE * tiles_at_once);
    if (threads > 1 && tile_parallel) return run_tile_parallel(batches, all, threads, work);
    for_each_batch(plan, all, results.channels, MAX_TILES, x.options(), work);
  }

  // Each thread processes its own tiles, whose inputs, products and results stay in its caches: data written by another
  // core takes far longer to read or overwrite.
  template <class Work>
  void run_tile_parallel(const TileBatches& batches, const std::vector<Tile>& all, int64_t threads,
                         const Work& work) const {
    const int64_t count = all.size(), least = count / threads;  // per thread; some have one more
    const int64_t size = std::max(batches.size(least), batches.size(least + (count % threads > 0)));
    const auto space = at::empty({threads, size}, x.options());
    float* const data = space.mutable_data_ptr<float>();
    at::parallel_for(0, threads, 1, [&](int64_t first, int64_t last) {
      for (int64_t thread = first; thread < last; ++thread) {
        const int64_t begin = count * thread / threads, end = count * (thread + 1) / threads;
        batches.run(all.data() + begin, end - begin, data + thread * size, work);
      }
    });
  }

  // The taps of a panel, from one input on.
  const float* weights(int64_t panel, int64_t input) const {
    return taps.const_data_ptr<float>() + (panel * map.channels + input) * 9 * PANEL;
  }

  // Adds channels [first, last) to the sums.
  void add(const TilePlan& plan, const WorkspaceLayout& layout, int64_t first, int64_t last, const Tile* tiles,
           float* left, float* sums) const {
    read(plan, layout, first, last, tiles, left);
    // All panels with the same weight rows before the next rows: transformed inputs are far larger than taps. Last rows
    // first, since more points may share their weights.
    const int64_t groups = (plan.rows->weights + plan.weight_rows - 1) / plan.weight_rows;
    const int64_t count = panel_count(results.channels);
    dynamic_parallel_for(groups * count, 1, [&](int64_t begin, int64_t end) {
      for (int64_t item = begin; item < end; ++item) {
        const int64_t panel = item % count, row = (groups - 1 - item / count) * plan.weight_rows;
        const float* next = item + 1 < groups * count ? weights((item + 1) % count, first) : weights(0, last);
        multiply_points(plan, layout, first, last - first, row,
                        std::min(plan.rows->weights + 0L, row + plan.weight_rows), panel, weights(panel, first), next,
                        left, sums);
      }
    });
  }

  void read(const TilePlan& plan, const WorkspaceLayout& layout, int64_t first, int64_t last, const Tile* tiles,
            float* left) const {
    dynamic_parallel_for(layout.tiles, 1, [&](int64_t begin, int64_t end) {
      for (int64_t tile = begin; tile < end; ++tile)
        transform_inputs(x.const_data_ptr<float>(), map, first, last, tiles[tile], plan, layout.input_stride(),
                         left + layout.input_offset(0, tile));
    });
  }

  void finish(const WorkspaceLayout& layout, const Tile* tiles, const float* sums) const {
    // Several panels of a tile in turn, so that longer parts of each pixel are written at once.
    const int64_t count = panel_count(results.channels), groups = (count + PANELS_PER_GROUP - 1) / PANELS_PER_GROUP;
    dynamic_parallel_for(groups * layout.tiles, 4, [&](int64_t begin, int64_t end) {
      for (int64_t item = begin; item < end; ++item) {
        const int64_t first = item / layout.tiles * PANELS_PER_GROUP, last = std::min(count, first + PANELS_PER_GROUP);
        finish_tile(layout, item % layout.tiles, first, last, tiles, sums + layout.product_offset(first, 0, 0));
      }
      finish_nontemporal_stores();
    });
  }

  // Panels [first, last) of one tile; `sums` are those of `first`.
  void finish_tile(const WorkspaceLayout& layout, int64_t tile, int64_t first, int64_t last, const Tile* tiles,
                   const float* sums) const {
    for (int64_t panel = first; panel < last; ++panel)
      transform_results(sums + layout.product_offset(panel - first, 0, tile), layout.product_stride(), panel,
                        tiles[tile], layout.plan, results, out.mutable_data_ptr<float>(), epilogue);
  }

  // Each thread takes batches of tiles from inputs to results.
  void run_few_channels(const TilePlan& plan, const std::vector<Tile>& all) const {
    const FewChannels few(x, taps, plan);
    const int64_t count = all.size(), batch_size = few.batch_size();
    dynamic_parallel_for((count + batch_size - 1) / batch_size, 1, [&](int64_t begin, int64_t end) {
      for (int64_t first = begin * batch_size; first < std::min(count, end * batch_size); first += batch_size) {
        const WorkspaceLayout layout(few.plan(), std::min(batch_size, count - first));
        const int64_t next = std::min(count, first + batch_size);
        const Tile* tiles = all.data() + first;
        few.products(layout, tiles, all.data() + next, std::min(batch_size, count - next),
                     [&](int64_t begin_panel, int64_t end_panel, const float* sums) {
                       for (int64_t tile = 0; tile < layout.tiles; ++tile)
                         finish_tile(layout, tile, begin_panel, end_panel, tiles, sums);
                     });
      }
      finish_nontemporal_stores();
    });
  }
};

// Writes the convolution to `out`; `taps`: (panels of O, I, 9, PANEL).
void convolve(const at::Tensor& x, const at::Tensor& taps, const Epilogue& epilogue, const Window& window,
              const at::Tensor& out) {
  const bool channel_blocked = out.dim() == 5;
  const int64_t batch = x.size(0), inputs = x.size(1);
  const int64_t outputs = channel_blocked ? out.size(1) * CACHE_LINE : out.size(1);
  if (batch == 0) return;
  const MapShape map{x.size(2), x.size(3), inputs}, results{out.size(2), out.size(3), outputs, channel_blocked};
  const Convolution convolution{x, taps, epilogue, map, results, out};
  for_each_plan(results, inputs, batch, window,
                [&](const TilePlan& plan, const std::vector<Tile>& tiles) { convolution.run(plan, tiles); });
}

// With an even dilation, stride 2 reads only every other row and column: it equals stride 1 on the subsampled map.
at::Tensor subsample_even_dilation(const at::Tensor& features, Window& window) {
  check_setting("dilation", window.dilation);
  TORCH_CHECK(window.stride == 1 || (window.stride == 2 && (window.dilation == 1 || window.dilation % 2 == 0)),
              "stride must be 1, or 2 with a dilation of 1 or an even one");
  if (window.stride != 2 || window.dilation % 2 != 0) return channels_last(features);
  window.stride = 1, window.dilation /= 2;
  const auto map = channels_last(features);
  return channels_last(map.slice(2, 0, map.size(2), 2).slice(3, 0, map.size(3), 2));
}

}  // namespace

at::Tensor winograd(const at::Tensor& features, const at::Tensor& taps, const at::Tensor& bias, bool relu,
                    int64_t stride, int64_t dilation, int64_t max_tile, bool channel_blocked) {
  Window window{stride, dilation, max_tile};
  const auto x = subsample_even_dilation(features, window);
  const auto offsets = check_vector("bias", bias);
  const auto shape = convolved_shape(x, offsets, window.stride);
  check_channels_and_tile(x.size(1), shape[1], max_tile);
  TORCH_CHECK(!channel_blocked || shape[1] % CACHE_LINE == 0, "blocks of ", CACHE_LINE, " channels cannot hold ",
              shape[1]);
  const auto weights = check_taps(taps, shape[1], x.size(1));
  auto out = channel_blocked ? at::empty({shape[0], shape[1] / CACHE_LINE, shape[2], shape[3], CACHE_LINE}, x.options())
                             : at::empty(shape, x.options(), at::MemoryFormat::ChannelsLast);
  convolve(x, weights, {offsets.const_data_ptr<float>(), nullptr, 0, relu}, window, out);
  return out;
}

// Overwrites each residual value with its result.
void winograd_add_(const at::Tensor& residual, const at::Tensor& features, const at::Tensor& taps,
                   const at::Tensor& bias, bool relu, int64_t stride, int64_t dilation, int64_t max_tile) {
  Window window{stride, dilation, max_tile};
  const auto x = subsample_even_dilation(features, window);
  const auto offsets = check_vector("bias", bias);
  check_channels_and_tile(x.size(1), offsets.size(0), max_tile);
  const auto weights = check_taps(taps, offsets.size(0), x.size(1));
  const auto out = residual_map(residual, convolved_shape(x, offsets, window.stride), features);
  convolve(x, weights, {offsets.const_data_ptr<float>(), out.const_data_ptr<float>(), offsets.size(0), relu}, window,
           out);
  if (!out.is_same(residual)) residual.copy_(out);
}

FASTFCN_OPERATOR(winograd)
FASTFCN_OPERATOR(winograd_add_)

}  // namespace fastfcn
