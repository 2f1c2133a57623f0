# Cython view of csrc/sync.h; the header documents each function.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t, int64_t

cdef extern from "csrc/sync.h" nogil:
    bint MM_LIKELY(bint)
    bint MM_UNLIKELY(bint)
    uint16_t mm_ld16(const void *) noexcept
    uint32_t mm_ld32(const void *) noexcept
    uint64_t mm_ld64(const void *) noexcept
    uint64_t mm_ld64r(const void *) noexcept
    void mm_st32(void *, uint32_t) noexcept
    void mm_st64(void *, uint64_t) noexcept
    void mm_st64r(void *, uint64_t) noexcept
    bint mm_cas32(void *, uint32_t, uint32_t) noexcept
    bint mm_cas64(void *, uint64_t, uint64_t) noexcept
    uint32_t mm_xchg32(void *, uint32_t) noexcept
    uint64_t mm_xchg64(void *, uint64_t) noexcept
    uint64_t mm_add64(void *, uint64_t) noexcept
    uint32_t mm_add32(void *, uint32_t) noexcept
    void mm_or32(void *, uint32_t) noexcept
    void mm_or64r(void *, uint64_t) noexcept
    void mm_fence() noexcept
    void mm_fence_acq() noexcept
    void mm_fence_rel() noexcept
    void mm_prefetch(const void *) noexcept
    void mm_copy_page(void *, const void *) noexcept
    void mm_pause() noexcept
    uint32_t mm_be32(const uint8_t *, size_t) noexcept
    uint32_t mm_log2(uint32_t) noexcept
    int mm_random(void *, size_t) noexcept
    int mm_futex_wait(void *, uint32_t, uint64_t) noexcept
    void mm_nap(uint64_t) noexcept
    long mm_futex_wake(void *, int) noexcept
    uint64_t mm_mono_ns() noexcept
    uint64_t mm_coarse_ns() noexcept
    uint64_t mm_wall_ns() noexcept
    void *mm_life_hold(const char *, int64_t, int, int) noexcept
    int mm_life_held(int, uint64_t, uint64_t, int64_t) noexcept
    uint32_t mm_crc32c(uint32_t, const void *, size_t) noexcept
    uint32_t mm_fork_epoch_word
    void mm_fork_watch() noexcept
