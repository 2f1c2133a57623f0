from libc.stdint cimport uint8_t, uint32_t, uint64_t
from memora.engine.layout cimport mm_map, mm_buf, mm_off
from memora.engine.sync cimport mm_ld32, mm_ld64

# `put` = change a word when the commit is sealed; `get` = the word as this commit will leave it.
cdef void begin(mm_map *m) noexcept nogil
cdef void push(mm_map *m, uint64_t off, uint64_t value) noexcept nogil
cdef void put_word(mm_map *m, uint64_t off, uint64_t value) noexcept nogil
cdef int seal(mm_map *m, uint64_t commit) noexcept nogil
cdef int roll_forward(mm_map *m) noexcept nogil

cdef inline uint32_t place(const mm_buf *b, uint64_t off) noexcept nogil:
    cdef uint32_t h = <uint32_t>((off * 0x9E3779B97F4A7C15ULL) >> 36) & b.mask
    cdef uint64_t e
    while True:
        e = b.hash[h]
        if (e >> 32) != b.stamp or b.v[<uint32_t>e].off == off:
            return h
        h = (h + 1) & b.mask

cdef inline uint64_t get64(const mm_map *m, const void *p) noexcept nogil:
    cdef uint64_t e = m.buf.hash[place(&m.buf, mm_off(m, p) | 1)]
    return m.buf.v[<uint32_t>e].val if (e >> 32) == m.buf.stamp else mm_ld64(p)

cdef inline uint32_t get32(const mm_map *m, const void *p) noexcept nogil:
    cdef uint64_t e = m.buf.hash[place(&m.buf, mm_off(m, p))]
    return <uint32_t>m.buf.v[<uint32_t>e].val if (e >> 32) == m.buf.stamp else mm_ld32(p)

cdef inline void put64(mm_map *m, const void *p, uint64_t value) noexcept nogil:
    put_word(m, mm_off(m, p) | 1, value)

cdef inline void put32(mm_map *m, const void *p, uint32_t value) noexcept nogil:
    put_word(m, mm_off(m, p), value)
