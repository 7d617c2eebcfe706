// JPU behind its first convolutions: the maps resized to the size of the first, side by side, and on them separable
// convolutions of several dilations.
//
// Neither the joined map nor the depthwise results ever exist: of a block of pixels, the depthwise convolution of a few
// channels reads three short rows, resized as they are read, into the first cache, and its results stay in the second
// for the 1x1 convolution. Maps that are resized much are convolved before that, where it takes fewer products: where a
// dilation is a multiple of the map's factor (upsampled.h), or else tap by tap (tapwise.h).
#include <memory>

#include "resized.h"
#include "tapwise.h"
#include "tensors.h"
#include "upsampled.h"

namespace fastfcn {
namespace {

constexpr int TAPS = 9;

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
  std::vector<std::unique_ptr<SmallMap>> small;
};

// What all pixels of an image need.
struct Image {
  int64_t index, height, width, inputs, outputs;
  bool align_corners;
  std::vector<at::Tensor> given;
  std::vector<Resized> maps;
};

// A map in front of its resize, where that takes fewer products.
std::unique_ptr<SmallMap> small_map(const Image& image, const at::Tensor& map, int64_t dilation, const float* taps,
                                    const float* packed) {
  const int64_t pixels = image.height * image.width, factor = image.height / map.size(2);
  const bool whole = factor * map.size(2) == image.height && factor * map.size(3) == image.width;
  // On a map narrower than two dilations opposite edges meet.
  const bool wide = std::min(image.height, image.width) >= 2 * dilation;
  const Pointwise pointwise{packed, image.inputs, image.outputs};
  if (image.outputs % LANES != 0) return nullptr;
  if (factor > 1 && whole && wide && dilation % factor == 0 && !image.align_corners)
    return std::make_unique<Upsampled>(map, image.index, factor, dilation, taps, pointwise);
  if (pixels >= Tapwise::WORTHWHILE * map.size(2) * map.size(3))
    return std::make_unique<Tapwise>(map, image.index, image.height, image.width, image.align_corners, dilation, taps,
                                     pointwise);
  return nullptr;
}

Branch make_branch(const Image& image, int64_t dilation, const float* taps, const float* packed, const float* bias) {
  Branch branch{dilation, taps, packed, bias, {}, {}};
  int64_t first = 0;
  for (size_t index = 0; index < image.maps.size(); ++index) {
    const int64_t last = first + image.maps[index].channels();
    if (auto small = small_map(image, image.given[index], dilation, taps + first * TAPS, packed + first * PANEL)) {
      branch.small.push_back(std::move(small));
    } else {
      auto& runs = branch.resized;
      const bool apart = runs.empty() || runs.back().last != first;
      if (apart || last - runs.back().first > DEPTH) runs.push_back({first, first, {}});
      runs.back().maps.push_back(&image.maps[index]);
      runs.back().last = last;
    }
    first = last;
  }
  return branch;
}

// Depthwise 3x3 of `count` pixels whose inputs are `rows`, LANES channels of three; each begins `dilation` before.
void depthwise(const float* const* rows, int64_t count, int64_t dilation, const float* taps, float* to, int64_t apart) {
  Vector weights[TAPS];
  for (int tap = 0; tap < TAPS; ++tap) weights[tap] = load(taps + tap * LANES);
  const float *above = rows[0], *here = rows[1], *below = rows[2];
  const int64_t middle = dilation * LANES, right = 2 * middle;
  for (int64_t at = 0; at < count * LANES; at += LANES, to += apart) {
    const Vector upper = weights[0] * load(above + at) + weights[1] * load(above + at + middle) +
                         weights[2] * load(above + at + right);
    const Vector center = weights[3] * load(here + at) + weights[4] * load(here + at + middle) +
                          weights[5] * load(here + at + right);
    const Vector lower = weights[6] * load(below + at) + weights[7] * load(below + at + middle) +
                         weights[8] * load(below + at + right);
    store(to, upper + center + lower);
  }
}

// The same for all channels of a run, at `count` pixels from (y, x) on.
void depthwise(const Run& run, const Branch& branch, int64_t y, int64_t x, int64_t count, float* to, int64_t apart) {
  static thread_local std::vector<float> space;
  const int64_t dilation = branch.dilation, length = (count + 2 * dilation) * LANES;
  space.resize(3 * length);
  const float* const rows[] = {space.data(), space.data() + length, space.data() + 2 * length};
  const float* taps = branch.taps + run.first * TAPS;
  for (const Resized* map : run.maps)
    for (int64_t channel = 0; channel < map->channels(); channel += LANES, taps += TAPS * LANES, to += LANES) {
      for (int64_t row = 0; row < 3; ++row)
        map->read(channel, y + (row - 1) * dilation, x - dilation, x + count + dilation, space.data() + row * length);
      depthwise(rows, count, dilation, taps, to, apart);
    }
}

// `work(y, x, count, before)` for the parts of rows that pixels [first, last) are, `before` being how many came before.
template <class Work>
void each_row(int64_t first, int64_t last, int64_t width, const Work& work) {
  for (int64_t pixel = first; pixel < last;) {
    const int64_t x = pixel % width, count = std::min(last - pixel, width - x);
    work(pixel / width, x, count, pixel - first);
    pixel += count;
  }
}

// Pixels [first, last), at most BLOCK, of a branch's results.
void convolve(const Image& image, const Branch& branch, int64_t first, int64_t last, float* out, int64_t out_stride) {
  static thread_local std::vector<float> narrow, sums;
  const int64_t outputs = image.outputs;
  narrow.resize(BLOCK * (image.inputs + LANES)), sums.resize(BLOCK * outputs);
  if (!branch.small.empty()) std::fill_n(sums.data(), (last - first) * outputs, 0.f);
  for (const auto& map : branch.small)
    each_row(first, last, image.width, [&](int64_t y, int64_t x, int64_t count, int64_t before) {
      map->add_to(y, x, count, sums.data() + before * outputs);
    });
  const Ending ending{branch.bias, branch.small.empty() ? nullptr : sums.data(), outputs, true};
  for (const Run& run : branch.resized) {
    const int64_t channels = run.last - run.first, apart = channels + LANES;
    each_row(first, last, image.width, [&](int64_t y, int64_t x, int64_t count, int64_t before) {
      depthwise(run, branch, y, x, count, narrow.data() + before * apart, apart);
    });
    multiply(last - first, outputs, channels, narrow.data(), apart, branch.packed + run.first * PANEL, image.inputs,
             out, out_stride, &run != &branch.resized.front(), &run == &branch.resized.back() ? &ending : nullptr);
  }
}

}  // namespace

// `maps`: finest first; `taps`: (dilations, slices, 9, LANES); `packed`: (dilations, panels, inputs, PANEL); `bias`:
// (dilations, outputs), of both batch norms.
at::Tensor jpu(const at::TensorList& maps, const at::Tensor& taps, const at::Tensor& packed, const at::Tensor& bias,
               at::IntArrayRef dilations, bool align_corners) {
  std::vector<at::Tensor> held;
  int64_t inputs = 0;
  for (const auto& map : maps) {
    held.push_back(channels_last(map));
    TORCH_CHECK(map.size(1) % LANES == 0, "channels in multiples of ", LANES, " are needed");
    inputs += map.size(1);
  }
  const int64_t batch = held[0].size(0), height = held[0].size(2), width = held[0].size(3), outputs = bias.size(1);
  const int64_t total = dilations.size() * outputs;
  auto out = at::empty({batch, total, height, width}, held[0].options(), at::MemoryFormat::ChannelsLast);
  for (int64_t index = 0; index < batch; ++index) {
    Image image{index, height, width, inputs, outputs, align_corners, held, {}};
    for (const auto& map : held) image.maps.emplace_back(map, index, height, width, align_corners);
    float* to = out.mutable_data_ptr<float>() + index * height * width * total;
    for (size_t part = 0; part < dilations.size(); ++part, to += outputs) {
      const auto branch = make_branch(image, dilations[part], taps.const_data_ptr<float>() + part * taps.stride(0),
                                      packed.const_data_ptr<float>() + part * packed.stride(0),
                                      bias.const_data_ptr<float>() + part * outputs);
      share_rows(height * width, [&](int64_t begin, int64_t end) {
        for (int64_t first = begin; first < end; first += BLOCK)
          convolve(image, branch, first, std::min(first + BLOCK, end), to + first * total, total);
      });
    }
  }
  return out;
}

}  // namespace fastfcn
