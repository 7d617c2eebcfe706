// How large the processor's caches are.
#pragma once

#include <cstdint>

#if defined(__linux__)
#include <unistd.h>
#endif

namespace fastfcn {

// Floats that the second cache of a core holds: a mebibyte's where the system does not tell.
inline int64_t second_cache() {
#if defined(__linux__) && defined(_SC_LEVEL2_CACHE_SIZE)
  static const int64_t bytes = sysconf(_SC_LEVEL2_CACHE_SIZE);
  if (bytes > 0) return bytes / sizeof(float);
#endif
  return (1 << 20) / sizeof(float);
}

// Whether it is as large as that of newer servers' cores: more of a map is then worked off at a time.
inline bool large_second_cache() {
  static const bool large = second_cache() * sizeof(float) >= 1 << 20;
  return large;
}

}  // namespace fastfcn
