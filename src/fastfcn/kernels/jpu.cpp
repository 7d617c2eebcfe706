// JPU behind its first convolutions: the maps resized to the size of the first, side by side, and on them separable
// convolutions of several dilations.
//
// The joined map is kept in slices of LANES channels with zeros around, so that a depthwise convolution reads a few
// short rows that stay in the first cache; of its rows only those that the convolutions of a band of rows reach are
// there at a time. The depthwise results stay in the second cache: a block of pixels goes through all dilations and
// their 1x1 convolutions before the next block. Where a dilation is a multiple of a map's factor, that map is convolved
// before it is upsampled (upsampled.h).
#include <memory>

#include "bilinear.h"
#include "parallel.h"
#include "tensors.h"
#include "upsampled.h"

namespace fastfcn {
namespace {

constexpr int TAPS = 9;

constexpr int64_t BLOCKS = 16;  // of pixels that each thread gets of a band of rows, about

// Rows of the joined map, each in the place of the one that is `rows` above it: (slices, rows, width + 2 margin, LANES).
struct Joined {
  float* data;
  int64_t rows, height, width, margin;

  int64_t row() const { return (width + 2 * margin) * LANES; }
  float* at(int64_t slice, int64_t y, int64_t x) const {
    return data + (slice * rows + (y + margin) % rows) * row() + (x + margin) * LANES;
  }
};

// One image of a map, and where its rows and columns lie in the joined map.
struct Part {
  const float* map;
  int64_t channels, width, first;  // `first`: of its slices
  std::vector<Source> rows, columns;
};

std::vector<Part> parts(const std::vector<at::Tensor>& maps, int64_t image, bool align_corners) {
  std::vector<Part> result;
  int64_t first = 0;
  for (const auto& map : maps) {
    const int64_t channels = map.size(1), height = map.size(2), width = map.size(3);
    result.push_back({map.const_data_ptr<float>() + image * height * width * channels, channels, width, first,
                      sources(height, maps[0].size(2), align_corners), sources(width, maps[0].size(3), align_corners)});
    first += channels / LANES;
  }
  return result;
}

// Row y of a map, resized.
void join_row(const Part& part, const Joined& joined, int64_t y) {
  const Source& row = part.rows[y];
  const float* upper = part.map + row.low * part.width * part.channels;
  const float* lower = part.map + row.high * part.width * part.channels;
  for (int64_t channel = 0; channel < part.channels; channel += LANES) {
    float* out = joined.at(part.first + channel / LANES, y, 0);
    for (const Source& column : part.columns) {
      const int64_t left = column.low * part.channels + channel, right = column.high * part.channels + channel;
      const Vector above = (1 - column.share) * load(upper + left) + column.share * load(upper + right);
      const Vector below = (1 - column.share) * load(lower + left) + column.share * load(lower + right);
      store(out, (1 - row.share) * above + row.share * below);
      out += LANES;
    }
  }
}

// Rows [first, last) of all maps, and the zeros around.
void join(const std::vector<Part>& parts, const Joined& joined, int64_t first, int64_t last) {
  at::parallel_for(first, last, 1, [&](int64_t begin, int64_t end) {
    for (int64_t y = begin; y < end; ++y) {
      const bool inside = y >= 0 && y < joined.height;
      const int64_t empty = (inside ? joined.margin : joined.width + 2 * joined.margin) * LANES;
      for (int64_t slice = 0; slice < parts.back().first + parts.back().channels / LANES; ++slice) {
        std::fill_n(joined.at(slice, y, -joined.margin), empty, 0.f);
        if (inside) std::fill_n(joined.at(slice, y, joined.width), empty, 0.f);
      }
      for (const Part& part : parts)
        if (inside) join_row(part, joined, y);
    }
  });
}

// Depthwise 3x3 of `count` pixels of a row, slices `first` to `last`. `taps`: (slices, 9, LANES).
void depthwise(const Joined& joined, int64_t first, int64_t last, int64_t y, int64_t x, int64_t count,
               int64_t dilation, const float* taps, float* out, int64_t out_stride) {
  for (int64_t slice = first; slice < last; ++slice) {
    Vector weights[TAPS];
    for (int tap = 0; tap < TAPS; ++tap) weights[tap] = load(taps + (slice * TAPS + tap) * LANES);
    const float *above = joined.at(slice, y - dilation, x), *here = joined.at(slice, y, x),
                *below = joined.at(slice, y + dilation, x);
    const int64_t side = dilation * LANES;
    float* to = out + (slice - first) * LANES;
    for (int64_t pixel = 0; pixel < count; ++pixel, to += out_stride) {
      const int64_t at = pixel * LANES;
      const Vector upper = weights[0] * load(above + at - side) + weights[1] * load(above + at) +
                           weights[2] * load(above + at + side);
      const Vector middle = weights[3] * load(here + at - side) + weights[4] * load(here + at) +
                            weights[5] * load(here + at + side);
      const Vector lower = weights[6] * load(below + at - side) + weights[7] * load(below + at) +
                           weights[8] * load(below + at + side);
      store(to, upper + middle + lower);
    }
  }
}

// One dilation: which channels of the joined map it convolves, and the maps that are convolved before upsampling.
struct Branch {
  int64_t dilation;
  const float *taps, *packed, *bias;
  std::vector<std::pair<int64_t, int64_t>> direct;  // [from, to) channels
  std::vector<std::unique_ptr<Upsampled>> upsampled;
};

Branch make_branch(const std::vector<at::Tensor>& maps, int64_t image, int64_t dilation, const float* taps,
                   const float* packed, const float* bias, int64_t inputs, int64_t outputs, bool align_corners) {
  Branch branch{dilation, taps, packed, bias, {}, {}};
  const int64_t height = maps[0].size(2), width = maps[0].size(3);
  int64_t first = 0;
  for (const auto& map : maps) {
    const int64_t channels = map.size(1), factor = height / map.size(2);
    const bool whole = factor * map.size(2) == height && factor * map.size(3) == width;
    // On a map narrower than two dilations opposite edges meet.
    const bool wide = std::min(height, width) >= 2 * dilation;
    if (factor > 1 && whole && wide && dilation % factor == 0 && !align_corners && outputs % LANES == 0)
      branch.upsampled.push_back(std::make_unique<Upsampled>(map, image, factor, dilation, taps + first * TAPS,
                                                             packed + first * PANEL, inputs, outputs));
    else
      branch.direct.emplace_back(first, first + channels);
    first += channels;
  }
  return branch;
}

// Pixels `first` to `last` of a branch's results, `narrow` and `sums` being room for a block.
void convolve(const Branch& branch, const Joined& joined, int64_t first, int64_t last, int64_t inputs, int64_t outputs,
              float* narrow, float* sums, float* out, int64_t out_stride) {
  const int64_t apart = inputs + LANES, width = joined.width;
  if (!branch.upsampled.empty()) std::fill_n(sums, (last - first) * outputs, 0.f);
  for (const auto& map : branch.upsampled)
    for (int64_t pixel = first; pixel < last; ++pixel)
      map->add_to(pixel / width, pixel % width, sums + (pixel - first) * outputs);
  const Ending ending{branch.bias, branch.upsampled.empty() ? nullptr : sums, outputs, true};
  for (size_t part = 0; part < branch.direct.size(); ++part) {
    const auto [from, to] = branch.direct[part];
    for (int64_t pixel = first; pixel < last;) {
      const int64_t count = std::min(last - pixel, width - pixel % width);
      depthwise(joined, from / LANES, to / LANES, pixel / width, pixel % width, count, branch.dilation, branch.taps,
                narrow + (pixel - first) * apart, apart);
      pixel += count;
    }
    multiply(last - first, outputs, to - from, narrow, apart, branch.packed + from * PANEL, inputs,
             out + first * out_stride, out_stride, part > 0, part + 1 == branch.direct.size() ? &ending : nullptr);
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
  const int64_t margin = *std::max_element(dilations.begin(), dilations.end());
  const int64_t bands = std::max<int64_t>(1, height * width / (BLOCKS * BLOCK * at::get_num_threads()));
  const int64_t band = (height + bands - 1) / bands;
  const int64_t rows = band + 2 * margin;
  auto out = at::empty({batch, total, height, width}, held[0].options(), at::MemoryFormat::ChannelsLast);
  auto space = at::empty({inputs / LANES, rows, width + 2 * margin, LANES}, held[0].options());
  const Joined joined{space.mutable_data_ptr<float>(), rows, height, width, margin};
  for (int64_t image = 0; image < batch; ++image) {
    const auto maps_of_image = parts(held, image, align_corners);
    std::vector<Branch> branches;
    for (size_t index = 0; index < dilations.size(); ++index)
      branches.push_back(make_branch(held, image, dilations[index], taps.const_data_ptr<float>() + index * taps.stride(0),
                                     packed.const_data_ptr<float>() + index * packed.stride(0),
                                     bias.const_data_ptr<float>() + index * outputs, inputs, outputs, align_corners));
    float* to = out.mutable_data_ptr<float>() + image * height * width * total;
    for (int64_t top = 0; top < height; top += band) {
      const int64_t bottom = std::min(top + band, height);
      join(maps_of_image, joined, top == 0 ? -margin : top + margin, bottom + margin);
      share_rows((bottom - top) * width, [&](int64_t begin, int64_t end) {
        std::vector<float> narrow(BLOCK * (inputs + LANES)), sums(BLOCK * outputs);
        const int64_t last = top * width + end;
        for (int64_t first = top * width + begin; first < last; first += BLOCK)
          for (size_t index = 0; index < branches.size(); ++index)
            convolve(branches[index], joined, first, std::min(first + BLOCK, last), inputs, outputs, narrow.data(),
                     sums.data(), to + index * outputs, total);
      });
    }
  }
  return out;
}

}  // namespace fastfcn
