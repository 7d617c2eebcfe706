// Breakpoints along an axis of a resized map's convolution: positions between which the result is linear.
//
// Bilinear resizing is linear between neighboring pixels of the small map. The convolution's slope changes where one of
// its three taps crosses such a pixel, possibly between two pixels of the resized map.
#pragma once

#include <set>

#include "common/bilinear.h"

namespace fastfcn {

// What three taps at a position read: two pixels each with interpolation weights, which are 0 if the tap is outside the
// map.
struct TapReads {
  int64_t low[3], high[3];
  float lower[3], upper[3];
};

// An axis of a resized map convolved with three taps. Positions are in pixels of the resized map and need not be
// integers.
struct TapAxis {
  int64_t small, length;  // before and after the resize
  bool align_corners;
  int64_t dilation;

  double step() const { return resize_step(small, length, align_corners); }
  // The position of a pixel of the small map.
  double position(int64_t pixel) const { return align_corners ? pixel / step() : (pixel + .5) / step() - .5; }

  bool inside(double position, int64_t tap) const {
    const double tap_position = position + tap * dilation;
    return tap_position >= 0 && tap_position <= length - 1;
  }
  TapReads reads(double position) const {
    TapReads result{};
    for (int64_t tap = -1; tap <= 1; ++tap) {
      if (!inside(position, tap)) continue;
      const auto [low, high, fraction] =
          source_at(resize_position(position + tap * dilation, step(), align_corners), small);
      result.low[tap + 1] = low, result.high[tap + 1] = high;
      result.lower[tap + 1] = 1 - fraction, result.upper[tap + 1] = fraction;
    }
    return result;
  }
  // Positions in (begin, end) where a tap inside the map crosses a pixel of the small map, sorted.
  std::vector<double> breakpoints(int64_t begin, int64_t end) const {
    std::vector<double> result;
    for (int64_t tap = -1; tap <= 1; ++tap)
      for (int64_t pixel = 0; pixel < small && step() > 0; ++pixel) {
        const double breakpoint = position(pixel) - tap * dilation;
        if (breakpoint > begin + EPSILON && breakpoint < end - EPSILON && inside(breakpoint, tap))
          result.push_back(breakpoint);
      }
    std::sort(result.begin(), result.end());
    const auto same = [](double one, double other) { return other - one < EPSILON; };
    result.erase(std::unique(result.begin(), result.end(), same), result.end());
    return result;
  }

  static constexpr double EPSILON = 1e-6;  // positions closer than this are equal
};

// All breakpoints of an axis, and for each pixel the two breakpoints around it.
struct Breakpoints {
  std::vector<double> positions;
  std::vector<Source> pixel_sources;  // for each pixel, the breakpoints around it

  int64_t count() const { return positions.size(); }

  explicit Breakpoints(const TapAxis& axis) {
    std::set<int64_t> segment_starts{0};  // within a segment the same taps are inside
    if (axis.dilation < axis.length) segment_starts.insert({axis.dilation, axis.length - axis.dilation});
    for (auto begin = segment_starts.begin(); begin != segment_starts.end();) {
      const int64_t first = *begin++;
      add_segment(axis, first, begin == segment_starts.end() ? axis.length - 1 : *begin - 1);
    }
    size_t low = 0;
    for (int64_t pixel = 0; pixel < axis.length; ++pixel) {
      while (low + 2 < positions.size() && positions[low + 1] <= pixel) ++low;
      const size_t high = std::min(low + 1, positions.size() - 1);
      const double fraction = high > low ? (pixel - positions[low]) / (positions[high] - positions[low]) : 0;
      pixel_sources.push_back({static_cast<int64_t>(low), static_cast<int64_t>(high), static_cast<float>(fraction)});
    }
  }

 private:
  // Adds both ends of a segment, and in between its breakpoints or, if there are fewer, the pixels adjacent to them.
  void add_segment(const TapAxis& axis, int64_t begin, int64_t end) {
    const auto breakpoints = axis.breakpoints(begin, end);
    std::vector<double> adjacent_pixels;
    for (int64_t pixel = begin + 1; pixel < end; ++pixel) {
      const auto next = std::upper_bound(breakpoints.begin(), breakpoints.end(), pixel - 1 + TapAxis::EPSILON);
      if (next != breakpoints.end() && *next < pixel + 1 - TapAxis::EPSILON) adjacent_pixels.push_back(pixel);
    }
    const auto& fewer = adjacent_pixels.size() < breakpoints.size() ? adjacent_pixels : breakpoints;
    positions.push_back(begin);
    positions.insert(positions.end(), fewer.begin(), fewer.end());
    if (end > begin) positions.push_back(end);
  }
};

}  // namespace fastfcn
