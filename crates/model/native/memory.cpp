// Has the C library keep memory that was freed, for the next tensor, in pages of 2 MiB where the kernel has them to give.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <malloc.h>
#include <sys/mman.h>

// The heap grows by at least so many bytes: a network asks for that much within a few layers.
[[maybe_unused]] static constexpr int GROWTH_BYTES = 64 << 20;
// Addresses of the heap that are asked for in large pages: what training at common sizes needs. Addresses alone take no memory.
[[maybe_unused]] static constexpr std::size_t LARGE_PAGES_BYTES = std::size_t{8} << 30;
[[maybe_unused]] static constexpr std::uintptr_t LARGE_PAGE_BYTES = std::uintptr_t{2} << 20;

extern "C" void remaster_keep_freed_memory() noexcept {
#ifdef __GLIBC__
    // One heap for all threads: those of their own are 64 MB at most, and what is larger would be mapped after all.
    mallopt(M_ARENA_MAX, 1);
    mallopt(M_MMAP_MAX, 0);
    mallopt(M_TRIM_THRESHOLD, -1);
    mallopt(M_TOP_PAD, GROWTH_BYTES);
    // Advice holds for what is mapped, so the heap is made so large at once. It stays so: nothing is given back from now on.
    // Where there is no room for it, or none of such pages, all goes on in small ones.
    void *heap = std::malloc(LARGE_PAGES_BYTES);
    if (heap == nullptr) {
        return;
    }
    const auto from = reinterpret_cast<std::uintptr_t>(heap);
    const auto first = (from + LARGE_PAGE_BYTES - 1) / LARGE_PAGE_BYTES * LARGE_PAGE_BYTES;
    madvise(reinterpret_cast<void *>(first), from + LARGE_PAGES_BYTES - first, MADV_HUGEPAGE);
    std::free(heap);
#endif
}
