// Has the C library keep memory that was freed, for the next tensor.

#include <climits>
#include <malloc.h>

// The heap grows by at least so many bytes: a network asks for that much within a few layers.
[[maybe_unused]] static constexpr int GROWTH_BYTES = 64 << 20;

extern "C" void remaster_keep_freed_memory() noexcept {
#ifdef __GLIBC__
    // One heap for all threads: those of their own are 64 MB at most, and what is larger would be mapped after all.
    mallopt(M_ARENA_MAX, 1);
    mallopt(M_MMAP_MAX, 0);
    mallopt(M_TRIM_THRESHOLD, INT_MAX);
    mallopt(M_TOP_PAD, GROWTH_BYTES);
#endif
}
