"""Views: read-only buffers over values that lie in extents, and the pins that keep those bytes.

LAYOUT      pins[n_snaps] in the slots file, one word each: owner (as the commit lock names it) << 32 | granule; 0 = free, granule 0 = owned
            and idle. A process has one pin for each extent, however many views show it (Held).
INVARIANTS  (1) A word changes from 0 by compare-and-swap; then by its owner, or by the reaper of a dead owner (compare-and-swap to 0).
            (2) While a pin names an extent, no descriptor frees it: retired, it waits in its list (extents.collect_extents).
            (3) All pins together name at most a quarter of the region (pin_budget): PinLimit says who holds what.
            (4) A pin stays until its last View object is gone; the mapping and the Region stay as long.
READERS     find the value; store the pin; full fence; then ask whether the version it was found in still stood: unregistered_ok(), or the
            announced word. sync point: the collector raises gc_floor, fences, and only then reads snapshots and pins. So either it sees the
            pin, or the reader sees that it came too late, and takes the pin back.
FORK        os.fork() in a process with views: before it, the parent claims a slot for the child, pins there what its views show, and
            holds that slot's life by a mapping that fork inherits; afterwards the parent unmaps it and the child goes on as that slot. A fork
            by C code that runs no handlers of Python: the child's views are valid only as long as the parent keeps its own.
CRASH       The pins of a killed process are freed with its slot, or by who looks for room in extents (release_dead_pins).
NOT DONE    Pins are not revocable: nobody may pull bytes away from under a buffer.
"""
cimport cython
from cpython.buffer cimport PyBuffer_FillInfo
from libc.stdint cimport uint8_t, uint32_t, uint64_t, int64_t
from libc.stdlib cimport qsort, realloc
from memora.engine.codec cimport whole_bytes
from memora.engine.layout cimport *
from memora.engine.procs cimport fork_epoch, lock_name, owner_alive
from memora.engine.sync cimport *

import os

from memora import errors

NAMED = 8                       # values that a message names, at most

cdef set _with_views = set()     # Views objects that hold something, for fork. Of C: views may end when the module's names are gone


# ---------------------------------------------------------------------------------------------- kernels

cdef inline uint32_t pins_high(const mm_map *m) noexcept nogil:
    cdef uint32_t high = mm_ld32(&(<mm_slots_head *>m.slots).pins_high)
    return high if high < m.n_snaps else m.n_snaps


cdef int ascending(const void *a, const void *b) noexcept nogil:
    cdef uint32_t x = (<const uint32_t *>a)[0], y = (<const uint32_t *>b)[0]
    return <int>(x > y) - <int>(x < y)


cdef void scan_pins(mm_map *m) noexcept nogil:
    """The pinned granules into m.pinned, sorted. After scan_snapshots: a snapshot word is withdrawn only behind the store of its pin."""
    cdef uint32_t i, g, high = pins_high(m)
    cdef void *v
    m.n_pinned = 0
    if m.cap_pinned < high:
        v = realloc(m.pinned, m.n_snaps * sizeof(uint32_t))
        if v == NULL:                   # no memory: treat every extent as pinned
            m.n_pinned = 0xffffffffU
            return
        m.pinned = <uint32_t *>v
        m.cap_pinned = m.n_snaps
    for i in range(high):
        g = <uint32_t>mm_ld64(&m.pin[i])
        if g:
            m.pinned[m.n_pinned] = g
            m.n_pinned += 1
    if m.n_pinned > 1:
        qsort(m.pinned, m.n_pinned, sizeof(uint32_t), ascending)


cdef int pinned(const mm_map *m, uint32_t granule) noexcept nogil:
    cdef uint32_t low = 0, high = m.n_pinned, mid
    if high == 0xffffffffU:
        return 1
    while low < high:
        mid = (low + high) // 2
        if m.pinned[mid] < granule:
            low = mid + 1
        else:
            high = mid
    return low < m.n_pinned and m.pinned[low] == granule


cdef int64_t claim_pin(mm_map *m, uint32_t owner) noexcept nogil:
    """Own a pin, idle. -1: all are owned."""
    cdef mm_slots_head *head = <mm_slots_head *>m.slots
    cdef uint32_t i, high
    for i in range(m.n_snaps):
        if mm_ld64(&m.pin[i]) == 0 and mm_cas64(&m.pin[i], 0, <uint64_t>owner << MM_PIN_SHIFT):
            high = mm_ld32(&head.pins_high)
            while high < i + 1 and not mm_cas32(&head.pins_high, high, i + 1):
                high = mm_ld32(&head.pins_high)
            return i
    return -1


cdef int release_dead_pins(mm_map *m) noexcept nogil:
    """Free the pins whose owner died. Returns how many."""
    cdef uint32_t i, w, last = 0
    cdef uint64_t pin
    cdef int n = 0, alive = 1
    for i in range(pins_high(m)):
        pin = mm_ld64(&m.pin[i])
        w = <uint32_t>(pin >> MM_PIN_SHIFT)
        if pin == 0 or w == lock_name(m):
            continue
        if w != last:
            alive = owner_alive(m, w)
            last = w
        if not alive:
            n += mm_cas64(&m.pin[i], pin, 0)
    return n


cdef uint64_t granules_at(const mm_map *m, uint32_t granule) noexcept nogil:
    """What a pin takes of the budget. The number in it may be anything: the slots file is writable for many."""
    if <uint64_t>granule >= mm_ld64(&m.hot.n_units) * MM_PER_UNIT:
        return 0
    return mm_extent_at(m, granule).granules


cdef uint64_t pin_budget(const mm_map *m) noexcept nogil:
    """Granules that all pins of a region may name: a quarter of its cap."""
    return m.cap_units * MM_PER_UNIT // 4


# ---------------------------------------------------------------------------------------------- faces

@cython.final
@cython.no_gc
cdef class Held:
    pass


@cython.final
@cython.no_gc               # a View is in no cycle, and its fields must stand when it ends
cdef class View:
    """The exporter behind the memoryviews that KeySpace.view() returns."""
    cdef object region      # keeps the mapping
    cdef Views views
    cdef Held held
    cdef const uint8_t *p
    cdef uint64_t n

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        PyBuffer_FillInfo(buffer, self, <void *>self.p, self.n, 1, flags)
        self.held.buffers += 1

    def __releasebuffer__(self, Py_buffer *buffer):
        self.held.buffers -= 1

    def __dealloc__(self):
        if self.held is not None:
            self.views.drop(self.held)

    def __repr__(self):
        return f"<memora view of {self.held.key!r}, {self.n} bytes>"


@cython.final
cdef class Views:

    def __cinit__(self):
        self.held = {}
        self.idle = []
        self.epoch = fork_epoch()

    cdef Held hold(self, object region, uint32_t granule, uint64_t nbytes, object key):
        """Pin an extent, or count one view more of it. The caller then asks whether it came in time, and gives up with drop()."""
        cdef Held h = self.held.get(granule)
        if self.epoch != fork_epoch():          # a fork without our handlers: nothing here is ours
            self.held = {}
            self.idle = []
            self.epoch = fork_epoch()
            h = None
        if h is None:
            h = Held.__new__(Held)
            h.granule = granule
            h.nbytes = nbytes
            h.key = key
            h.entry = self.idle.pop() if self.idle else claim_pin(self.m, lock_name(self.m))
            if h.entry < 0 and release_dead_pins(self.m):
                h.entry = claim_pin(self.m, lock_name(self.m))
            if h.entry < 0:
                raise errors.PinLimit(f"view of {key!r}: all {self.m.n_snaps} pins of region {region.name!r} are taken: {holders(self.m)}")
            mm_st64(&self.m.pin[h.entry], <uint64_t>lock_name(self.m) << MM_PIN_SHIFT | granule)
            if not self.held:
                self.region = region
                _with_views.add(self)
            self.held[granule] = h
        h.views += 1
        mm_fence()                              # sync point: frames.scan_snapshots, then scan_pins
        return h

    cdef int drop(self, Held h) except -1:
        h.views -= 1
        if h.views == 0 and self.epoch == fork_epoch() and self.held.get(h.granule) is h:
            del self.held[h.granule]
            if not self.held:
                _with_views.discard(self)
                self.region = None
            if len(self.idle) < 64:
                mm_st64(&self.m.pin[h.entry], <uint64_t>lock_name(self.m) << MM_PIN_SHIFT)
                self.idle.append(h.entry)
            else:
                mm_st64(&self.m.pin[h.entry], 0)
        return 0

    cdef int within_budget(self, Held h) except -1:
        """Behind hold() and the proof that it came in time: PinLimit, and the pin is taken back, if the region's budget is passed."""
        cdef mm_map *m = self.m
        cdef uint64_t total
        cdef uint32_t i
        cdef int again
        if h.views > 1:
            return 0
        for again in range(2):
            total = 0
            for i in range(pins_high(m)):
                total += granules_at(m, <uint32_t>mm_ld64(&m.pin[i]))
            if total <= pin_budget(m):
                return 0
            if again or release_dead_pins(m) == 0:
                break
        said = f"view of {h.key!r}, {h.nbytes} bytes: views may hold {pin_budget(m) * MM_GRANULE} bytes of region {self.region.name!r} " \
               f"(a quarter of max_bytes), and with it would hold {total * MM_GRANULE}: {holders(m)}"
        self.drop(h)
        raise errors.PinLimit(said)

    cdef object shown(self, Held h, const uint8_t *p, uint64_t n):
        """A memoryview of the bytes object that an extent holds encoded in n bytes at p. Takes over the caller's count of h."""
        cdef const uint8_t *q = NULL
        cdef int64_t length = whole_bytes(p, n, &q)
        cdef View v
        if length < 0:
            key = h.key
            self.drop(h)
            raise errors.DataError(f"view of {key!r}: its value is not bytes")
        self.within_budget(h)
        v = View.__new__(View)
        v.region = self.region
        v.views = self
        v.held = h
        v.p = q
        v.n = length
        return memoryview(v)

    def out(self) -> str:
        """Who keeps the region from being closed: keys, bytes and numbers of views; empty = nobody."""
        cdef Held h
        if self.epoch != fork_epoch():
            return ""
        said = [f"{h.key!r} ({h.nbytes} bytes, {h.buffers} view{'' if h.buffers == 1 else 's'})" for h in self.held.values()]
        return ", ".join(said[:NAMED]) + (f" and {len(said) - NAMED} more" if len(said) > NAMED else "")

    # ---- fork

    cdef int for_fork(self, uint32_t owner) except -1:
        """Before a fork: a pin of the child's slot beside each of mine."""
        cdef Held h
        cdef int64_t entry
        self.for_child = []
        for h in self.held.values():
            entry = claim_pin(self.m, owner)
            if entry < 0:
                raise errors.PinLimit(f"fork: no pins are left for the views of the child: {holders(self.m)}")
            mm_st64(&self.m.pin[entry], <uint64_t>owner << MM_PIN_SHIFT | h.granule)
            self.for_child.append((h, entry))
        return 0

    cdef int in_child(self) except -1:
        cdef Held h
        for h, entry in self.for_child:
            h.entry = entry
        self.for_child = None
        self.idle = []
        self.epoch = fork_epoch()
        return 0


cdef object holders(mm_map *m):
    """'process 17 (slot 3): 2 views, 2097152 bytes; ...' of all pins."""
    cdef uint32_t i
    cdef uint64_t pin
    found = {}
    for i in range(pins_high(m)):
        pin = mm_ld64(&m.pin[i])
        if <uint32_t>pin:
            n, size = found.get(pin >> MM_PIN_SHIFT, (0, 0))
            found[pin >> MM_PIN_SHIFT] = n + 1, size + granules_at(m, <uint32_t>pin) * MM_GRANULE
    said = []
    for w, (n, size) in found.items():
        slot = (w & MM_LOCK_SLOT) - 1
        pid = m.slot[<uint32_t>slot].pid if 0 <= slot < m.n_slots else 0
        said.append(f"process {pid} (slot {slot}): {n} value{'' if n == 1 else 's'}, {size} bytes")
    return "; ".join(said)


def _before_fork():
    cdef Views views
    for views in list(_with_views):
        views.region._before_fork()


def _after_in_parent():
    cdef Views views
    for views in list(_with_views):
        views.region._after_fork(False)


def _after_in_child():
    cdef Views views
    for views in list(_with_views):
        views.region._after_fork(True)


os.register_at_fork(before=_before_fork, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
