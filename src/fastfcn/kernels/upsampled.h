// A separable convolution of a map that was upsampled by a whole factor, done on the small map.
//
// Bilinear upsampling draws straight lines between the small map's pixels. Where a dilation is a multiple of the
// factor, the taps pass these pixels at the same places, and between them the results lie on straight lines as well:
// depthwise and 1x1 convolution may come first and the upsampling after, on a fourth or a sixteenth of the pixels. At
// an odd multiple of half the factor they do so on a grid of the pixels and the middles between them. That is exact as
// long as no tap leaves the map. Outside, the upsampled map is taken to go on as at its edge, which is what bilinear
// upsampling (align_corners = false) of a small map that goes on as at its edge gives; what the taps outside then
// contribute is the same along lines parallel to the edge: it is computed for one line at each edge and taken away
// again, since zeros should have been there.
#pragma once

#include "small_map.h"

namespace fastfcn {

class Upsampled : public SmallMap {
 public:
  // The grid's steps for each of the small map's; 0 where it would have as many places as the upsampled map, or none is
  // right.
  static int64_t steps(int64_t factor, int64_t dilation) {
    if (factor > 1 && dilation % factor == 0) return 1;
    return factor > 2 && 2 * dilation % factor == 0 ? 2 : 0;
  }

  // `map`: (B, C, h, w), of which `image` is meant; `taps`: (C / LANES, 9, LANES); `factor` and `dilation` refer to the
  // upsampled map.
  Upsampled(const at::Tensor& map, int64_t image, int64_t factor, int64_t dilation, const float* taps,
            const Pointwise& pointwise)
      : channels_(map.size(1)), outputs_(pointwise.outputs), dilation_(dilation), taps_(taps),
        rows_(map.size(2), factor, dilation), columns_(map.size(3), factor, dilation) {
    known_ = map.const_data_ptr<float>() + image * map.size(2) * map.size(3) * channels_;
    if (rows_.steps > 1) add_middles(map);
    results_ = at::empty({corners() + 4, outputs_}, map.options());
    multiply_rows_made(channels_, pointwise, results_, [this](int64_t row, float* to) { depthwise(row, to); });
    lines_ = at::empty({2 * (columns_.length + rows_.length), outputs_}, map.options());
    draw_lines();
  }

  void give(int64_t y, int64_t x, int64_t count, float* out, int64_t apart, bool onto) const override {
    for (int64_t pixel = 0; pixel < count; ++pixel) give_pixel(y, x + pixel, out + pixel * apart, onto);
  }

 private:
  // Of the small map, with its grid, and of the upsampled one.
  struct Axis {
    int64_t steps, known, places, length, reach;  // places: those known and one at either side; reach: of a tap
    float share;                                  // of a step from one pixel to the next

    Axis(int64_t small, int64_t factor, int64_t dilation)
        : steps(Upsampled::steps(factor, dilation)), known((small - 1) * steps + 1), places(known + 2),
          length(small * factor), reach(dilation * steps / factor), share(static_cast<float>(steps) / factor) {}

    // The places between which a pixel of the upsampled map lies.
    Source between(int64_t pixel) const {
      const float position = (pixel + 0.5f) * share - 0.5f * steps + 1;
      const int64_t low = static_cast<int64_t>(position);
      return {low, low + 1, position - low};
    }
    // Where a tap reads from a place: the known places go on as at their edge.
    int64_t source(int64_t place, int64_t tap) const {
      return std::clamp<int64_t>(place - 1 + (tap - 1) * reach, 0, known - 1);
    }
  };

  // Rows of results_: all places, then what the taps outside see: from the places of each edge (top, bottom, left,
  // right) and from the four corners.
  int64_t edges() const { return rows_.places * columns_.places; }
  int64_t corners() const { return edges() + 2 * (columns_.places + rows_.places); }
  const float* result(int64_t row) const { return results_.const_data_ptr<float>() + row * outputs_; }

  // The grid's places from the small map: each middle is the mean of its neighbours.
  void add_middles(const at::Tensor& map) {
    const int64_t width = map.size(3), steps = rows_.steps;
    middles_ = at::empty({rows_.known, columns_.known, channels_}, map.options());
    const float* from = known_;
    float* to = middles_.mutable_data_ptr<float>();
    known_ = to;
    share_out(rows_.known, 1, [&](int64_t begin, int64_t end) {
      for (int64_t place = begin * columns_.known; place < end * columns_.known; ++place) {
        const int64_t y = place / columns_.known, x = place % columns_.known;
        const float* upper = from + y / steps * width * channels_;
        const float* lower = from + (y + steps - 1) / steps * width * channels_;
        const int64_t left = x / steps * channels_, right = (x + steps - 1) / steps * channels_;
        for (int64_t channel = 0; channel < channels_; channel += LANES) {
          const Vector above = load(upper + left + channel) + load(upper + right + channel);
          const Vector below = load(lower + left + channel) + load(lower + right + channel);
          store(to + place * channels_ + channel, 0.25f * (above + below));
        }
      }
    });
  }

  void depthwise(int64_t row, float* out) const {
    const int64_t down = rows_.places, across = columns_.places;
    if (row < edges()) return depthwise(row / across, row % across, {0, 2}, {0, 2}, out);
    row -= edges();
    // Outside the map is outside the map: there a tap reads the edge from any place beyond it.
    const auto beyond = [](const Axis& axis, int64_t tap) { return tap == 0 ? 0 : axis.places - 1; };
    if (row < 2 * across) {
      const int64_t tap = row / across * 2;
      return depthwise(beyond(rows_, tap), row % across, {tap, tap}, {0, 2}, out);
    }
    row -= 2 * across;
    if (row < 2 * down) {
      const int64_t tap = row / down * 2;
      return depthwise(row % down, beyond(columns_, tap), {0, 2}, {tap, tap}, out);
    }
    row -= 2 * down;
    const int64_t tap = row / 2 * 2, side = row % 2 * 2;
    depthwise(beyond(rows_, tap), beyond(columns_, side), {tap, tap}, {side, side}, out);
  }

  // What the taps in these rows and columns see from a place.
  void depthwise(int64_t y, int64_t x, std::pair<int64_t, int64_t> rows, std::pair<int64_t, int64_t> columns,
                 float* out) const {
    const float *from[9], *taps[9];
    int count = 0;
    for (int64_t row = rows.first; row <= rows.second; ++row)
      for (int64_t column = columns.first; column <= columns.second; ++column, ++count) {
        from[count] = known_ + (rows_.source(y, row) * columns_.known + columns_.source(x, column)) * channels_;
        taps[count] = taps_ + (row * 3 + column) * LANES;
      }
    for (int64_t channel = 0; channel < channels_; channel += LANES) {
      Vector sum{};
      for (int tap = 0; tap < count; ++tap) sum += load(taps[tap] + channel * 9) * load(from[tap] + channel);
      store(out + channel, sum);
    }
  }

  // What the taps outside see from the pixels of the upsampled map along each edge.
  void draw_lines() {
    float* out = lines_.mutable_data_ptr<float>();
    int64_t first = edges();
    for (const Axis* axis : {&columns_, &columns_, &rows_, &rows_}) {
      for (int64_t pixel = 0; pixel < axis->length; ++pixel, out += outputs_) {
        const Source between = axis->between(pixel);
        const float *low = result(first + between.low), *high = result(first + between.high);
        for (int64_t channel = 0; channel < outputs_; channel += LANES)
          store(out + channel, (1 - between.share) * load(low + channel) + between.share * load(high + channel));
      }
      first += axis->places;
    }
  }

  void give_pixel(int64_t y, int64_t x, float* out, bool onto) const {
    const Source row = rows_.between(y), column = columns_.between(x);
    const float *upper = result(row.low * columns_.places + column.low), *lower = upper + columns_.places * outputs_;
    const float right = column.share, below = row.share;
    const float *away[4], *back = nullptr;
    const int count = corrections(y, x, away, &back);
    for (int64_t channel = 0; channel < outputs_; channel += LANES) {
      Vector sum = (1 - below) * ((1 - right) * load(upper + channel) + right * load(upper + outputs_ + channel)) +
                   below * ((1 - right) * load(lower + channel) + right * load(lower + outputs_ + channel));
      for (int line = 0; line < count; ++line) sum -= load(away[line] + channel);
      if (back) sum += load(back + channel);
      store(out + channel, onto ? load(out + channel) + sum : sum);
    }
  }

  // What lies outside at (y, x): lines to take away, at most one of each pair of edges when the map is wide enough,
  // and the corner that two of them share. Opposite edges are both in reach on a map narrower than the dilation.
  int corrections(int64_t y, int64_t x, const float** away, const float** back) const {
    const int64_t height = rows_.length, width = columns_.length;
    const bool top = y < dilation_, bottom = y >= height - dilation_;
    const bool left = x < dilation_, right = x >= width - dilation_;
    const auto line = [this](int64_t place) { return lines_.const_data_ptr<float>() + place * outputs_; };
    int count = 0;
    if (top) away[count++] = line(x);
    if (bottom) away[count++] = line(width + x);
    if (left) away[count++] = line(2 * width + y);
    if (right) away[count++] = line(2 * width + height + y);
    if ((top || bottom) && (left || right)) *back = result(corners() + (bottom ? 2 : 0) + (right ? 1 : 0));
    return count;
  }

  int64_t channels_, outputs_, dilation_;
  const float* taps_;
  Axis rows_, columns_;
  const float* known_;  // the grid's places: (known rows, known columns, C)
  at::Tensor middles_;  // which holds them where they are not the small map's alone
  at::Tensor results_, lines_;
};

}  // namespace fastfcn
