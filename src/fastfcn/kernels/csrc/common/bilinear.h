// Source pixels and interpolation weights of a bilinear resize, equal to those of torch.nn.functional.interpolate.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace fastfcn {

struct Source {
  int64_t low, high;  // the two source pixels
  float fraction;     // weight of the second
};

// Input pixels per output pixel.
inline float resize_step(int64_t input_size, int64_t output_size, bool align_corners) {
  if (!align_corners) return static_cast<float>(input_size) / output_size;
  return output_size > 1 ? static_cast<float>(input_size - 1) / (output_size - 1) : 0.f;
}

// The input coordinate of an output coordinate, which need not be an integer.
template <class Number>
Number resize_position(Number position, Number step, bool align_corners) {
  constexpr Number HALF = 0.5;
  return align_corners ? step * position : std::max(step * (position + HALF) - HALF, Number{0});
}

inline Source source_at(double position, int64_t input_size) {
  const int64_t low = std::min(static_cast<int64_t>(position), input_size - 1);
  return {low, std::min(low + 1, input_size - 1), static_cast<float>(std::clamp(position - low, 0., 1.))};
}

inline std::vector<Source> sources(int64_t input_size, int64_t output_size, bool align_corners) {
  const float step = resize_step(input_size, output_size, align_corners);
  std::vector<Source> result(output_size);
  for (int64_t index = 0; index < output_size; ++index)
    result[index] = source_at(resize_position(static_cast<float>(index), step, align_corners), input_size);
  return result;
}

}  // namespace fastfcn
