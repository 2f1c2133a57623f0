from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef uint32_t record_crc(uint64_t incarnation, uint64_t lsn, const uint8_t *p, uint64_t n) noexcept nogil
