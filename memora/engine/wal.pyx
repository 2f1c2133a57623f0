"""The log: one record a commit, in a ring of the region. The change feed reads it, the flusher writes it to the file.

LAYOUT      mm_record, then n_ops times mm_op + key + new value + old value, each op padded to 8. A position (lsn) counts bytes
            since the region's first record; position p lies at ring[p % ring_bytes] and may wrap. [ring_tail, ring_head) is whole.
            A record over a quarter of the ring keeps its ops in an extent (MM_REC_BIG, mm_bigref).
            A value that lies in an extent is not copied: its op holds a mm_valref (MM_REC_REFS), and expand() puts the value there for
            the feed and for the file. The record takes as much of the ring as its new values would, unwritten: lengths and positions
            are those of the file, and the ring bounds what the log keeps from being freed.
INVARIANTS  (1) Only bytes outside [tail, head) are written, under the commit lock, before the descriptor that moves head.
            (2) The tail is a record boundary, moved by a descriptor of its own *before* anything is written behind it.
            (3) With files, the tail never passes written_lsn unless durability is off.
            (4) Every commit has a record, also an empty one: commit numbers in the log have no holes.
READERS     load head, copy, acquire fence, load tail: the copy counts only if its position is still >= tail (feed.pyx).
CRASH       Killed while writing behind head: those bytes are outside the ring's window; the next commit writes them again.
"""
from libc.stdint cimport uint8_t, uint32_t, uint64_t, int64_t
from libc.stddef cimport size_t
from libc.stdlib cimport realloc
from libc.string cimport memcpy, memset
from memora.engine.descriptor cimport begin, get64, put64, roll_forward, seal
from memora.engine.extents cimport extent_bytes, new_extent, retire_extent
from memora.engine.layout cimport *
from memora.engine.sync cimport *


cdef void ring_in(uint8_t *ring, uint64_t size, uint64_t pos, const void *src, uint64_t n) noexcept nogil:
    cdef uint64_t at = pos % size, first = size - at
    if first > n:
        first = n
    memcpy(ring + at, src, first)
    if n > first:
        memcpy(ring, <const uint8_t *>src + first, n - first)


cdef void ring_out(const uint8_t *ring, uint64_t size, uint64_t pos, void *dst, uint64_t n) noexcept nogil:
    cdef uint64_t at = pos % size, first = size - at
    if first > n:
        first = n
    memcpy(dst, ring + at, first)
    if n > first:
        memcpy(<uint8_t *>dst + first, ring, n - first)


cdef void record_begin(mm_map *m) noexcept nogil:
    m.rec_n = m.rec_full = sizeof(mm_record)
    m.rec_ops = m.rec_refs = 0


cdef int record_op(mm_map *m, uint8_t op, uint32_t tree, const uint8_t *k, size_t kn, const uint8_t *v, uint64_t vn,
                   const uint8_t *old, uint64_t oldn, int had_old, uint64_t expiry, uint32_t new_at, uint32_t old_at) noexcept nogil:
    """Add an operation to the record of the commit being built. MM_OK or MM_NOMEM.

    new_at, old_at: the extents that hold the values; 0: they are copied from v and old.
    """
    cdef mm_valref new_ref, old_ref
    cdef uint64_t size, whole = vn
    if new_at:
        new_ref.granule = new_at
        new_ref.pad = 0
        new_ref.nbytes = vn
        v = <const uint8_t *>&new_ref
        vn = sizeof(new_ref)
    if old_at:
        old_ref.granule = old_at
        old_ref.pad = 0
        old_ref.nbytes = oldn
        old = <const uint8_t *>&old_ref
        oldn = sizeof(old_ref)
    size = (sizeof(mm_op) + kn + vn + oldn + 7) & ~<uint64_t>7
    cdef void *p
    cdef uint8_t *at
    cdef mm_op *o
    if m.rec_n + size > m.rec_cap:
        p = realloc(m.rec, (m.rec_n + size) * 2 + 4096)
        if p == NULL:
            return MM_NOMEM
        m.rec = <uint8_t *>p
        m.rec_cap = (m.rec_n + size) * 2 + 4096
    o = <mm_op *>(m.rec + m.rec_n)
    o.tree = tree
    o.op = op
    o.flags = (MM_OPF_OLD if had_old else 0) | (MM_OPF_NEW_REF if new_at else 0) | (MM_OPF_OLD_REF if old_at else 0)
    o.pad = 0
    o.klen = <uint32_t>kn
    o.nlen = <uint32_t>whole
    o.olen = <uint32_t>oldn
    o.size = <uint32_t>size
    o.expiry_ns = expiry
    at = <uint8_t *>o + sizeof(mm_op)
    memcpy(at, k, kn)
    at += kn
    if vn:
        memcpy(at, v, vn)
        at += vn
    if oldn:
        memcpy(at, old, oldn)
        at += oldn
    memset(at, 0, <size_t>(<uint8_t *>o + size - at))
    m.rec_n += size
    m.rec_full += (sizeof(mm_op) + kn + whole + oldn + 7) & ~<uint64_t>7
    m.rec_ops += 1
    if new_at or old_at:
        m.rec_refs += 1
    return MM_OK


cdef int64_t expand(mm_map *m, const uint8_t *ops, uint64_t n, uint32_t count, uint8_t *out, uint64_t room, int with_old) noexcept nogil:
    """Put values in the place of what names them; the length of the whole, written to out if there is room. -1: damaged, or it does not fit.

    Without old values, as in the file, what names those stays. The bytes count only if the record is still in the ring afterwards.
    """
    cdef mm_op o
    cdef mm_valref ref
    cdef const uint8_t *p
    cdef const uint8_t *value
    cdef uint64_t at = 0, to = 0, held_new, held_old, size
    while count:
        count -= 1
        if at + sizeof(o) > n:
            return -1
        memcpy(&o, ops + at, sizeof(o))
        held_new = sizeof(ref) if o.flags & MM_OPF_NEW_REF else o.nlen
        held_old = o.olen
        if o.size < sizeof(o) or o.size & 7 or o.size > n - at or sizeof(o) + o.klen + held_new + held_old > o.size:
            return -1
        if o.flags & MM_OPF_OLD_REF and o.olen != sizeof(ref):
            return -1
        p = ops + at + sizeof(o)
        at += o.size
        if o.flags & MM_OPF_OLD_REF and with_old:
            memcpy(&ref, p + o.klen + held_new, sizeof(ref))
            if extent_bytes(m, ref.granule, ref.nbytes) == NULL:
                return -1
            o.olen = <uint32_t>ref.nbytes
        if o.flags & MM_OPF_NEW_REF:
            memcpy(&ref, p + o.klen, sizeof(ref))
            if ref.nbytes != o.nlen or extent_bytes(m, ref.granule, o.nlen) == NULL:
                return -1
        size = (sizeof(o) + o.klen + <uint64_t>o.nlen + o.olen + 7) & ~<uint64_t>7
        if size > 0xfffffff0U or out != NULL and size > room - to:
            return -1
        if out != NULL:
            memcpy(out + to + sizeof(o), p, o.klen)
            value = p + o.klen
            if o.flags & MM_OPF_NEW_REF:
                memcpy(&ref, value, sizeof(ref))
                value = extent_bytes(m, ref.granule, o.nlen)
            memcpy(out + to + sizeof(o) + o.klen, value, o.nlen)
            value = p + o.klen + held_new
            if o.flags & MM_OPF_OLD_REF and with_old:
                memcpy(&ref, value, sizeof(ref))
                value = extent_bytes(m, ref.granule, o.olen)
                o.flags &= ~<uint8_t>MM_OPF_OLD_REF
            memcpy(out + to + sizeof(o) + o.klen + o.nlen, value, o.olen)
            memset(out + to + sizeof(o) + o.klen + o.nlen + o.olen, 0, size - sizeof(o) - o.klen - o.nlen - o.olen)
            o.flags &= ~<uint8_t>MM_OPF_NEW_REF
            o.size = <uint32_t>size
            memcpy(out + to, &o, sizeof(o))
        to += size
    return <int64_t>to


cdef int record_write(mm_map *m) noexcept nogil:
    """Write the record behind the ring's head and note the stores that will publish it."""
    cdef mm_record r
    cdef mm_bigref big
    cdef mm_extent *x
    cdef uint64_t head = m.hot.ring_head, full = m.rec_full
    if m.rec_refs and full < m.rec_n + sizeof(big):
        full = m.rec_n + sizeof(big)
    r.len = <uint32_t>full
    r.crc = 0
    r.lsn = head
    r.commit = m.building
    r.time_ns = m.now_ns
    r.n_ops = m.rec_ops
    r.flags = MM_REC_REFS if m.rec_refs else 0
    if full > m.ring_bytes // 4:
        if full > 0xffffff00U:
            m.need = full
            return MM_TOO_BIG
        x = new_extent(m, 0, m.rec_n - sizeof(r), &big.granule)
        if x == NULL:
            return MM_NEED_EXTENT if m.need else MM_CORRUPT
        big.nbytes = m.rec_n - sizeof(r)
        big.crc = 0
        memcpy(<uint8_t *>x + sizeof(mm_extent), m.rec + sizeof(r), big.nbytes)
        r.flags |= MM_REC_BIG
        r.len = sizeof(r) + sizeof(big)
        ring_in(m.ring, m.ring_bytes, head + sizeof(r), &big, sizeof(big))
    elif m.rec_refs:
        big.granule = 0
        big.crc = 0
        big.nbytes = m.rec_n - sizeof(r)
        ring_in(m.ring, m.ring_bytes, head + sizeof(r), &big, sizeof(big))
        ring_in(m.ring, m.ring_bytes, head + sizeof(r) + sizeof(big), m.rec + sizeof(r), big.nbytes)
    elif m.rec_ops:
        ring_in(m.ring, m.ring_bytes, head + sizeof(r), m.rec + sizeof(r), m.rec_n - sizeof(r))
    ring_in(m.ring, m.ring_bytes, head, &r, sizeof(r))
    put64(m, &m.hot.ring_head, head + r.len)
    return MM_OK


cdef int seal_now(mm_map *m) noexcept nogil:
    """Seal and perform what was noted, without a new commit."""
    cdef int st = seal(m, m.hot.commit_seq)
    if st == MM_OK:
        st = roll_forward(m)
    begin(m)
    return st


cdef int log_room(mm_map *m) noexcept nogil:
    """Make sure that a quarter of the ring is free, by dropping old records. Under the commit lock, nothing being built.

    MM_NEED_LOG: the records in the way are not yet in the file; flush and start again.
    """
    cdef uint64_t head = m.hot.ring_head, tail = m.hot.ring_tail, commit = m.hot.tail_commit, limit = head
    cdef mm_record r
    cdef mm_bigref big
    cdef int st
    if head - tail <= m.ring_bytes * 3 // 4 - 4096:
        return MM_OK
    if m.durable > 0:
        limit = mm_ld64(&m.hot.written_lsn)
    begin(m)
    while head - tail > m.ring_bytes // 2:
        if tail >= limit:
            break
        ring_out(m.ring, m.ring_bytes, tail, &r, sizeof(r))
        if r.len < sizeof(r) or r.len & 7 or r.len > head - tail or r.lsn != tail:
            m.corrupt_page = 0
            m.corrupt_what = b"a record in the log ring is damaged"
            return MM_CORRUPT
        if r.flags & MM_REC_BIG:
            ring_out(m.ring, m.ring_bytes, tail + sizeof(r), &big, sizeof(big))
            m.building = m.hot.commit_seq
            st = retire_extent(m, big.granule)
            if st:
                return st
        mm_prefetch(m.ring + (tail + 6 * r.len) % m.ring_bytes)         # the sixth after it, if they are of one length
        tail += r.len
        commit = r.commit + 1
    if tail == m.hot.ring_tail:
        return MM_NEED_LOG
    put64(m, &m.hot.ring_tail, tail)
    put64(m, &m.hot.tail_commit, commit)
    st = seal_now(m)        # sync point: a feed reader's load of ring_tail after its copy
    mm_fence_rel()
    if st == MM_OK and head - tail > m.ring_bytes * 3 // 4 - 4096:
        return MM_NEED_LOG
    return st


cdef int log_shed(mm_map *m, uint64_t limit) noexcept nogil:
    """Drop the oldest records until the extents that only the log needs take at most `limit` bytes: the ring does not count all of them.

    Under the commit lock, nothing being built. MM_FOUND: some were dropped; MM_ABSENT: nothing was to be dropped, or may be yet.
    """
    cdef uint64_t head = m.hot.ring_head, tail = m.hot.ring_tail, pos = tail, total = 0, allowed = head, left = m.hot.xlog_count
    cdef uint32_t g = <uint32_t>m.hot.xlog_head
    cdef mm_record r
    cdef mm_bigref big
    cdef int st, dropped = 0
    if m.durable > 0:
        allowed = mm_ld64(&m.hot.written_lsn)
    while pos < head:
        ring_out(m.ring, m.ring_bytes, pos, &r, sizeof(r))
        if r.len < sizeof(r) or r.len & 7 or r.len > head - pos or r.lsn != pos:
            m.corrupt_page = 0
            m.corrupt_what = b"a record in the log ring is damaged"
            return MM_CORRUPT
        if r.flags & MM_REC_BIG:
            ring_out(m.ring, m.ring_bytes, pos + sizeof(r), &big, sizeof(big))
            total += big.nbytes
        pos += r.len
    while g and left:
        if g >= m.hot.n_units * MM_PER_UNIT:
            m.corrupt_page = g
            m.corrupt_what = b"list of retired values leaves the region"
            return MM_CORRUPT
        total += <uint64_t>mm_extent_at(m, g).granules * MM_GRANULE
        g = mm_extent_at(m, g).link
        left -= 1
    g = <uint32_t>m.hot.xlog_head
    begin(m)
    m.building = m.hot.commit_seq
    while total > limit and tail < allowed:
        ring_out(m.ring, m.ring_bytes, tail, &r, sizeof(r))
        if r.flags & MM_REC_BIG:
            ring_out(m.ring, m.ring_bytes, tail + sizeof(r), &big, sizeof(big))
            st = retire_extent(m, big.granule)
            if st:
                return st
            total -= big.nbytes
        while g and mm_extent_at(m, g).retired <= r.commit:
            total -= <uint64_t>mm_extent_at(m, g).granules * MM_GRANULE
            g = mm_extent_at(m, g).link
        tail += r.len
        dropped = 1
        put64(m, &m.hot.ring_tail, tail)
        put64(m, &m.hot.tail_commit, r.commit + 1)
        if m.buf.n > MM_DESC_STORES - 40:
            st = seal_now(m)
            if st:
                return st
    st = seal_now(m) if m.buf.n else MM_OK      # sync point: a feed reader's load of ring_tail after its copy
    mm_fence_rel()
    return st if st else MM_FOUND if dropped else MM_ABSENT
