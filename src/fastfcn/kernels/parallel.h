// Rows of matrix products shared out among threads.
#pragma once

#include <ATen/Parallel.h>

#include "matmul.h"

namespace fastfcn {

// `work(first, last)` on about as many of `count` rows for each thread, in whole groups of ROWS but the last.
template <class Work>
void share_rows(int64_t count, const Work& work) {
  at::parallel_for(0, (count + ROWS - 1) / ROWS, 1, [&](int64_t begin, int64_t end) {
    work(begin * ROWS, std::min(end * ROWS, count));
  });
}

}  // namespace fastfcn
