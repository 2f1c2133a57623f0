from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from memora.engine.layout cimport MM_HEAD, mm_map, mm_frame, mm_slotent

cdef enum:
    PREFIX_WORTH = 3        # bytes that an open prefix must gain over another one

# A cell, taken apart. Pointers lead into a page or into the caller's buffers.
ctypedef struct Entry:
    const uint8_t *key      # the inline part of the key, from its beginning
    uint32_t kn
    uint32_t lg, lk         # key longer than MM_KEY_INLINE: extent with the rest, length of the whole; else 0
    uint32_t child
    uint16_t vinfo          # MM_V_* flags and inline length
    uint64_t expiry
    const uint8_t *val      # inline bytes, or the mm_valref
    uint32_t vn             # bytes at val

cdef int compare(mm_map *m, const mm_frame *p, uint32_t i, const uint8_t *k, size_t kn) noexcept nogil
cdef uint32_t search(mm_map *m, const mm_frame *p, const uint8_t *k, size_t kn, int *found) noexcept nogil
cdef uint32_t search_any(mm_map *m, const mm_frame *p, const uint8_t *k, size_t kn) noexcept nogil
cdef int entry_at(const mm_frame *p, uint32_t i, uint8_t *keybuf, Entry *e) noexcept nogil
cdef int plain_at(const mm_frame *p, uint32_t i, uint8_t *keybuf, Entry *e) noexcept nogil
cdef int value_at(const mm_frame *p, uint32_t i, Entry *e) noexcept nogil
cdef uint32_t child_at(const mm_frame *p, uint32_t i) noexcept nogil
cdef uint32_t entry_bytes(const mm_frame *p, const Entry *e) noexcept nogil
cdef uint32_t used_bytes(const mm_frame *p) noexcept nogil
cdef int add_entry(mm_frame *p, uint32_t i, const Entry *e) noexcept nogil
cdef uint32_t common(const uint8_t *a, uint32_t an, const uint8_t *b, uint32_t bn) noexcept nogil
cdef int belongs(const mm_frame *p, const Entry *e) noexcept nogil
cdef int insert_entry(mm_frame *p, uint32_t i, const Entry *e) noexcept nogil
cdef int is_newest(const mm_frame *p, uint32_t i) noexcept nogil
cdef void drop_entry(mm_frame *p, uint32_t i) noexcept nogil
cdef void clear_page(mm_frame *p, uint8_t kind, uint8_t level, const uint8_t *prefix, uint32_t n) noexcept nogil
cdef uint32_t cell_bytes(const mm_frame *p, uint32_t i) noexcept nogil

cdef inline const mm_slotent *slots(const mm_frame *p) noexcept nogil:
    return <const mm_slotent *>(<const uint8_t *>p + MM_HEAD)
