// A separable convolution of a map that was upsampled by a whole factor, done on the small map.
//
// Where the dilation is a multiple of the factor, a step of the convolution on the upsampled map is a whole step on
// the small one. Both are linear, so depthwise and 1x1 convolution may come first and the upsampling after, on a
// fourth or a sixteenth of the pixels. That is exact as long as no tap leaves the map. Outside, the upsampled map is
// taken to go on as at its edge, which is what bilinear upsampling (align_corners = false) of a small map that goes
// on as at its edge gives; what the taps outside then contribute is the same along lines parallel to the edge: it is
// computed for one line at each edge and taken away again, since zeros should have been there.
#pragma once

#include "bilinear.h"
#include "small_map.h"

namespace fastfcn {

class Upsampled : public SmallMap {
 public:
  // `map`: (B, C, h, w), of which `image` is meant; `taps`: (C / LANES, 9, LANES); `factor` and `dilation` refer to the
  // upsampled map.
  Upsampled(const at::Tensor& map, int64_t image, int64_t factor, int64_t dilation, const float* taps,
            const Pointwise& pointwise)
      : map_(map.const_data_ptr<float>() + image * map.size(1) * map.size(2) * map.size(3)),
        channels_(map.size(1)), h_(map.size(2)), w_(map.size(3)), factor_(factor), dilation_(dilation), taps_(taps),
        outputs_(pointwise.outputs), rows_(sources(h_, h_ * factor, false)), columns_(sources(w_, w_ * factor, false)) {
    inside_ = at::empty({(h_ + 2) * (w_ + 2), outputs_}, map.options());
    lines_ = at::empty({2 * (height() + width()) + 4, outputs_}, map.options());
    multiply_rows_made(channels_, pointwise, inside_, [this](int64_t row, float* to) { depthwise_inside(row, to); });
    multiply_rows_made(channels_, pointwise, lines_, [this](int64_t row, float* to) { depthwise_line(row, to); });
  }

  int64_t height() const { return h_ * factor_; }
  int64_t width() const { return w_ * factor_; }

  void give(int64_t y, int64_t x, int64_t count, float* out, int64_t apart, bool onto) const override {
    for (int64_t pixel = 0; pixel < count; ++pixel) give_pixel(y, x + pixel, out + pixel * apart, onto);
  }

 private:
  void give_pixel(int64_t y, int64_t x, float* out, bool onto) const {
    // The rows and columns of inside_ begin one step before the map.
    const float row = (y + 0.5f) / factor_ + 0.5f, column = (x + 0.5f) / factor_ + 0.5f;
    const int64_t top = static_cast<int64_t>(row), left = static_cast<int64_t>(column);
    const float below = row - top, right = column - left;
    const float* corner = inside_.const_data_ptr<float>() + (top * (w_ + 2) + left) * outputs_;
    const float* lower = corner + (w_ + 2) * outputs_;
    const float *away[4], *back = nullptr;
    const int count = corrections(y, x, away, &back);
    for (int64_t channel = 0; channel < outputs_; channel += LANES) {
      Vector sum = (1 - below) * ((1 - right) * load(corner + channel) + right * load(corner + outputs_ + channel)) +
                   below * ((1 - right) * load(lower + channel) + right * load(lower + outputs_ + channel));
      for (int line = 0; line < count; ++line) sum -= load(away[line] + channel);
      if (back) sum += load(back + channel);
      store(out + channel, onto ? load(out + channel) + sum : sum);
    }
  }

  // What lies outside at (y, x): lines to take away, at most one of each pair of edges when the map is wide enough,
  // and the corner that two of them share. Opposite edges are both in reach on a map narrower than the dilation.
  int corrections(int64_t y, int64_t x, const float** away, const float** back) const {
    const bool top = y < dilation_, bottom = y >= height() - dilation_;
    const bool left = x < dilation_, right = x >= width() - dilation_;
    int count = 0;
    if (top) away[count++] = line(x);
    if (bottom) away[count++] = line(width() + x);
    if (left) away[count++] = line(2 * width() + y);
    if (right) away[count++] = line(2 * width() + height() + y);
    const int64_t corners = 2 * (width() + height());
    if ((top || bottom) && (left || right)) *back = line(corners + (bottom ? 2 : 0) + (right ? 1 : 0));
    return count;
  }

  const float* line(int64_t place) const { return lines_.const_data_ptr<float>() + place * outputs_; }

  // One pixel of the small map and a ring around it, the map going on as at its edge.
  void depthwise_inside(int64_t pixel, float* out) const {
    const int64_t y = pixel / (w_ + 2) - 1, x = pixel % (w_ + 2) - 1, step = dilation_ / factor_;
    const float* from[9];
    for (int tap = 0; tap < 9; ++tap) {
      const int64_t row = std::clamp<int64_t>(y + (tap / 3 - 1) * step, 0, h_ - 1);
      const int64_t column = std::clamp<int64_t>(x + (tap % 3 - 1) * step, 0, w_ - 1);
      from[tap] = map_ + (row * w_ + column) * channels_;
    }
    for (int64_t channel = 0; channel < channels_; channel += LANES) {
      Vector sum{};
      for (int tap = 0; tap < 9; ++tap) sum += load(taps_ + channel * 9 + tap * LANES) * load(from[tap] + channel);
      store(out + channel, sum);
    }
  }

  // The upsampled map at (y, x), which is moved to the nearest pixel inside.
  Vector upsampled(int64_t y, int64_t x, int64_t channel) const {
    const Source row = rows_[std::clamp<int64_t>(y, 0, height() - 1)];
    const Source column = columns_[std::clamp<int64_t>(x, 0, width() - 1)];
    const float *upper = map_ + row.low * w_ * channels_ + channel, *lower = map_ + row.high * w_ * channels_ + channel;
    const int64_t left = column.low * channels_, right = column.high * channels_;
    return (1 - row.share) * ((1 - column.share) * load(upper + left) + column.share * load(upper + right)) +
           row.share * ((1 - column.share) * load(lower + left) + column.share * load(lower + right));
  }

  // What the taps outside see from a place of an edge: top and bottom by x, left and right by y, then the corners.
  void depthwise_line(int64_t place, float* out) const {
    static constexpr int TAPS[8][3] = {{0, 1, 2}, {6, 7, 8}, {0, 3, 6}, {2, 5, 8}, {0}, {2}, {6}, {8}};
    const int64_t edges[] = {width(), 2 * width(), 2 * width() + height(), 2 * (width() + height())};
    int edge = 0;
    while (edge < 4 && place >= edges[edge]) ++edge;
    const int64_t along = edge < 4 ? place - (edge ? edges[edge - 1] : 0) : 0;
    const int chosen = edge < 4 ? edge : static_cast<int>(4 + place - edges[3]);
    const bool vertical = edge == 2 || edge == 3;
    for (int64_t channel = 0; channel < channels_; channel += LANES) {
      Vector sum{};
      for (int index = 0; index < (edge < 4 ? 3 : 1); ++index) {
        const int tap = TAPS[chosen][index];
        const int64_t down = tap / 3 - 1, across = tap % 3 - 1;
        // Outside the map is outside the map: any step beyond the edge will do there.
        const int64_t y = vertical ? along + down * dilation_ : (down < 0 ? -1 : height());
        const int64_t x = edge < 2 ? along + across * dilation_ : (across < 0 ? -1 : width());
        sum += load(taps_ + channel * 9 + tap * LANES) * upsampled(y, x, channel);
      }
      store(out + channel, sum);
    }
  }

  const float* map_;
  int64_t channels_, h_, w_, factor_, dilation_;
  const float* taps_;
  int64_t outputs_;
  std::vector<Source> rows_, columns_;
  at::Tensor inside_, lines_;
};

}  // namespace fastfcn
