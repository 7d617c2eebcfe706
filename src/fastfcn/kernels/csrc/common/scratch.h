// Floats that a thread works in. They begin with a line of the cache: a vector across two lines takes two accesses.
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>
#include <vector>

namespace fastfcn {

constexpr int64_t LINE = 16;  // floats of a line of the cache
constexpr size_t LINE_BYTES = LINE * sizeof(float);

template <class T>
struct InLines {
  using value_type = T;

  InLines() = default;
  template <class Other>
  InLines(const InLines<Other>&) {}

  T* allocate(size_t count) { return static_cast<T*>(::operator new(count * sizeof(T), std::align_val_t(LINE_BYTES))); }
  void deallocate(T* data, size_t) { ::operator delete(data, std::align_val_t(LINE_BYTES)); }
  bool operator==(const InLines&) const { return true; }
  bool operator!=(const InLines&) const { return false; }
};

using Scratch = std::vector<float, InLines<float>>;

}  // namespace fastfcn
