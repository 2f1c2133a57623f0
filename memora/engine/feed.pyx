"""Readers of the rings: the change feed (the log) and topics. One writer at a time, any number of readers that may be lapped.

READERS     S = commit_seq, then head (acquire); copy the entry at my position; acquire fence; load the tail. The copy counts only if my
            position is still at or after the tail, and only entries of commits <= S are taken. Behind the tail: Lagged, once,
            with what was missed and what is first available; reading then goes on there.
WAITING     seen = event; sleepers = 1; full fence; look again; futex wait on (event, seen), at most 100 ms at a time. The writer
            stores its commit, passes a full barrier (the unlock), then looks at sleepers (commit.wake). A writer killed between
            the two costs 100 ms. Signals are let in after each wait.
CRASH       A reader holds nothing in the region.
"""
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport uint8_t, uint32_t, uint64_t, int64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy
from memora.engine.commit cimport TreeRef, commit_one, read_roots
from memora.engine.extents cimport extent_bytes
from memora.engine.frames cimport published_units
from memora.engine.layout cimport *
from memora.engine.region cimport Region
from memora.engine.status cimport error
from memora.engine.sync cimport *
from memora.engine.wal cimport expand, ring_out

import os
import threading

from memora import errors

PUT = MM_OP_PUT
DELETE = MM_OP_DELETE
CREATE = MM_OP_CREATE
DROP = MM_OP_DROP
MESSAGE = MM_OP_MESSAGE
EVICT = MM_OP_EVICT
EXPIRE = MM_OP_EXPIRE

cdef enum:
    SPIN = 400
    SLICE_NS = 100000000
    POLL_NS = 10000000      # a read-only process cannot say that it sleeps: nobody wakes it


cdef int sleep_on(Region r, uint32_t *event, uint32_t *sleepers, uint32_t seen, uint64_t ns) except -1:
    """One slice of waiting on an eventcount; the caller has stored sleepers and looked again."""
    r.busy += 1
    with nogil:
        mm_futex_wait(event, seen, min(ns, slice_of(&r.m)))
    r.busy -= 1
    if r.closed:
        r._unmap()
        raise errors.ProgrammingError(f"region {r.name!r} was closed while waiting")
    PyErr_CheckSignals()
    return 0


cdef inline uint64_t slice_of(const mm_map *m) noexcept nogil:
    return POLL_NS if m.read_only else SLICE_NS


cdef inline void will_sleep(const mm_map *m, uint32_t *sleepers) noexcept nogil:
    """Say that somebody sleeps, before looking again. sync point: the writer's look at sleepers (commit.wake)."""
    if not m.read_only:
        mm_st32(sleepers, 1)
    mm_fence()


cdef uint64_t deadline_of(timeout_s) except? 0:
    if timeout_s is None:
        return <uint64_t>-1
    if timeout_s < 0:
        raise ValueError(f"a timeout cannot be negative: {timeout_s}")
    if timeout_s > 1e9:
        return <uint64_t>-1
    return mm_mono_ns() + <uint64_t>(timeout_s * 1e9)


cdef class Feed:
    """The commits of a region, in order. since: the last commit already known (None: begin with the next one).

    trees: ids of the trees of interest (None: all); commits that touch none of them are passed over.
    """

    def __cinit__(self, Region region not None, since=None, trees=None):
        region.use()
        self.region = region
        self.trees = None if trees is None else frozenset(trees)
        cdef mm_map *m = &region.m
        cdef uint64_t s
        cdef int i
        if since is None:
            for i in range(1000):
                s = mm_ld64(&m.hot.commit_seq)
                self.pos = mm_ld64(&m.hot.ring_head)
                if mm_ld64(&m.desc.state) == 0 and mm_ld64(&m.hot.commit_seq) == s and mm_ld64(&m.hot.ring_head) == self.pos:
                    self.seen = s
                    return
            since = mm_ld64(&m.hot.commit_seq)      # a commit was left half rolled forward: find the place by walking
        if since < 0 or since > mm_ld64(&m.hot.commit_seq):
            raise errors.ProgrammingError(f"since={since}: the newest commit is {mm_ld64(&m.hot.commit_seq)}")
        self.seen = since
        self.pos = <uint64_t>-1

    def __dealloc__(self):
        free(self.buf)
        free(self.whole)

    cdef int room(self, uint64_t n) except -1:
        cdef void *p
        if n > self.cap:
            p = realloc(self.buf, n + n // 4 + 4096)
            if p == NULL:
                raise MemoryError(f"feed: no private memory for a record of {n} bytes")
            self.buf = <uint8_t *>p
            self.cap = n + n // 4 + 4096
        return 0

    cdef const uint8_t *with_values(self, uint64_t n, uint32_t count, uint64_t *length) except? NULL:
        """The operations in buf with the values that they name; NULL: damaged."""
        cdef mm_map *m = &self.region.m
        cdef int64_t size = expand(m, self.buf, n, count, NULL, 0, 1)
        cdef void *p
        if size < 0:
            return NULL
        if <uint64_t>size > self.cap_whole:
            p = realloc(self.whole, size + size // 4 + 4096)
            if p == NULL:
                raise MemoryError(f"feed: no private memory for a record of {size} bytes")
            self.whole = <uint8_t *>p
            self.cap_whole = size + size // 4 + 4096
        if expand(m, self.buf, n, count, self.whole, size, 1) != size:
            return NULL
        length[0] = size
        return self.whole

    cdef int locate(self) except -1:
        """Find the position of the commit after self.seen; Lagged if it is gone."""
        cdef mm_map *m = &self.region.m
        cdef mm_record r
        cdef uint64_t tail, commit, head
        while True:
            # the record itself says its number: tail_commit is another word than ring_tail, and a writer may have died between the two
            tail = mm_ld64(&m.hot.ring_tail)
            head = mm_ld64(&m.hot.ring_head)
            if head == tail:
                commit = mm_ld64(&m.hot.commit_seq) + 1
                if mm_ld64(&m.hot.ring_head) != head or mm_ld64(&m.hot.ring_tail) != tail:
                    continue
            else:
                ring_out(m.ring, m.ring_bytes, tail, &r, sizeof(r))
                mm_fence_acq()
                if mm_ld64(&m.hot.ring_tail) != tail:
                    continue
                if r.lsn != tail:
                    raise errors.CorruptionError(f"the log's first record, at {tail}, is damaged: it says lsn {r.lsn}")
                commit = r.commit
            if self.seen + 1 < commit:
                missed = commit - self.seen - 1
                self.seen = commit - 1
                self.pos = tail
                raise errors.Lagged(f"{missed} commits are gone from the log; the first available is {commit}", missed, commit)
            self.pos = tail
            while self.pos < head and commit <= self.seen:
                ring_out(m.ring, m.ring_bytes, self.pos, &r, sizeof(r))
                mm_fence_acq()
                if mm_ld64(&m.hot.ring_tail) > self.pos:
                    break
                if r.len < sizeof(r) or r.len & 7 or r.lsn != self.pos or r.commit != commit:
                    raise errors.CorruptionError(f"the log's record at {self.pos} is damaged: lsn {r.lsn}, commit {r.commit}, expected {commit}")
                self.pos += r.len
                commit += 1
            else:
                return 0

    cdef int has_next(self) noexcept:
        return mm_ld64(&self.region.m.hot.commit_seq) > self.seen

    cdef object ops(self, const uint8_t *p, uint64_t n, uint32_t count):
        """The operations of interest, as tuples."""
        cdef mm_op o
        cdef uint64_t at = 0
        cdef const uint8_t *q
        out = []
        while count:
            count -= 1
            if at + sizeof(o) > n:
                raise errors.CorruptionError(f"commit {self.seen}: its record ends in the middle of an operation")
            memcpy(&o, p + at, sizeof(o))
            if o.size < sizeof(o) or o.size & 7 or at + o.size > n or <uint64_t>o.klen + o.nlen + o.olen + sizeof(o) > o.size:
                raise errors.CorruptionError(f"commit {self.seen}: an operation of {o.size} bytes does not fit its record")
            if self.trees is None or o.tree in self.trees:
                q = p + at + sizeof(o)
                out.append((
                    o.tree, o.op, PyBytes_FromStringAndSize(<const char *>q, o.klen),
                    PyBytes_FromStringAndSize(<const char *>q + o.klen, o.nlen) if o.op == MM_OP_PUT or o.op == MM_OP_MESSAGE or o.op == MM_OP_CREATE else None,
                    PyBytes_FromStringAndSize(<const char *>q + o.klen + o.nlen, o.olen) if o.flags & MM_OPF_OLD else None,
                    o.expiry_ns))
            at += o.size
        return out

    cdef object take(self):
        """The next record: (commit, time_ns, ops), or None if it holds nothing of interest."""
        cdef mm_map *m = &self.region.m
        cdef mm_record r
        cdef mm_bigref big
        cdef const uint8_t *x
        cdef uint64_t n
        if self.pos == <uint64_t>-1 or mm_ld64(&m.hot.ring_tail) > self.pos:
            self.locate()
        ring_out(m.ring, m.ring_bytes, self.pos, &r, sizeof(r))
        mm_fence_acq()
        if mm_ld64(&m.hot.ring_tail) > self.pos:        # sync point: wal.log_room seals the new tail before anything is overwritten
            return None
        if r.len < sizeof(r) or r.len & 7 or r.len > m.ring_bytes or r.lsn != self.pos or r.commit != self.seen + 1:
            raise errors.CorruptionError(f"the log's record at {self.pos} is damaged: lsn {r.lsn}, commit {r.commit}, expected {self.seen + 1}")
        n = r.len - sizeof(r)
        if r.flags & (MM_REC_BIG | MM_REC_REFS):
            ring_out(m.ring, m.ring_bytes, self.pos + sizeof(r), &big, sizeof(big))
            x = NULL
            if r.flags & MM_REC_BIG:
                x = extent_bytes(m, big.granule, big.nbytes)
                if x != NULL:
                    n = big.nbytes
                    self.room(n)
                    memcpy(self.buf, x, n)
            elif big.nbytes + sizeof(big) <= n:
                n = big.nbytes
                self.room(n)
                ring_out(m.ring, m.ring_bytes, self.pos + sizeof(r) + sizeof(big), self.buf, n)
                x = self.buf
            mm_fence_acq()
            if mm_ld64(&m.hot.ring_tail) > self.pos:
                return None
            if x != NULL and r.flags & MM_REC_REFS:
                x = self.with_values(n, r.n_ops, &n)
        else:
            self.room(n)
            ring_out(m.ring, m.ring_bytes, self.pos + sizeof(r), self.buf, n)
            x = self.buf
        mm_fence_acq()
        if mm_ld64(&m.hot.ring_tail) > self.pos:
            return None
        if x == NULL:
            raise errors.CorruptionError(f"commit {r.commit}: its operations lie outside the region")
        self.pos += r.len
        self.seen = r.commit
        ops = self.ops(self.whole if r.flags & MM_REC_REFS else self.buf, n, r.n_ops)
        if self.trees is not None and not ops:
            return None
        return r.commit, r.time_ns, ops

    def ready(self) -> bool:
        """Is there a commit not yet read (of interest or not)?"""
        self.region.use()
        return bool(self.has_next())

    def read(self, timeout_s=None):
        """The next commit as (number, wall clock in ns, operations), or None when timeout_s passed. None waits for ever.

        An operation is (tree, op, key, new, old, expiry_ns); new is None for removals, old None where there was nothing.
        Lagged: commits were dropped from the log before they were read; reading goes on at the first available.
        """
        cdef mm_map *m = &self.region.m
        cdef uint64_t deadline = deadline_of(timeout_s), now
        cdef uint32_t seen, passed
        cdef int i
        while True:
            self.region.use()
            passed = 0
            while self.has_next():
                found = self.take()
                if found is not None:
                    return found
                passed += 1
                if passed & 255 == 0:           # commits of no interest may come faster than they are passed over
                    PyErr_CheckSignals()
                    if mm_mono_ns() >= deadline:
                        return None
            for i in range(SPIN):
                if self.has_next():
                    break
                mm_pause()
            else:
                now = mm_mono_ns()
                if now >= deadline:
                    return None
                seen = mm_ld32(&m.hot.feed_event)
                will_sleep(m, &m.hot.feed_sleepers)
                if not self.has_next():
                    sleep_on(self.region, &m.hot.feed_event, &m.hot.feed_sleepers, seen, deadline - now)

    @property
    def position(self) -> int:
        """The last commit read or passed over."""
        return self.seen


cdef class TopicReader:
    """A position in a topic. position: number of the message wanted next; None = only new ones, 0 = from the oldest kept."""

    def __cinit__(self, Region region not None, uint32_t tree, position=None):
        cdef mm_control *c
        cdef mm_map *m = &region.m
        cdef int st, i
        region.use()
        self.region = region
        for i in range(100000):
            st = read_roots(m, mm_ld64(&m.hot.commit_seq), tree, &self.t)
            if st != MM_MOVED:
                break
        if st:
            raise error(m, st, f"topic {tree}")
        if self.t.kind != MM_ROOT_TOPIC:
            raise errors.ProgrammingError(f"tree {tree} is no topic")
        self.pos = <uint64_t>-1
        c = self.control()
        if position is None:
            for i in range(1000):
                self.next_seq = mm_ld64(&c.head_seq)
                self.pos = mm_ld64(&c.head)
                if mm_ld64(&m.desc.state) == 0 and mm_ld64(&c.head_seq) == self.next_seq and mm_ld64(&c.head) == self.pos:
                    return
            self.pos = <uint64_t>-1
        elif position < 0 or position > mm_ld64(&c.head_seq):
            raise errors.ProgrammingError(f"position {position}: the next message is number {mm_ld64(&c.head_seq)}")
        elif position == 0:
            self.oldest(&self.pos, &self.next_seq)
        else:
            self.next_seq = position

    cdef mm_control *control(self) except NULL:
        cdef mm_control *c = <mm_control *>extent_bytes(&self.region.m, self.t.control, sizeof(mm_control))
        if c == NULL:
            raise errors.CorruptionError(f"topic {self.t.tree}: its control extent {self.t.control} lies outside the region")
        return c

    cdef int gone(self) except -1:
        """After a copy: the topic still exists, so its ring was not given to anybody else."""
        cdef mm_map *m = &self.region.m
        cdef uint32_t e
        mm_fence_acq()
        if self.t.root >= m.cap_pages:
            raise errors.CorruptionError(f"topic {self.t.tree}: its root, page {self.t.root}, lies outside the page table")
        e = mm_ld32(&m.pt[self.t.root])
        if not e & MM_PT_BITS and e >= published_units(m, e):
            raise errors.CorruptionError(f"topic {self.t.tree}: its root lies in frame {e}, outside the region")
        if e & MM_PT_BITS or mm_frame_at(m, e).tree != self.t.tree:
            raise errors.OperationalError("the topic was dropped")
        return 0

    cdef const uint8_t *ring(self, const mm_control *c, uint64_t *size) except NULL:
        size[0] = mm_ld64(&c.ring_bytes)
        cdef const uint8_t *ring = extent_bytes(&self.region.m, <uint32_t>mm_ld64(&c.ring_granule), size[0])
        if ring == NULL or size[0] < MM_GRANULE:
            self.gone()
            raise errors.CorruptionError(f"topic {self.t.tree}: its ring of {size[0]} bytes lies outside the region")
        return ring

    cdef int oldest(self, uint64_t *tail, uint64_t *seq) except -1:
        """Position and number of the first message kept. The message itself says its number: tail_seq is another word than tail, and a
        writer may have died between the two."""
        cdef mm_control *c = self.control()
        cdef mm_message h
        cdef uint64_t head, size
        cdef const uint8_t *ring = self.ring(c, &size)
        while True:
            self.gone()
            tail[0] = mm_ld64(&c.tail)
            head = mm_ld64(&c.head)
            if head == tail[0]:
                seq[0] = mm_ld64(&c.head_seq)
                if mm_ld64(&c.head) == head and mm_ld64(&c.tail) == tail[0]:
                    return 0
            else:
                ring_out(ring, size, tail[0], &h, sizeof(h))
                mm_fence_acq()
                if mm_ld64(&c.tail) == tail[0]:
                    seq[0] = h.seq
                    return 0

    cdef int locate(self) except -1:
        cdef mm_control *c = self.control()
        cdef mm_message h
        cdef uint64_t tail = 0, seq = 0, head, size
        cdef const uint8_t *ring = self.ring(c, &size)
        while True:
            self.oldest(&tail, &seq)
            if self.next_seq < seq:
                missed = seq - self.next_seq
                self.next_seq = seq
                self.pos = tail
                raise errors.Lagged(f"{missed} messages are gone from the topic; the first available is {seq}", missed, seq)
            head = mm_ld64(&c.head)
            self.pos = tail
            while self.pos < head and seq < self.next_seq:
                ring_out(ring, size, self.pos, &h, sizeof(h))
                mm_fence_acq()
                if mm_ld64(&c.tail) > self.pos:
                    break
                if h.len < sizeof(h) or h.len & 7 or h.seq != seq:
                    self.gone()
                    raise errors.CorruptionError(f"topic {self.t.tree}: the message at {self.pos} is damaged")
                self.pos += h.len
                seq += 1
            else:
                return 0

    cdef int has_next(self) noexcept:
        cdef mm_control *c = <mm_control *>extent_bytes(&self.region.m, self.t.control, sizeof(mm_control))
        return mm_ld64(&c.head_seq) > self.next_seq

    cdef object take(self):
        """The next message, or None when it is not published yet or its place is being found again."""
        cdef mm_map *m = &self.region.m
        cdef mm_control *c = self.control()
        cdef mm_message h
        cdef const uint8_t *ring
        cdef uint64_t s = mm_ld64(&m.hot.commit_seq), size
        if self.pos == <uint64_t>-1 or mm_ld64(&c.tail) > self.pos:
            self.locate()
        ring = self.ring(c, &size)
        if mm_ld64(&c.head) <= self.pos:
            return None
        ring_out(ring, size, self.pos, &h, sizeof(h))
        mm_fence_acq()
        if mm_ld64(&c.tail) > self.pos:
            return None
        self.gone()
        if h.len < sizeof(h) or h.len & 7 or h.len > size or h.seq != self.next_seq or h.pad > h.len - sizeof(h):
            raise errors.CorruptionError(f"topic {self.t.tree}: the message at {self.pos} says number {h.seq}, expected {self.next_seq}")
        if h.commit > s:
            return None
        payload = PyBytes_FromStringAndSize(NULL, h.pad)
        ring_out(ring, size, self.pos + sizeof(h), PyBytes_AS_STRING(payload), h.pad)
        mm_fence_acq()
        if mm_ld64(&c.tail) > self.pos:     # sync point: commit.topic_room seals the new tail before anything is overwritten
            return None
        self.gone()
        self.pos += h.len
        self.next_seq += 1
        return h.seq, h.commit, h.time_ns, payload

    def ready(self) -> bool:
        """Is there a message not yet read?"""
        self.region.use()
        return bool(self.has_next())

    def read(self, timeout_s=None):
        """The next message as (number, commit, wall clock in ns, payload), or None when timeout_s passed. None waits for ever.

        Lagged: messages were dropped before they were read; reading goes on at the first available.
        """
        cdef mm_map *m = &self.region.m
        cdef mm_control *c
        cdef uint64_t deadline = deadline_of(timeout_s), now
        cdef uint32_t seen
        cdef int i
        while True:
            self.region.use()
            c = self.control()
            while self.has_next():
                found = self.take()
                if found is not None:
                    return found
                if mm_mono_ns() >= deadline:
                    return None
                PyErr_CheckSignals()
            for i in range(SPIN):
                if self.has_next():
                    break
                mm_pause()
            else:
                now = mm_mono_ns()
                if now >= deadline:
                    return None
                self.gone()
                seen = mm_ld32(&c.event)
                will_sleep(m, &c.sleepers)
                if not self.has_next():
                    sleep_on(self.region, &c.event, &c.sleepers, seen, deadline - now)

    @property
    def position(self) -> int:
        """The number of the next message."""
        return self.next_seq


def topic_publish(Region region not None, uint32_t tree, bytes payload not None, double timeout_s=5.0) -> int:
    """Publish one message as a commit of its own; returns the commit's number. DataError: larger than the topic's ring."""
    cdef TreeRef t
    cdef mm_map *m = &region.m
    cdef int st = MM_MOVED, i
    cdef uint64_t commit = 0
    region.use()
    for i in range(100000):
        st = read_roots(m, mm_ld64(&m.hot.commit_seq), tree, &t)
        if st != MM_MOVED:
            break
    if st:
        raise error(m, st, f"topic {tree}")
    if t.kind != MM_ROOT_TOPIC:
        raise errors.ProgrammingError(f"tree {tree} is no topic")
    commit_one(region, &t, MM_OP_MESSAGE, NULL, 0, <const uint8_t *>PyBytes_AS_STRING(payload), PyBytes_GET_SIZE(payload), 0,
               <uint64_t>(timeout_s * 1e9), &commit)
    if region.after_commit is not None:
        region.after_commit(commit)
    return commit


cdef class Waiter:
    """A descriptor that becomes readable after commits, for event loops. One native thread sleeps on the feed's futex.

    fileno() may be added to a selector; clear() before looking for news; close() ends the thread.
    """

    def __cinit__(self, Region region not None):
        region.use()
        self.region = region
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.thread = threading.Thread(target=self._watch, name="memora-waiter", daemon=True)
        self.thread.start()

    def _watch(self):
        cdef Region r = self.region
        cdef mm_map *m = &r.m
        cdef uint64_t last = mm_ld64(&m.hot.commit_seq), now
        cdef uint32_t seen
        while not self.stop and not r.closed:
            seen = mm_ld32(&m.hot.feed_event)
            will_sleep(m, &m.hot.feed_sleepers)
            now = mm_ld64(&m.hot.commit_seq)
            if now == last:
                r.busy += 1
                with nogil:
                    mm_futex_wait(&m.hot.feed_event, seen, slice_of(m))
                r.busy -= 1
                if r.closed:
                    r._unmap()
                    return
                now = mm_ld64(&m.hot.commit_seq)
            if now != last:
                last = now
                os.write(self.fd, b"\1\0\0\0\0\0\0\0")

    def fileno(self) -> int:
        return self.fd

    def clear(self):
        """Make the descriptor unreadable until the next commit."""
        try:
            os.read(self.fd, 8)
        except BlockingIOError:
            return

    def close(self):
        """End the thread and close the descriptor. Idempotent."""
        if self.stop:
            return
        self.stop = True
        self.thread.join()
        os.close(self.fd)
