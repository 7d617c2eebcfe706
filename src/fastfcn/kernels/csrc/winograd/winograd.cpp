// 3x3 convolution in Winograd's form (winograd.h): of stride 1 and any dilation, or of stride 2 and dilation 1 or an
// even one.
//
// The results are cut into tiles. The inputs of a tile are transformed, multiplied by the transformed weights (one
// matrix product for each place of a tile, over all tiles), and transformed back: with tiles of 6x6 that takes 64
// products instead of 324, at stride 2 with tiles of 4x4 81 instead of 144. A dilated convolution is an ordinary one on
// each phase of the map (every dilation-th pixel); its tiles are as long as the phase allows, and where a phase is but
// one or two pixels long, the taps that would see only zeros take no products. The weights are kept as they are and
// transformed in cache where they are multiplied: transformed they would take up to seven times their memory, and
// longer to read; those of few channels are transformed once (winograd_few.h).
#include "common/convolutions.h"
#include "common/register.h"
#include "common/tensors.h"
#include "winograd/few_channels.h"

namespace fastfcn {
namespace {

constexpr int64_t MOST_TILES = 132;    // at a time: their sums then stay in the last cache
constexpr int64_t EACH = 16;           // blocks of ROWS tiles that a thread must get to make few channels pay
constexpr int64_t OWN_OUTPUTS = 256;   // the most with which tiles of its own may pay for a thread
constexpr int64_t OUTPUTS_A_TILE = 8;  // the most for each tile at a time, for which it transforms all weights

// What inputs [start, start + depth) add to the products of the places that have rows [first, last) of the weights, for
// one panel of outputs. Meanwhile the taps that will be needed `next` are fetched.
void multiply_places(const Kind& kind, const Layout& layout, int64_t start, int64_t depth, int first, int last,
                     int64_t panel, const float* taps, const float* next, const float* left, float* sums) {
  static thread_local Scratch weights(weights_in_cache() + MOST_PLACES * MOST_PLACES * LINE);
  const int64_t apart = depth * PANEL + LINE;  // as in Layout::row
  const int64_t columns = kind.columns->places;
  const int64_t begin = kind.rows->place(first) * columns, end = kind.rows->place(last) * columns;
  transform_weights(taps, depth, kind, first, last, apart, weights.data());
  Ahead ahead = Ahead::over(next, depth * 9 * PANEL, (end - begin) * layout.groups, depth);
  const float* const right = weights.data() - first * kind.columns->weights * apart;
  for (int64_t place = begin; place < end; ++place)
    multiply_tiles(layout, place, panel, depth, right + kind.weight(place) * apart, left, sums, start > 0, ahead);
}

struct Convolution {
  const at::Tensor &x, &taps;
  const Ending& ending;
  Map map, results;
  at::Tensor out;

  void run(const Kind& kind, const std::vector<Tile>& all) const {
    const int64_t count = all.size(), weights = kind.weights() * map.channels * results.channels;
    if (weights <= FEW_TRANSFORMED && count >= EACH * ROWS * at::get_num_threads()) return few_channels(kind, all);
    const auto work = [&](const Layout& layout, const Tile* tiles, float* left, float* sums) {
      for (int64_t first = 0; first < map.channels; first += kind.depth)
        add(kind, layout, first, std::min(map.channels, first + kind.depth), tiles, left, sums);
      finish(layout, tiles, sums);
    };
    const int64_t threads = at::in_parallel_region() ? 1 : at::get_num_threads();
    const Parts parts(kind, results.channels, MOST_TILES, WORKSPACE / threads);  // of a thread
    const int64_t together = std::min(parts.held(), count / threads);
    const bool own = results.channels <= std::min(OWN_OUTPUTS, OUTPUTS_A_TILE * together);
    if (threads > 1 && own) return each_its_own(parts, all, threads, work);
    in_parts(kind, all, results.channels, MOST_TILES, x.options(), work);
  }

  // Each thread has tiles of its own, whose inputs, products and results stay near it: what another has written takes
  // far longer to read and to write over.
  template <class Work>
  void each_its_own(const Parts& parts, const std::vector<Tile>& all, int64_t threads, const Work& work) const {
    const int64_t count = all.size(), least = count / threads;  // of a thread; others have one more
    const int64_t size = std::max(parts.size(least), parts.size(least + (count % threads > 0)));
    const auto space = at::empty({threads, size}, x.options());
    float* const data = space.mutable_data_ptr<float>();
    at::parallel_for(0, threads, 1, [&](int64_t first, int64_t last) {
      for (int64_t thread = first; thread < last; ++thread) {
        const int64_t begin = count * thread / threads, end = count * (thread + 1) / threads;
        parts.each(all.data() + begin, end - begin, data + thread * size, work);
      }
    });
  }

  // Those of a panel, from an input on.
  const float* weights(int64_t panel, int64_t input) const {
    return taps.const_data_ptr<float>() + (panel * map.channels + input) * 9 * PANEL;
  }

  // What the channels [first, last) add to the sums.
  void add(const Kind& kind, const Layout& layout, int64_t first, int64_t last, const Tile* tiles, float* left,
           float* sums) const {
    read(kind, layout, first, last, tiles, left);
    // All panels with the inputs of some places, which are far more to read than the taps; the last rows first, as more
    // places may have their weights.
    const int64_t groups = (kind.rows->weights + kind.together - 1) / kind.together, count = panels(results.channels);
    share_out(groups * count, 1, [&](int64_t begin, int64_t end) {
      for (int64_t item = begin; item < end; ++item) {
        const int64_t panel = item % count, row = (groups - 1 - item / count) * kind.together;
        const float* next = item + 1 < groups * count ? weights((item + 1) % count, first) : weights(0, last);
        multiply_places(kind, layout, first, last - first, row, std::min(kind.rows->weights + 0L, row + kind.together),
                        panel, weights(panel, first), next, left, sums);
      }
    });
  }

  void read(const Kind& kind, const Layout& layout, int64_t first, int64_t last, const Tile* tiles, float* left) const {
    share_out(layout.tiles, 1, [&](int64_t begin, int64_t end) {
      for (int64_t tile = begin; tile < end; ++tile)
        transform_inputs(x.const_data_ptr<float>(), map, first, last, tiles[tile], kind, layout.left_apart(),
                         left + layout.left(0, tile));
    });
  }

  void finish(const Layout& layout, const Tile* tiles, const float* sums) const {
    // Some panels of a tile, one after the other: results of a pixel are then written in longer pieces.
    const int64_t count = panels(results.channels), groups = (count + TOGETHER - 1) / TOGETHER;
    share_out(groups * layout.tiles, 4, [&](int64_t begin, int64_t end) {
      for (int64_t item = begin; item < end; ++item) {
        const int64_t first = item / layout.tiles * TOGETHER, last = std::min(count, first + TOGETHER);
        finish_tile(layout, item % layout.tiles, first, last, tiles, sums + layout.sum(first, 0, 0));
      }
      finish_streams();
    });
  }

  // Panels [first, last) of a tile, of which `sums` are those of `first`.
  void finish_tile(const Layout& layout, int64_t tile, int64_t first, int64_t last, const Tile* tiles,
                   const float* sums) const {
    for (int64_t panel = first; panel < last; ++panel)
      transform_results(sums + layout.sum(panel - first, 0, tile), layout.sums_apart(), panel, tiles[tile], layout.kind,
                        results, out.mutable_data_ptr<float>(), ending);
  }

  // A block of tiles at a time, from inputs to results, on the thread that has it.
  void few_channels(const Kind& kind, const std::vector<Tile>& all) const {
    const FewChannels few(x, taps, kind);
    const int64_t count = all.size(), held = few.held();
    share_out((count + held - 1) / held, 1, [&](int64_t begin, int64_t end) {
      for (int64_t first = begin * held; first < std::min(count, end * held); first += held) {
        const Layout layout(few.kind(), std::min(held, count - first));
        const int64_t next = std::min(count, first + held);
        const Tile* tiles = all.data() + first;
        few.products(layout, tiles, all.data() + next, std::min(held, count - next),
                     [&](int64_t begin_panel, int64_t end_panel, const float* sums) {
                       for (int64_t tile = 0; tile < layout.tiles; ++tile)
                         finish_tile(layout, tile, begin_panel, end_panel, tiles, sums);
                     });
      }
      finish_streams();
    });
  }
};

// Into `out`; `taps`: (panels, inputs, 9, PANEL).
void convolve(const at::Tensor& x, const at::Tensor& taps, const Ending& ending, const Window& window,
              const at::Tensor& out) {
  const bool lines = out.dim() == 5;
  const int64_t batch = x.size(0), inputs = x.size(1), outputs = lines ? out.size(1) * LINE : out.size(1);
  check_winograd(inputs, outputs, window.longest);
  TORCH_CHECK(window.stride == 1 || (window.stride == 2 && window.dilation == 1),
              "stride 1, or 2 and a dilation of 1 or an even one");
  const Map map{x.size(2), x.size(3), inputs}, results{out.size(2), out.size(3), outputs, lines};
  const Convolution convolution{x, taps, ending, map, results, out};
  each_kind(results, inputs, batch, window,
            [&](const Kind& kind, const std::vector<Tile>& tiles) { convolution.run(kind, tiles); });
}

// With an even dilation stride 2 meets every other row and column alone: it is one of stride 1 on these.
at::Tensor rows_met(const at::Tensor& features, Window& window) {
  if (window.stride != 2 || window.dilation % 2 != 0) return channels_last(features);
  window.stride = 1, window.dilation /= 2;
  return channels_last(features.slice(2, 0, features.size(2), 2).slice(3, 0, features.size(3), 2));
}

}  // namespace

at::Tensor winograd(const at::Tensor& features, const at::Tensor& taps, const at::Tensor& bias, bool relu,
                    int64_t stride, int64_t dilation, int64_t longest, bool lines) {
  Window window{stride, dilation, longest};
  const auto x = rows_met(features, window);
  auto shape = convolved_shape(x, bias, window.stride);
  TORCH_CHECK(!lines || shape[1] % LINE == 0, "lines of ", LINE, " channels cannot hold ", shape[1]);
  auto out = lines ? at::empty({shape[0], shape[1] / LINE, shape[2], shape[3], LINE}, x.options())
                   : at::empty(shape, x.options(), at::MemoryFormat::ChannelsLast);
  convolve(x, taps, {bias.const_data_ptr<float>(), nullptr, 0, relu}, window, out);
  return out;
}

// The residual is written over, each result in the place of its own.
void winograd_add_(const at::Tensor& residual, const at::Tensor& features, const at::Tensor& taps,
                   const at::Tensor& bias, bool relu, int64_t stride, int64_t dilation, int64_t longest) {
  Window window{stride, dilation, longest};
  const auto x = rows_met(features, window);
  const auto out = residual_map(residual, convolved_shape(x, bias, window.stride));
  convolve(x, taps, {bias.const_data_ptr<float>(), out.const_data_ptr<float>(), bias.size(0), relu}, window, out);
  if (!out.is_same(residual)) residual.copy_(out);
}

FASTFCN_OPERATOR(winograd)
FASTFCN_OPERATOR(winograd_add_)

}  // namespace fastfcn
