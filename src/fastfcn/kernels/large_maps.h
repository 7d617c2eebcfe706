// Memory of very large maps, which is kept for the next one, of whatever size.
//
// Blocks of hundreds of megabytes leave gaps in the system's allocator that no other block fills: kept, they cost up to
// twice the memory that is ever in use; handed back, a page fault for every 4 KiB. Here a large map gets a range of
// addresses far longer than itself, of which only what is written takes memory; the next map begins at the same place.
#pragma once

#include <ATen/ATen.h>

#include <algorithm>
#include <mutex>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace fastfcn {

class LargeMaps {
 public:
  static constexpr size_t LEAST = 60 << 20, LENGTH = size_t{8} << 30;  // bytes

  struct Range {
    void* begin;
    size_t used;  // bytes from the begin on that have memory
  };

  // An address range for `bytes` until it is given back; null where there is none to be had. Of the free ones that with
  // the least memory which is enough, else that with the most.
  Range* take(size_t bytes) {
    const std::lock_guard<std::mutex> lock(mutex_);
    auto best = free_.begin();
    for (auto each = free_.begin(); each != free_.end(); ++each) {
      const bool fits = (*each)->used >= bytes, best_fits = (*best)->used >= bytes;
      if (fits ? !best_fits || (*each)->used < (*best)->used : !best_fits && (*each)->used > (*best)->used) best = each;
    }
    Range* range = best != free_.end() ? *best : mapped();
    if (best != free_.end()) free_.erase(best);
    if (range) range->used = std::max(range->used, bytes);
    return range;
  }

  void give_back(Range* range) {
    const std::lock_guard<std::mutex> lock(mutex_);
    free_.push_back(range);
  }

  static LargeMaps& all() {
    static auto* maps = new LargeMaps;  // never destroyed: tensors may outlive everything else
    return *maps;
  }

 private:
  static Range* mapped() {
#if defined(__linux__)
    void* begin = mmap(nullptr, LENGTH, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return begin == MAP_FAILED ? nullptr : new Range{begin, 0};
#else
    return nullptr;
#endif
  }

  std::mutex mutex_;
  std::vector<Range*> free_;
};

// A map of `shape` (B, C, H, W), channels last, of undefined values.
inline at::Tensor empty_map(at::IntArrayRef shape, const at::Tensor& like) {
  const size_t bytes = c10::multiply_integers(shape) * sizeof(float);
  const bool large = bytes >= LargeMaps::LEAST && bytes <= LargeMaps::LENGTH;
  LargeMaps::Range* range = large ? LargeMaps::all().take(bytes) : nullptr;
  if (!range) return at::empty(shape, like.options(), at::MemoryFormat::ChannelsLast);
  const int64_t row = shape[3] * shape[1];
  return at::from_blob(range->begin, shape, {shape[2] * row, 1, row, shape[1]},
                       [range](void*) { LargeMaps::all().give_back(range); }, like.options());
}

}  // namespace fastfcn
