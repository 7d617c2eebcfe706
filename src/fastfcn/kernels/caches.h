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

}  // namespace fastfcn
