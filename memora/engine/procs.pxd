from libc.stdint cimport uint8_t, uint32_t, uint64_t, int64_t
from memora.engine.layout cimport mm_map

cdef uint32_t fork_epoch() noexcept nogil
cdef int lock_take(mm_map *m, uint64_t timeout_ns) noexcept nogil
cdef int lock_try(mm_map *m) noexcept nogil
cdef void lock_release(mm_map *m) noexcept nogil
cdef int slot_alive(mm_map *m, uint32_t slot) noexcept nogil
cdef int claim_slot(mm_map *m, const char *slots_path, int across_fork, void **life, uint32_t *slot, uint32_t *gen) noexcept nogil
cdef uint32_t name_of(uint32_t slot, uint32_t gen) noexcept nogil
cdef uint32_t lock_name(const mm_map *m) noexcept nogil
cdef int owner_alive(mm_map *m, uint32_t w) noexcept nogil
cdef void release_slot(mm_map *m) noexcept nogil
cdef int reap(mm_map *m) noexcept nogil
cdef int64_t claim_snapshot(mm_map *m) noexcept nogil
cdef int entry_alive(mm_map *m, uint32_t i) noexcept nogil
cdef void entry_freed(mm_map *m, uint32_t i) noexcept nogil
cdef uint64_t announce(mm_map *m, uint32_t entry, uint64_t mark) noexcept nogil
cdef uint64_t announced(mm_map *m, uint32_t entry) noexcept nogil
cdef void withdraw(mm_map *m, uint32_t entry) noexcept nogil
cdef void release_snapshot(mm_map *m, uint32_t entry) noexcept nogil
cdef int release_dead_snapshots(mm_map *m) noexcept nogil
cdef int revoke_oldest(mm_map *m, int64_t spare, int checkpoints) noexcept nogil
cdef int revoke(mm_map *m, uint32_t entry, uint64_t word) noexcept nogil
cdef uint64_t ticket_take(mm_map *m, uint32_t entry, uint64_t for_ns) noexcept nogil
cdef void ticket_release(mm_map *m, uint64_t ticket) noexcept nogil
cdef int ticket_stands(mm_map *m, uint64_t mine, int ask) noexcept nogil
