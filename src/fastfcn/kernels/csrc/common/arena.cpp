// One range of addresses for all large blocks of a network's run, each at the lowest place where it fits.
//
// A general allocator keeps small and lasting blocks between the large ones: their gaps then fit no later block, and
// cost up to half of what is in use; handed back to the system, they cost a page fault for every 4 KiB. In a range of
// their own, maps, which come and go in almost the same order, leave hardly any.
//
// Only the thread that asked for it, and only while it wants, allocates here; any may free. Before the process forks,
// as it does for each process that reads images, gaps go back to the system: what both write would be held twice.
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

constexpr size_t LEAST = 1 << 20, PAGE = 4096;  // bytes

class Arena {
 public:
  // Of as many addresses as the machine has memory, which is taken as it is written; empty where there are none.
  Arena() {
#if defined(__linux__)
    const size_t size = static_cast<size_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGESIZE);
    void* range = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (range != MAP_FAILED) begin_ = static_cast<char*>(range), size_ = size;
#endif
  }

  bool holds(const void* block) const { return block >= begin_ && block < begin_ + size_; }

  // Null where there is no gap left.
  void* take(size_t bytes) {
    bytes = (bytes + PAGE - 1) / PAGE * PAGE;
    const std::lock_guard<std::mutex> lock(mutex_);
    size_t place = 0;
    for (const auto& [start, length] : used_) {
      if (start - place >= bytes) break;
      place = start + length;
    }
    if (place + bytes > size_) return nullptr;
    used_.emplace(place, bytes);
    reached_ = std::max(reached_, place + bytes);
    return begin_ + place;
  }

  void give_back(void* block) {
    const std::lock_guard<std::mutex> lock(mutex_);
    used_.erase(static_cast<char*>(block) - begin_);
  }

  // No other thread may be within while the process forks, or its child would wait for it forever.
  void before_fork() {
    mutex_.lock();
#if defined(__linux__)
    size_t place = 0;
    for (const auto& [start, length] : used_) {
      if (start > place) madvise(begin_ + place, start - place, MADV_DONTNEED);
      place = start + length;
    }
    if (reached_ > place) madvise(begin_ + place, reached_ - place, MADV_DONTNEED);
    reached_ = place;
#endif
  }
  void after_fork() { mutex_.unlock(); }

 private:
  std::mutex mutex_;
  char* begin_ = nullptr;
  size_t size_ = 0, reached_ = 0;  // `reached_`: what lies behind was not written since it was last given back
  std::map<size_t, size_t> used_;  // place -> bytes
};

Arena& arena() {
  static auto* only = new Arena;  // never destroyed: tensors may outlive everything else
  return *only;
}

thread_local bool wanted = false;
c10::Allocator* usual = nullptr;

void free_block(void* block) {
  if (!arena().holds(block)) return usual->raw_deleter()(block);
  c10::profiledCPUMemoryReporter().Delete(block);
  arena().give_back(block);
}

// What torch had before, but for large blocks of those who want the arena.
struct ArenaAllocator : c10::Allocator {
  c10::DataPtr allocate(size_t bytes) override {
    void* block = wanted && bytes >= LEAST ? arena().take(bytes) : nullptr;
    if (!block) return usual->allocate(bytes);
    c10::profiledCPUMemoryReporter().New(block, bytes);
    return {block, block, &free_block, at::Device(at::DeviceType::CPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &free_block; }
  void copy_data(void* to, const void* from, size_t bytes) const override { usual->copy_data(to, from, bytes); }
};

void install() {
  usual = c10::GetCPUAllocator();
  c10::SetCPUAllocator(new ArenaAllocator);
#if defined(__linux__)
  pthread_atfork([] { arena().before_fork(); }, [] { arena().after_fork(); }, [] { arena().after_fork(); });
#endif
}

}  // namespace

// Whether this thread's large blocks come from the arena from now on. Returns whether they did until now.
bool use_arena(bool on) {
  static std::once_flag installed;
  std::call_once(installed, install);
  return std::exchange(wanted, on);
}

FASTFCN_FUNCTION(use_arena)

}  // namespace fastfcn
