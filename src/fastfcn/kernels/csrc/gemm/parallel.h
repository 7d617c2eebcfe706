// Work shared out among threads as they get free.
//
// Cores differ in speed, some by their make, others because a neighbour keeps them busy. Equal shares would wait for
// the slowest of them.
#pragma once

#include <ATen/Parallel.h>

#include <atomic>

#include "gemm/matmul.h"

namespace fastfcn {

constexpr int64_t PARTS = 4;  // of the work, for each thread, from which on handing them out pays

// `work(begin, end)` on parts of [0, count): large ones first, then ever smaller ones, of at least `least`, so that all
// threads end at about the same time. Where there is little for each thread, equal shares.
template <class Work>
void share_out(int64_t count, int64_t least, const Work& work) {
  const int64_t threads = at::get_num_threads();
  if (threads == 1 || at::in_parallel_region() || count < PARTS * threads * least)
    return at::parallel_for(0, count, 1, work);
  std::atomic<int64_t> next{0};
  at::parallel_for(0, threads, 1, [&](int64_t, int64_t) {
    for (int64_t begin = next; begin < count; begin = next) {
      const int64_t end = std::min(count, begin + std::max(least, (count - begin) / (2 * threads)));
      if (next.compare_exchange_strong(begin, end)) work(begin, end);
    }
  });
}

// `work(first, count, begin, end)` on parts of a matrix product's results: `count` rows from `first` on, at most BLOCK,
// and columns [begin, end). Most parts have all columns, since each reads as much of the right side; the last ones have
// some, so that no thread waits long for another.
template <class Work>
void share_results(int64_t rows, int64_t columns, const Work& work) {
  constexpr int64_t GROUPS = BLOCK / ROWS / 4, COLUMNS = 4 * PANEL;
  const int64_t groups = (rows + ROWS - 1) / ROWS, blocks = std::max<int64_t>(1, groups / GROUPS);
  const int64_t across = (columns + COLUMNS - 1) / COLUMNS;
  const auto row = [&](int64_t block) { return std::min(rows, groups * block / blocks * ROWS); };
  const auto column = [&](int64_t part) { return std::min(columns, part * COLUMNS); };
  share_out(blocks * across, 1, [&](int64_t begin, int64_t end) {
    while (begin < end) {
      const int64_t block = begin / across, part = begin % across;
      const int64_t whole = part == 0 ? (end - begin) / across : 0;  // blocks of which all columns are meant
      const int64_t parts = whole > 0 ? across : std::min(across - part, end - begin);
      const int64_t first = row(block), last = row(block + std::max<int64_t>(whole, 1));
      in_even_parts(last - first, BLOCK, [&](int64_t from, int64_t to) {
        work(first + from, to - from, column(part), column(part + parts));
      });
      begin += std::max<int64_t>(whole, 1) * parts;
    }
  });
}

}  // namespace fastfcn
