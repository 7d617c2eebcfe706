// Scratch memory of a thread: float arrays aligned to cache lines, since a vector across two lines takes two accesses.
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>
#include <vector>

namespace fastfcn {

constexpr int64_t CACHE_LINE = 16;  // floats in a cache line (64 bytes)
constexpr size_t CACHE_LINE_BYTES = CACHE_LINE * sizeof(float);

template <class T>
struct CacheAligned {
  using value_type = T;

  CacheAligned() = default;
  template <class Other>
  CacheAligned(const CacheAligned<Other>&) {}

  T* allocate(size_t count) {
    return static_cast<T*>(::operator new(count * sizeof(T), std::align_val_t(CACHE_LINE_BYTES)));
  }
  void deallocate(T* data, size_t) { ::operator delete(data, std::align_val_t(CACHE_LINE_BYTES)); }
  bool operator==(const CacheAligned&) const { return true; }
  bool operator!=(const CacheAligned&) const { return false; }
};

using Scratch = std::vector<float, CacheAligned<float>>;

}  // namespace fastfcn
