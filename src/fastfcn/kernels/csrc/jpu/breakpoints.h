// Where along an axis the results of a convolution of a resized map bend.
//
// Bilinear resizing draws straight lines between the small map's pixels. The convolution of the resized map bends where
// one of its taps passes such a pixel, which may be between two pixels of the resized map.
#pragma once

#include <set>

#include "common/bilinear.h"

namespace fastfcn {

// What the three taps read at a place of an axis: shares of two pixels each, none where a tap is beyond the map.
struct Taken {
  int64_t low[3], high[3];
  float lower[3], upper[3];
};

// An axis of a resized map that is convolved with three taps. Its places may lie between its pixels.
struct TapAxis {
  int64_t small, length;  // before and after the resize
  bool align_corners;
  int64_t dilation;

  double step() const { return resize_step(small, length, align_corners); }
  // Where a pixel of the small map lies.
  double place(int64_t pixel) const { return align_corners ? pixel / step() : (pixel + .5) / step() - .5; }

  bool inside(double place, int64_t tap) const {
    const double at = place + tap * dilation;
    return at >= 0 && at <= length - 1;
  }
  Taken taken(double place) const {
    Taken result{};
    for (int64_t tap = -1; tap <= 1; ++tap) {
      if (!inside(place, tap)) continue;
      const auto [low, high, share] = source_at(resize_position(place + tap * dilation, step(), align_corners), small);
      result.low[tap + 1] = low, result.high[tap + 1] = high;
      result.lower[tap + 1] = 1 - share, result.upper[tap + 1] = share;
    }
    return result;
  }
  // Where one of the taps that are inside passes a pixel of the small map, between two places.
  std::vector<double> bends(int64_t begin, int64_t end) const {
    std::vector<double> result;
    for (int64_t tap = -1; tap <= 1; ++tap)
      for (int64_t pixel = 0; pixel < small && step() > 0; ++pixel) {
        const double found = place(pixel) - tap * dilation;
        if (found > begin + NEAR && found < end - NEAR && inside(found, tap)) result.push_back(found);
      }
    std::sort(result.begin(), result.end());
    const auto same = [](double one, double other) { return other - one < NEAR; };
    result.erase(std::unique(result.begin(), result.end(), same), result.end());
    return result;
  }

  static constexpr double NEAR = 1e-6;  // of what is told apart
};

// Places along such an axis between which the convolution's results are linear, and how its pixels lie between them.
struct Bends {
  std::vector<double> places;
  std::vector<Source> between;  // for each pixel of the axis, its neighbours among `places`

  int64_t count() const { return places.size(); }

  explicit Bends(const TapAxis& axis) {
    std::set<int64_t> begins{0};  // of parts in which the same taps are inside
    if (axis.dilation < axis.length) begins.insert({axis.dilation, axis.length - axis.dilation});
    for (auto begin = begins.begin(); begin != begins.end();) {
      const int64_t first = *begin++;
      add_part(axis, first, begin == begins.end() ? axis.length - 1 : *begin - 1);
    }
    size_t low = 0;
    for (int64_t pixel = 0; pixel < axis.length; ++pixel) {
      while (low + 2 < places.size() && places[low + 1] <= pixel) ++low;
      const size_t high = std::min(low + 1, places.size() - 1);
      const double share = high > low ? (pixel - places[low]) / (places[high] - places[low]) : 0;
      between.push_back({static_cast<int64_t>(low), static_cast<int64_t>(high), static_cast<float>(share)});
    }
  }

 private:
  // Both ends, and between them the bends or, where these are fewer, the pixels beside them.
  void add_part(const TapAxis& axis, int64_t begin, int64_t end) {
    const auto bends = axis.bends(begin, end);
    std::vector<double> beside;
    for (int64_t pixel = begin + 1; pixel < end; ++pixel) {
      const auto next = std::upper_bound(bends.begin(), bends.end(), pixel - 1 + TapAxis::NEAR);
      if (next != bends.end() && *next < pixel + 1 - TapAxis::NEAR) beside.push_back(pixel);
    }
    const auto& fewer = beside.size() < bends.size() ? beside : bends;
    places.push_back(begin);
    places.insert(places.end(), fewer.begin(), fewer.end());
    if (end > begin) places.push_back(end);
  }
};

}  // namespace fastfcn
