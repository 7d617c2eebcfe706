// Memory of very large maps, which is kept for the next one, of whatever size.
//
// Blocks of hundreds of megabytes leave gaps in the system's allocator that no other block fills: kept, they cost up to
// twice the memory that is ever in use; handed back, a page fault for every 4 KiB. Here a large map gets a range of
// addresses far longer than itself, of which only what is written takes memory; the next map begins at the same place.
#pragma once

#include <ATen/ATen.h>

#include <mutex>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace fastfcn {

class LargeMaps {
 public:
  static constexpr size_t LEAST = 96 << 20, RANGE = size_t{8} << 30;  // bytes

  // An address range of its own until it is given back; null where there is none to be had.
  void* take() {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!free_.empty()) {
      void* range = free_.back();
      free_.pop_back();
      return range;
    }
#if defined(__linux__)
    void* range = mmap(nullptr, RANGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return range == MAP_FAILED ? nullptr : range;
#else
    return nullptr;
#endif
  }

  void give_back(void* range) {
    const std::lock_guard<std::mutex> lock(mutex_);
    free_.push_back(range);
  }

  static LargeMaps& all() {
    static auto* maps = new LargeMaps;  // never destroyed: tensors may outlive everything else
    return *maps;
  }

 private:
  std::mutex mutex_;
  std::vector<void*> free_;
};

// A map of `shape` (B, C, H, W), channels last, of undefined values.
inline at::Tensor empty_map(at::IntArrayRef shape, const at::Tensor& like) {
  const size_t bytes = c10::multiply_integers(shape) * sizeof(float);
  void* range = bytes >= LargeMaps::LEAST && bytes <= LargeMaps::RANGE ? LargeMaps::all().take() : nullptr;
  if (!range) return at::empty(shape, like.options(), at::MemoryFormat::ChannelsLast);
  const int64_t row = shape[3] * shape[1];
  return at::from_blob(range, shape, {shape[2] * row, 1, row, shape[1]},
                       [](void* data) { LargeMaps::all().give_back(data); }, like.options());
}

}  // namespace fastfcn
