from libc.stdint cimport uint8_t, uint32_t, uint64_t, int64_t
from memora.engine.layout cimport mm_map

# Kernels of the collector
cdef void scan_pins(mm_map *m) noexcept nogil
cdef int pinned(const mm_map *m, uint32_t granule) noexcept nogil
cdef int release_dead_pins(mm_map *m) noexcept nogil

# An extent that this process pins, for all views of it.
cdef class Held:
    cdef int64_t entry              # its pin
    cdef uint32_t granule
    cdef uint32_t views             # View objects
    cdef uint32_t buffers           # buffers they exported
    cdef uint64_t nbytes
    cdef object key

# What one process holds of one region.
cdef class Views:
    cdef mm_map *m
    cdef object region              # while something is held; else None
    cdef dict held                  # granule -> Held
    cdef list idle                  # entries owned, with nothing in them
    cdef uint32_t epoch
    cdef list for_child             # [(Held, entry)] made before a fork
    cdef Held hold(self, object region, uint32_t granule, uint64_t nbytes, object key)
    cdef int drop(self, Held h) except -1
    cdef int within_budget(self, Held h) except -1
    cdef object shown(self, Held h, const uint8_t *p, uint64_t n)
    cdef int for_fork(self, uint32_t owner) except -1
    cdef int in_child(self) except -1
