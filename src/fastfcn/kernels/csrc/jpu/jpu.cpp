// JPU behind its first convolutions: the maps resized to the size of the first, side by side, and on them separable
// convolutions of several dilations; and, where the head begins with a 1x1 convolution, that one too.
//
// Neither the joined map nor the depthwise results ever exist: of a block of pixels, the depthwise convolution of a few
// channels reads short rows, resized as they are read, into the first cache, and its results stay in the second for the
// 1x1 convolution, as do the results of that for the head's. Maps whose results are straight lines for long enough are
// convolved where these bend, and the results interpolated (interpolated.h).
#include <optional>

#include "common/channel_blocks.h"
#include "common/register.h"
#include "common/tensors.h"
#include "jpu/breakpoint_convolution.h"
#include "jpu/depthwise_block.h"

namespace fastfcn {
namespace {

// Maps whose channels lie side by side, from `first` on; they are multiplied together.
struct Run {
  int64_t first, last;
  std::vector<const Resized*> maps;
};

// One dilation: the maps that it convolves when resized, and those before.
struct Branch {
  int64_t dilation;
  const float *taps, *packed, *bias;
  std::vector<Run> resized;
  std::vector<Interpolated> small;
};

// The 1x1 convolution behind JPU, if there is one: (panels, inputs, PANEL).
struct Next {
  const float *packed, *bias;
  int64_t inputs, outputs;
};

// What all pixels of an image need.
struct Image {
  int64_t index, height, width, inputs, outputs;
  bool align_corners;
  const std::vector<GivenMap>& given;
  std::vector<std::optional<Resized>> resized;  // of each map, made when one is needed

  const Resized& resized_map(size_t map) {
    if (!resized[map])
      resized[map].emplace(given[map].lines(), index, given[map].channels(), height, width, align_corners);
    return *resized[map];
  }
};

// A map in front of its resize, where that takes fewer products.
std::optional<Interpolated> small_map(const Image& image, const GivenMap& given, int64_t dilation, const float* taps,
                                      const float* packed) {
  const int64_t height = given.height(), width = given.width();
  const auto pays = [&](int64_t places) { return 4 * places < 3 * image.height * image.width; };
  if (image.outputs % LANES != 0 || !pays(height * width)) return {};
  const TapAxis rows{height, image.height, image.align_corners, dilation};
  const TapAxis columns{width, image.width, image.align_corners, dilation};
  Bends bent_rows(rows), bent_columns(columns);
  if (!pays(bent_rows.count() * bent_columns.count())) return {};
  return std::optional<Interpolated>(std::in_place, given.channels_last_map(), image.index, rows, columns,
                                     std::move(bent_rows), std::move(bent_columns), taps,
                                     Pointwise{packed, image.inputs, image.outputs});
}

Branch make_branch(Image& image, int64_t dilation, const float* taps, const float* packed, const float* bias) {
  Branch branch{dilation, taps, packed, bias, {}, {}};
  int64_t first = 0;
  for (size_t index = 0; index < image.given.size(); ++index) {
    const int64_t last = first + image.given[index].channels();
    if (auto small = small_map(image, image.given[index], dilation, taps + first * TAPS, packed + first * PANEL)) {
      branch.small.push_back(std::move(*small));
    } else {
      auto& runs = branch.resized;
      const bool apart = runs.empty() || runs.back().last != first;
      if (apart || last - runs.back().first > most_depth()) runs.push_back({first, first, {}});
      runs.back().maps.push_back(&image.resized_map(index));
      runs.back().last = last;
    }
    first = last;
  }
  return branch;
}

// A block of a branch's results, pixels `apart` floats from each other.
void convolve(const Image& image, const Branch& branch, const Block& block, float* out, int64_t apart) {
  static thread_local Scratch narrow;
  narrow.resize(block.pixels() * (image.inputs + LANES));
  bool before = false;  // whether a part of the sums is there
  for (const Interpolated& map : branch.small) {
    for (int64_t row = 0; row < block.rows; ++row)
      map.give(block.y + row * branch.dilation, block.x, block.count, out + row * block.count * apart, apart, before);
    before = true;
  }
  const Ending ending{branch.bias, nullptr, 0, true};
  for (const Run& run : branch.resized) {
    const int64_t channels = run.last - run.first;
    depthwise_block(run.maps, block, branch.dilation, branch.taps + run.first * TAPS, narrow.data(), channels + LANES);
    multiply(block.pixels(), image.outputs, channels, narrow.data(), channels + LANES,
             branch.packed + run.first * PANEL, image.inputs, out, apart, before,
             &run == &branch.resized.back() ? &ending : nullptr);
    before = true;
  }
}

// What a part of JPU's results of a row of pixels, `apart` floats from each other, adds to those behind the next
// convolution.
void add_part(const float* results, int64_t apart, int64_t pixels, int64_t channels, const Next& next, int64_t part,
              int64_t parts, float* out) {
  const bool first = part == 0, last = part + 1 == parts;
  const Ending ending{first ? next.bias : nullptr, nullptr, 0, last};
  multiply(pixels, next.outputs, channels, results, apart, next.packed + part * channels * PANEL, next.inputs, out,
           next.outputs, !first, first || last ? &ending : nullptr);
}

// The results of one dilation, the `part`th, into the map `out`, or what they add to it behind the next convolution.
void convolve(const Image& image, const Branch& branch, int64_t part, int64_t parts, const std::optional<Next>& next,
              float* out) {
  const auto all = blocks(image.height, image.width, branch.dilation);
  const int64_t outputs = image.outputs, apart = outputs + LANES;
  share_out(all.size(), 1, [&](int64_t begin, int64_t end) {
    static thread_local Scratch results;
    for (int64_t index = begin; index < end; ++index) {
      const Block& block = all[index];
      results.resize(std::max<size_t>(results.size(), block.pixels() * apart));
      convolve(image, branch, block, results.data(), apart);
      for (int64_t row = 0; row < block.rows; ++row) {
        const float* from = results.data() + row * block.count * apart;
        const int64_t pixel = (block.y + row * branch.dilation) * image.width + block.x;
        if (next) add_part(from, apart, block.count, outputs, *next, part, parts, out + pixel * next->outputs);
        for (int64_t at = 0; at < block.count && !next; ++at)
          std::copy_n(from + at * apart, outputs, out + ((pixel + at) * parts + part) * outputs);
      }
    }
  });
}

}  // namespace

// `maps`: finest first, each with its channels last or in lines; `taps`: (dilations, slices, 9, LANES); `packed`:
// (dilations, panels, inputs, PANEL); `bias`: (dilations, outputs), of both batch norms. `next_packed` and `next_bias`:
// of a 1x1 convolution and ReLU behind it.
at::Tensor jpu(const at::TensorList& maps, const at::Tensor& taps, const at::Tensor& packed, const at::Tensor& bias,
               at::IntArrayRef dilations, bool align_corners, const std::optional<at::Tensor>& next_packed,
               const std::optional<at::Tensor>& next_bias) {
  TORCH_CHECK(!maps.empty(), "at least one map is needed");
  const std::vector<GivenMap> given(maps.begin(), maps.end());
  int64_t inputs = 0;
  for (const GivenMap& map : given) inputs += map.channels();
  const int64_t batch = given[0].batch(), height = given[0].height(), width = given[0].width(), outputs = bias.size(1);
  const int64_t parts = dilations.size();
  std::optional<Next> next;
  if (next_packed) {
    TORCH_CHECK(next_bias && next_bias->size(0) % LANES == 0, "outputs in multiples of ", LANES, " are needed");
    next = Next{next_packed->const_data_ptr<float>(), next_bias->const_data_ptr<float>(), parts * outputs,
                next_bias->size(0)};
  }
  const int64_t total = next ? next->outputs : parts * outputs;
  auto out = at::empty({batch, total, height, width}, given[0].options(), at::MemoryFormat::ChannelsLast);
  for (int64_t index = 0; index < batch; ++index) {
    Image image{index, height, width, inputs, outputs, align_corners, given, {}};
    image.resized.resize(given.size());
    for (int64_t part = 0; part < parts; ++part) {
      const auto branch = make_branch(image, dilations[part], taps.const_data_ptr<float>() + part * taps.stride(0),
                                      packed.const_data_ptr<float>() + part * packed.stride(0),
                                      bias.const_data_ptr<float>() + part * outputs);
      convolve(image, branch, part, parts, next, out.mutable_data_ptr<float>() + index * height * width * total);
    }
  }
  return out;
}

FASTFCN_OPERATOR(jpu)

}  // namespace fastfcn
