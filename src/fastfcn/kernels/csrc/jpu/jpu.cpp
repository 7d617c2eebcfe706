// JPU after its first convolutions: resize all maps to the first one's size, concatenate, apply a separable convolution
// for each dilation, and optionally the head's first 1x1 convolution to the result.
//
// Neither the concatenated map nor the depthwise results exist in memory. For a block of pixels, the depthwise
// convolution of a few channels reads short rows in L1, resized on the fly; its results stay in L2 for the 1x1
// convolution, and the results of that for the head's. Small maps are convolved at their breakpoints and the results
// interpolated instead, if that takes fewer products (breakpoint_convolution.h).
#include <optional>

#include "common/channel_blocks.h"
#include "common/register.h"
#include "common/tensors.h"
#include "jpu/breakpoint_convolution.h"
#include "jpu/depthwise_block.h"

namespace fastfcn {
namespace {

// Consecutive maps with channels [first, last) of the concatenation, multiplied together.
struct MapRun {
  int64_t first, last;
  std::vector<const ResizedMap*> maps;
};

// One dilation: maps convolved after the resize, and maps convolved at breakpoints.
struct Branch {
  int64_t dilation;
  const float *taps, *packed, *bias;
  std::vector<MapRun> resized;
  std::vector<BreakpointConvolution> coarse;
};

// The optional 1x1 convolution after JPU: (panels, inputs, PANEL).
struct NextConvolution {
  const float *packed, *bias;
  int64_t inputs, outputs;
};

// What all branches of an image share.
struct Image {
  int64_t index, height, width, inputs, outputs;
  bool align_corners;
  const std::vector<MapInput>& map_inputs;
  std::vector<std::optional<ResizedMap>> resized;  // of each map, created on first use

  const ResizedMap& resized_map(size_t map) {
    if (!resized[map])
      resized[map].emplace(map_inputs[map].blocked(), index, map_inputs[map].channels(), height, width, align_corners);
    return *resized[map];
  }
};

// The convolution at breakpoints, if it takes at most 3/4 of the products.
std::optional<BreakpointConvolution> coarse_map(const Image& image, const MapInput& map, int64_t dilation,
                                                const float* taps, const float* packed) {
  const int64_t height = map.height(), width = map.width();
  const auto pays = [&](int64_t positions) { return 4 * positions < 3 * image.height * image.width; };
  if (image.outputs % LANES != 0 || !pays(height * width)) return {};
  const TapAxis rows{height, image.height, image.align_corners, dilation};
  const TapAxis columns{width, image.width, image.align_corners, dilation};
  Breakpoints row_breakpoints(rows), column_breakpoints(columns);
  if (!pays(row_breakpoints.count() * column_breakpoints.count())) return {};
  return std::optional<BreakpointConvolution>(std::in_place, map.channels_last_map(), image.index, rows, columns,
                                              std::move(row_breakpoints), std::move(column_breakpoints), taps,
                                              Pointwise{packed, image.inputs, image.outputs});
}

Branch make_branch(Image& image, int64_t dilation, const float* taps, const float* packed, const float* bias) {
  Branch branch{dilation, taps, packed, bias, {}, {}};
  int64_t first = 0;
  for (size_t index = 0; index < image.map_inputs.size(); ++index) {
    const int64_t last = first + image.map_inputs[index].channels();
    if (auto coarse =
            coarse_map(image, image.map_inputs[index], dilation, taps + first * TAPS, packed + first * PANEL)) {
      branch.coarse.push_back(std::move(*coarse));
    } else {
      auto& runs = branch.resized;
      const bool disjoint = runs.empty() || runs.back().last != first;
      if (disjoint || last - runs.back().first > max_depth()) runs.push_back({first, first, {}});
      runs.back().maps.push_back(&image.resized_map(index));
      runs.back().last = last;
    }
    first = last;
  }
  return branch;
}

// Computes a block of a branch's results, pixels `pixel_stride` floats apart.
void convolve(const Image& image, const Branch& branch, const Block& block, float* out, int64_t pixel_stride) {
  static thread_local Scratch depthwise_results;
  depthwise_results.resize(block.pixels() * (image.inputs + LANES));
  bool accumulate = false;  // whether `out` holds partial sums
  for (const BreakpointConvolution& map : branch.coarse) {
    for (int64_t row = 0; row < block.rows; ++row)
      map.write(block.y + row * branch.dilation, block.x, block.count, out + row * block.count * pixel_stride,
                pixel_stride, accumulate);
    accumulate = true;
  }
  const Epilogue epilogue{branch.bias, nullptr, 0, true};
  for (const MapRun& run : branch.resized) {
    const int64_t channels = run.last - run.first;
    depthwise_block(run.maps, block, branch.dilation, branch.taps + run.first * TAPS, depthwise_results.data(),
                    channels + LANES);
    multiply(block.pixels(), image.outputs, channels, depthwise_results.data(), channels + LANES,
             branch.packed + run.first * PANEL, image.inputs, out, pixel_stride, accumulate,
             &run == &branch.resized.back() ? &epilogue : nullptr);
    accumulate = true;
  }
}

// Multiplies one branch's results of a row of pixels by its part of the next convolution's weights, and adds them to
// `out`.
void add_part(const float* results, int64_t pixel_stride, int64_t pixels, int64_t channels, const NextConvolution& next,
              int64_t part, int64_t parts, float* out) {
  const bool first = part == 0, last = part + 1 == parts;
  const Epilogue epilogue{first ? next.bias : nullptr, nullptr, 0, last};
  multiply(pixels, next.outputs, channels, results, pixel_stride, next.packed + part * channels * PANEL, next.inputs,
           out, next.outputs, !first, first || last ? &epilogue : nullptr);
}

// Computes one branch and writes its results to `out`, or adds their share of the next convolution.
void convolve(const Image& image, const Branch& branch, int64_t part, int64_t parts,
              const std::optional<NextConvolution>& next, float* out) {
  const auto all = blocks(image.height, image.width, branch.dilation);
  const int64_t outputs = image.outputs, pixel_stride = outputs + LANES;
  dynamic_parallel_for(all.size(), 1, [&](int64_t begin, int64_t end) {
    static thread_local Scratch results;
    for (int64_t index = begin; index < end; ++index) {
      const Block& block = all[index];
      results.resize(std::max<size_t>(results.size(), block.pixels() * pixel_stride));
      convolve(image, branch, block, results.data(), pixel_stride);
      for (int64_t row = 0; row < block.rows; ++row) {
        const float* from = results.data() + row * block.count * pixel_stride;
        const int64_t pixel = (block.y + row * branch.dilation) * image.width + block.x;
        if (next) add_part(from, pixel_stride, block.count, outputs, *next, part, parts, out + pixel * next->outputs);
        for (int64_t at = 0; at < block.count && !next; ++at)
          std::copy_n(from + at * pixel_stride, outputs, out + ((pixel + at) * parts + part) * outputs);
      }
    }
  });
}

}  // namespace

// `maps`: finest first, channels last or channel-blocked; `taps`: (D, C / LANES, 9, LANES); `packed`: (D, panels of O,
// C, PANEL); `bias`: (D, O), with both batch norms folded in. `next_packed`, `next_bias`: an optional 1x1 convolution
// with ReLU.
at::Tensor jpu(const at::TensorList& maps, const at::Tensor& taps, const at::Tensor& packed, const at::Tensor& bias,
               at::IntArrayRef dilations, bool align_corners, const std::optional<at::Tensor>& next_packed,
               const std::optional<at::Tensor>& next_bias) {
  TORCH_CHECK(!maps.empty(), "expected at least one map");
  const std::vector<MapInput> map_inputs(maps.begin(), maps.end());
  int64_t inputs = 0;
  for (const MapInput& map : map_inputs) inputs += map.channels();
  const int64_t batch = map_inputs[0].batch(), height = map_inputs[0].height(), width = map_inputs[0].width();
  for (const MapInput& map : map_inputs)
    TORCH_CHECK(map.batch() == batch, "expected maps of ", batch, " images, got ", map.batch());
  const int64_t parts = dilations.size();
  TORCH_CHECK(parts > 0, "expected at least one dilation");
  for (const int64_t dilation : dilations) check_setting("dilations", dilation);
  TORCH_CHECK(bias.dim() == 2 && bias.size(1) > 0, "expected `bias` to be (D, O), got ", bias.sizes());
  const int64_t outputs = bias.size(1);
  const auto weights = check_shape("packed", packed, {parts, panel_count(outputs), inputs, PANEL});
  const auto offsets = check_shape("bias", bias, {parts, outputs});
  const auto depthwise_taps = check_shape("taps", taps, {parts, inputs / LANES, TAPS, LANES});
  std::optional<NextConvolution> next;
  at::Tensor next_weights, next_offsets;
  TORCH_CHECK(next_packed.has_value() == next_bias.has_value(), "the next convolution needs weights and a bias");
  if (next_packed) {
    next_offsets = check_vector("next_bias", *next_bias);
    TORCH_CHECK(next_offsets.size(0) % LANES == 0, "the next convolution needs outputs in multiples of ", LANES);
    next_weights = check_packed("next_packed", *next_packed, next_offsets.size(0), parts * outputs);
    next = NextConvolution{next_weights.const_data_ptr<float>(), next_offsets.const_data_ptr<float>(), parts * outputs,
                           next_offsets.size(0)};
  }
  const int64_t total = next ? next->outputs : parts * outputs;
  auto out = at::empty({batch, total, height, width}, map_inputs[0].options(), at::MemoryFormat::ChannelsLast);
  for (int64_t index = 0; index < batch; ++index) {
    Image image{index, height, width, inputs, outputs, align_corners, map_inputs, {}};
    image.resized.resize(map_inputs.size());
    for (int64_t part = 0; part < parts; ++part) {
      const auto branch =
          make_branch(image, dilations[part], depthwise_taps.const_data_ptr<float>() + part * inputs * TAPS,
                      weights.const_data_ptr<float>() + part * weights.size(1) * inputs * PANEL,
                      offsets.const_data_ptr<float>() + part * outputs);
      convolve(image, branch, part, parts, next, out.mutable_data_ptr<float>() + index * height * width * total);
    }
  }
  return out;
}

FASTFCN_OPERATOR(jpu)

}  // namespace fastfcn
