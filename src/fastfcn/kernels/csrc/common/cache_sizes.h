// Sizes of the CPU's caches.
#pragma once

#include <cstdint>

#if defined(__linux__)
#include <unistd.h>
#endif

namespace fastfcn {

// Float32 values that fit a core's L2 cache; 1 MiB if the system does not report its size.
inline int64_t l2_floats() {
#if defined(__linux__) && defined(_SC_LEVEL2_CACHE_SIZE)
  static const int64_t bytes = sysconf(_SC_LEVEL2_CACHE_SIZE);
  if (bytes > 0) return bytes / sizeof(float);
#endif
  return (1 << 20) / sizeof(float);
}

// Whether L2 has at least 1 MiB, as in recent server cores; larger blocks are processed then.
inline bool has_large_l2() {
  static const bool large = l2_floats() * sizeof(float) >= 1 << 20;
  return large;
}

}  // namespace fastfcn
