// How a map is cut into Winograd's tiles, and how they are held.
#pragma once

#include <ATen/ATen.h>

#include <array>
#include <cstdint>
#include <limits>
#include <map>
#include <vector>

#include "common/cache_sizes.h"
#include "winograd/axis_transforms.h"

namespace fastfcn {

constexpr int64_t WORKSPACE = 6 << 20;         // floats of transformed inputs and products, in most of the last cache
constexpr int64_t FEW_TILES = 64;              // below which transforming the weights takes long beside the products
constexpr int64_t WEIGHTS_AS_TILES = 8;        // what that takes, told in tiles multiplied
constexpr int64_t FORM_AS_PRODUCTS = 200'000;  // what it takes to begin with another form of tiles, told in products
constexpr size_t MOST_KNOWN = 1000;            // layers and sizes whose cut is kept

// Floats of transformed weights, in half of the second cache.
inline int64_t weights_in_cache() { return std::clamp<int64_t>(second_cache() / 2, 1 << 15, 1 << 17); }

inline void check_winograd(int64_t inputs, int64_t outputs, int64_t longest) {
  TORCH_CHECK(inputs % LANES == 0 && outputs % LANES == 0, "channels in multiples of ", LANES, " are needed");
  TORCH_CHECK(longest >= 3 && longest <= MOST_RESULTS, "tiles have 3 to ", MOST_RESULTS, " results, not ", longest);
}

// How the 3x3 taps go over a map, and the most results of a tile along an axis.
struct Window {
  int64_t stride, dilation, longest;
};

// A map with its channels last, or in lines (lines.h).
struct Map {
  int64_t height, width, channels, step, line;  // floats from pixel to pixel, and from LINE channels to the next

  Map(int64_t height, int64_t width, int64_t channels, bool lines = false)
      : height(height), width(width), channels(channels), step(lines ? LINE : channels),
        line(lines ? height * width * LINE : LINE) {}

  int64_t pixel(int64_t image, int64_t y, int64_t x) const {
    return image * height * width * channels + (y * width + x) * step;
  }
  int64_t channel(int64_t index) const { return index / LINE * line + index % LINE; }
};

struct Tile {
  int64_t image, y, x;  // of its first result
};

struct Piece {  // of an axis of the map: where its first result lies, and how it is transformed
  int64_t start;
  const Axis* axis;
};

// Tiles of one form, and how they are worked off: `together` rows of weights at a time, `depth` inputs at a time.
struct Kind {
  const Axis *rows, *columns;
  int64_t stride, dilation, tiles, together, depth;

  Kind(const Axis* rows, const Axis* columns, const Window& window, int64_t tiles, int64_t inputs)
      : rows(rows), columns(columns), stride(window.stride), dilation(window.dilation), tiles(tiles) {
    // With many tiles, few rows at a time: their weights reach deep, so that sums are seldom read and written.
    together = tiles < FEW_TILES ? rows->weights : std::min(rows->weights, std::max(1, 16 / columns->places));
    depth = std::min(inputs, weights_in_cache() / (together * columns->weights * PANEL) / LANES * LANES);
  }
  int64_t places() const { return rows->places * columns->places; }
  int64_t weights() const { return rows->weights * columns->weights; }
  // Of a place, which weights it has.
  int64_t weight(int64_t place) const {
    return rows->weight(place / columns->places) * columns->weights + columns->weight(place % columns->places);
  }
};

// Where `depth` transformed inputs and all products lie, so that matrix products read and write side by side.
struct Layout {
  const Kind& kind;
  int64_t tiles;
  // Those that are multiplied together: groups of `least` tiles, the first `larger` of one more, since a few rows alone
  // take nearly as long as many. Told once, as to divide for each product takes long.
  int64_t groups, least, larger;

  Layout(const Kind& kind, int64_t tiles)
      : kind(kind), tiles(tiles), groups((tiles + ROWS - 1) / ROWS), least(tiles / groups), larger(tiles % groups) {}

  // Odd numbers of cache lines: what lies a power of two apart throws each other out of the cache.
  int64_t row() const { return kind.depth + LINE; }
  int64_t left_apart() const { return tiles * row() + 3 * LINE; }  // one place from the next
  int64_t sums_apart() const { return tiles * PANEL + 3 * LINE; }

  int64_t left(int64_t place, int64_t tile) const { return place * left_apart() + tile * row(); }
  int64_t sum(int64_t panel, int64_t place, int64_t tile) const {
    return (panel * kind.places() + place) * sums_apart() + tile * PANEL;
  }
  int64_t size(int64_t panels) const { return kind.places() * (left_apart() + panels * sums_apart()); }
};

struct Cut {
  std::vector<Piece> pieces;
  std::map<const Axis*, int64_t> forms;  // with how many pieces have them
};

// All pieces of an axis of `length`, phase by phase, each of at most `longest` results; all as long as can be, the last
// one reaching beyond the map, or `even`.
inline Cut cut(int64_t length, const Window& window, int64_t longest, bool even) {
  const int64_t dilation = window.dilation;
  Cut result;
  for (int64_t phase = 0; phase < std::min(dilation, length); ++phase) {
    const int64_t count = (length - phase - 1) / dilation + 1, parts = (count + longest - 1) / longest;
    for (int64_t part = 0; part < parts; ++part) {
      const int64_t begin = even ? count * part / parts : part * longest;
      const int64_t size = even || count <= 2 ? count * (part + 1) / parts - begin : longest;
      result.pieces.push_back({phase + begin * dilation, &axis(size, window.stride, parts == 1)});
      ++result.forms[result.pieces.back().axis];
    }
  }
  return result;
}

// The ways to cut both axes of the results that take the fewest products.
inline std::pair<Cut, Cut> best_cut(const Map& results, int64_t inputs, int64_t batch, const Window& window) {
  std::vector<Cut> down, across;
  const bool strided = window.stride > 1;
  for (int64_t length = strided ? MOST_STRIDED : window.longest; length >= (strided ? 2 : 3); --length)
    for (const bool even : {true, false}) {
      down.push_back(cut(results.height, window, length, even));
      across.push_back(cut(results.width, window, length, even));
    }
  const int64_t begin = WEIGHTS_AS_TILES + FORM_AS_PRODUCTS / (inputs * results.channels);
  std::pair<Cut, Cut> best;
  int64_t least = std::numeric_limits<int64_t>::max();
  for (const Cut& rows : down)
    for (const Cut& columns : across) {
      int64_t products = 0;
      for (const auto& [row, height] : rows.forms)
        for (const auto& [column, width] : columns.forms)
          products += row->places * column->places * batch * height * width + row->weights * column->weights * begin;
      if (products < least) least = products, best = {rows, columns};
    }
  return best;
}

// The same, kept for the next call: choosing takes as long as some layers' transforms.
inline const std::pair<Cut, Cut>& known_cut(const Map& results, int64_t inputs, int64_t batch, const Window& window) {
  using Key = std::array<int64_t, 8>;
  static thread_local std::map<Key, std::pair<Cut, Cut>> known;
  const Key key{results.height, results.width, results.channels, inputs,
                batch,          window.stride, window.dilation,  window.longest};
  auto found = known.find(key);
  if (found == known.end()) {
    if (known.size() == MOST_KNOWN) known.clear();
    found = known.emplace(key, best_cut(results, inputs, batch, window)).first;
  }
  return found->second;
}

// All tiles whose rows and columns have these forms.
inline std::vector<Tile> tiles_of(const Cut& rows, const Axis* row_form, const Cut& columns, const Axis* column_form,
                                  int64_t batch) {
  std::vector<Tile> tiles;
  for (int64_t image = 0; image < batch; ++image)
    for (const Piece& row : rows.pieces)
      for (const Piece& column : columns.pieces)
        if (row.axis == row_form && column.axis == column_form) tiles.push_back({image, row.start, column.start});
  return tiles;
}

// `work(kind, tiles)` for the tiles of each form.
template <class Work>
void each_kind(const Map& results, int64_t inputs, int64_t batch, const Window& window, const Work& work) {
  const auto& [rows, columns] = known_cut(results, inputs, batch, window);
  for (const auto& [row, height] : rows.forms)
    for (const auto& [column, width] : columns.forms)
      work(Kind(row, column, window, batch * height * width, inputs), tiles_of(rows, row, columns, column, batch));
}

// How many tiles are worked off at a time: at most `most`, and as many as `room` floats hold.
class Parts {
 public:
  Parts(const Kind& kind, int64_t outputs, int64_t most, int64_t room) : kind_(kind), outputs_(outputs) {
    const int64_t width = kind.depth + LINE + panels(outputs) * PANEL;
    held_ = std::max<int64_t>(ROWS, std::min(most, room / (kind.places() * width)));
  }

  int64_t held() const { return held_; }
  // Floats for `count` tiles.
  int64_t size(int64_t count) const {
    return Layout(kind_, (count + parts(count) - 1) / parts(count)).size(panels(outputs_));
  }

  // `work(layout, tiles, left, sums)` for the parts of `count` tiles, in `space`.
  template <class Work>
  void each(const Tile* tiles, int64_t count, float* space, const Work& work) const {
    for (int64_t part = 0, all = parts(count); part < all; ++part) {
      const int64_t begin = count * part / all, end = count * (part + 1) / all;
      const Layout layout(kind_, end - begin);
      work(layout, tiles + begin, space, space + layout.left(kind_.places(), 0));
    }
  }

 private:
  int64_t parts(int64_t count) const { return (count + held_ - 1) / held_; }

  const Kind& kind_;
  int64_t outputs_, held_;
};

// That for all tiles, in a workspace of their own.
template <class Work>
void in_parts(const Kind& kind, const std::vector<Tile>& all, int64_t outputs, int64_t most,
              const at::TensorOptions& options, const Work& work) {
  const Parts parts(kind, outputs, most, WORKSPACE);
  const int64_t count = all.size();
  const auto space = at::empty({parts.size(count)}, options);
  parts.each(all.data(), count, space.mutable_data_ptr<float>(), work);
}

}  // namespace fastfcn
