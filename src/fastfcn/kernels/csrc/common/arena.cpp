// A CPU allocator for large tensors: one address range, each block at the lowest offset where it fits.
//
// In a general allocator small, long-lived blocks sit between the large ones. The gaps between them then fit no later
// block and waste up to half of the memory in use; returning them to the system instead costs a page fault for every 4
// KiB. In a separate range, feature maps, which are allocated and freed in almost the same order, leave hardly any
// gaps.
//
// Only threads that called use_arena(true) allocate here; any thread may free. Before the process forks, as it does for
// each dataloader worker, gaps are returned to the system: otherwise parent and child would both keep a copy of pages
// that hold nothing.
#include <c10/core/CPUAllocator.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <utility>

#if defined(__linux__)
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>
#endif

#include "common/register.h"

namespace fastfcn {
namespace {

constexpr size_t MIN_BYTES = 1 << 20, PAGE = 4096;  // bytes

class Arena {
 public:
  // Reserves as many addresses as the machine has memory (pages are committed when they are written). Stays empty if
  // the system refuses.
  Arena() {
#if defined(__linux__)
    const size_t size = static_cast<size_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGESIZE);
    void* range = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (range != MAP_FAILED) begin_ = static_cast<char*>(range), size_ = size;
#endif
  }

  bool owns(const void* block) const { return block >= begin_ && block < begin_ + size_; }

  // Returns null if no gap is large enough.
  void* allocate(size_t bytes) {
    bytes = (bytes + PAGE - 1) / PAGE * PAGE;
    const std::lock_guard<std::mutex> lock(mutex_);
    size_t offset = 0;
    for (const auto& [start, length] : used_) {
      if (start - offset >= bytes) break;
      offset = start + length;
    }
    if (offset + bytes > size_) return nullptr;
    used_.emplace(offset, bytes);
    high_water_ = std::max(high_water_, offset + bytes);
    return begin_ + offset;
  }

  void release(void* block) {
    const std::lock_guard<std::mutex> lock(mutex_);
    used_.erase(static_cast<char*>(block) - begin_);
  }

  // Locks: if another thread held the mutex during the fork, the child would wait for it forever.
  void before_fork() {
    mutex_.lock();
#if defined(__linux__)
    size_t offset = 0;
    for (const auto& [start, length] : used_) {
      if (start > offset) madvise(begin_ + offset, start - offset, MADV_DONTNEED);
      offset = start + length;
    }
    if (high_water_ > offset) madvise(begin_ + offset, high_water_ - offset, MADV_DONTNEED);
    high_water_ = offset;
#endif
  }
  void after_fork() { mutex_.unlock(); }

 private:
  std::mutex mutex_;
  char* begin_ = nullptr;
  size_t size_ = 0, high_water_ = 0;  // nothing after high_water_ has been written since it was returned
  std::map<size_t, size_t> used_;     // offset -> bytes
};

Arena& arena() {
  static auto* instance = new Arena;  // never destroyed: tensors may outlive everything else
  return *instance;
}

thread_local bool enabled = false;
c10::Allocator* previous = nullptr;

void free_block(void* block) {
  if (!arena().owns(block)) return previous->raw_deleter()(block);
  c10::profiledCPUMemoryReporter().Delete(block);
  arena().release(block);
}

// Torch's previous allocator, except for large blocks of threads that enabled the arena.
struct ArenaAllocator : c10::Allocator {
  c10::DataPtr allocate(size_t bytes) override {
    void* block = enabled && bytes >= MIN_BYTES ? arena().allocate(bytes) : nullptr;
    if (!block) return previous->allocate(bytes);
    c10::profiledCPUMemoryReporter().New(block, bytes);
    return {block, block, &free_block, at::Device(at::DeviceType::CPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &free_block; }
  void copy_data(void* to, const void* from, size_t bytes) const override { previous->copy_data(to, from, bytes); }
};

void install() {
  previous = c10::GetCPUAllocator();
  c10::SetCPUAllocator(new ArenaAllocator);
#if defined(__linux__)
  pthread_atfork([] { arena().before_fork(); }, [] { arena().after_fork(); }, [] { arena().after_fork(); });
#endif
}

}  // namespace

// Sets whether this thread's large blocks come from the arena. Returns the previous setting.
bool use_arena(bool on) {
  static std::once_flag installed;
  std::call_once(installed, install);
  return std::exchange(enabled, on);
}

FASTFCN_FUNCTION(use_arena)

}  // namespace fastfcn
