// Dynamic scheduling of parallel loops.
//
// Cores differ in speed, by design or because other processes keep them busy. With equal shares all threads would wait
// for the slowest one.
#pragma once

#include <ATen/Parallel.h>

#include <atomic>

#include "gemm/matmul.h"

namespace fastfcn {

constexpr int64_t MIN_CHUNKS = 4;  // per thread; with fewer, dynamic scheduling does not pay off

// Calls `work(begin, end)` for parts of [0, count), each taken by the next free thread. Parts shrink from count / (2 *
// threads) to `min_chunk`, so that all threads finish at about the same time. Small loops are divided evenly.
template <class Work>
void dynamic_parallel_for(int64_t count, int64_t min_chunk, const Work& work) {
  const int64_t threads = at::get_num_threads();
  if (threads == 1 || at::in_parallel_region() || count < MIN_CHUNKS * threads * min_chunk)
    return at::parallel_for(0, count, 1, work);
  std::atomic<int64_t> next{0};
  at::parallel_for(0, threads, 1, [&](int64_t, int64_t) {
    for (int64_t begin = next; begin < count; begin = next) {
      const int64_t end = std::min(count, begin + std::max(min_chunk, (count - begin) / (2 * threads)));
      if (next.compare_exchange_strong(begin, end)) work(begin, end);
    }
  });
}

// Divides a matrix product's m x n results: calls `work(first, count, begin, end)` for `count` <= MAX_BLOCK_ROWS rows
// from `first` and columns [begin, end). Most parts have all columns, because every part reads its columns of B again;
// only the last parts are split by columns, which balances the load.
template <class Work>
void parallel_for_blocks(int64_t rows, int64_t columns, const Work& work) {
  constexpr int64_t GROUPS = MAX_BLOCK_ROWS / ROWS / 4, COLUMNS = 4 * PANEL;
  const int64_t groups = (rows + ROWS - 1) / ROWS, blocks = std::max<int64_t>(1, groups / GROUPS);
  const int64_t across = (columns + COLUMNS - 1) / COLUMNS;
  const auto row = [&](int64_t block) { return std::min(rows, groups * block / blocks * ROWS); };
  const auto column = [&](int64_t part) { return std::min(columns, part * COLUMNS); };
  dynamic_parallel_for(blocks * across, 1, [&](int64_t begin, int64_t end) {
    while (begin < end) {
      const int64_t block = begin / across, part = begin % across;
      const int64_t whole = part == 0 ? (end - begin) / across : 0;  // blocks taken with all columns
      const int64_t parts = whole > 0 ? across : std::min(across - part, end - begin);
      const int64_t first = row(block), last = row(block + std::max<int64_t>(whole, 1));
      for_even_parts(last - first, MAX_BLOCK_ROWS, [&](int64_t from, int64_t to) {
        work(first + from, to - from, column(part), column(part + parts));
      });
      begin += std::max<int64_t>(whole, 1) * parts;
    }
  });
}

}  // namespace fastfcn
