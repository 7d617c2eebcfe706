// Work shared out among threads as they get free.
//
// Cores differ in speed, some by their make, others because a neighbour keeps them busy. Equal shares would wait for the
// slowest of them.
#pragma once

#include <ATen/Parallel.h>

#include <atomic>

#include "matmul.h"

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

// `work(first, last)` on parts of `count` rows of a matrix product, in whole groups of ROWS but the last.
template <class Work>
void share_rows(int64_t count, const Work& work) {
  constexpr int64_t LEAST = BLOCK / ROWS / 2;  // each part reads all of the right side
  share_out((count + ROWS - 1) / ROWS, LEAST,
            [&](int64_t begin, int64_t end) { work(begin * ROWS, std::min(end * ROWS, count)); });
}

}  // namespace fastfcn
