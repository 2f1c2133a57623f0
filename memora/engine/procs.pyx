"""Processes: slots and their life, the commit lock, the ticket, announced snapshots. Kernels only; faces are in region, turns and store.

LAYOUT      The slots file (layout.h): mm_slot table, snapshot words, their owners. Its byte n is locked while the process of
            slot n lives; the lock is held by a mapping alone, so it ends with the address space and with nothing else.
INVARIANTS  (1) A slot is claimed and reaped only under the attach lock (a kernel-held byte lock, region.pyx). Dead = F_OFD_GETLK says
                the byte is free, or the slot has another generation; a question that could not be asked never means dead.
            (2) The lock word names slot and slot generation of its owner. A waiter takes over only from an owner whose slot is
                dead, by compare-and-swap of the exact word, and rolls forward before anything else.
            (3) A snapshot word changes from ACTIVE only by its owner, by revocation (compare-and-swap of the whole word, under the
                commit lock), or by the reaper of a dead owner.
            (4) A ticket is set only under the commit lock, so a commit that holds the lock and found none stays unhindered. It is
                taken away, by its holder or by others, by compare-and-swap of the exact word; its number is never used again.
            (5) A snapshot entry is freed through entry_freed(): what is kept with an entry ends there.
PROTECTS    The commit lock protects every word that roll_forward may store, slot states, and the ring outside [tail, head).
            Nothing else is taken after it.
READERS     announce: S = commit_seq, word = S, full fence, gc_floor <= S or again. The collector raises gc_floor, fences, and then
            looks at the words (frames.scan_snapshots): one of the two sees the other.
WAITERS     spin briefly, then nap some fifty microseconds at a time, and only then say that they wait (MM_LOCK_WAITERS) and sleep on the
            lock word for at most 4 ms at a time, to be woken in the order of arrival; after each sleep that timed out they ask
            whether the owner lives. A lost wake-up therefore costs milliseconds, never a hang. The naps are for two processes that
            both commit all the time: whoever has the lock goes on with warm caches and pays no wake-up, and they take turns of
            some dozen commits (docs/decisions.md has the figures).
TICKET      Its holder keeps other commits out until it commits, rolls back or dies, or until its deadline has passed and somebody waits.
            Who waits does so outside the lock (turns.pyx): first in naps, then asleep on ticket_event, at most 4 ms at a time.
CRASH       Killed while holding the lock: taken over as above. Killed with announced snapshots: the reaper frees the words.
            Killed with the ticket: who waits asks whether the entry's owner lives, and takes it away.
"""
from libc.stdint cimport uint8_t, uint32_t, uint64_t, int64_t
from libc.string cimport memset
from posix.unistd cimport getpid
from memora.engine.descriptor cimport roll_forward
from memora.engine.layout cimport *
from memora.engine.sync cimport *

cdef extern from "<errno.h>" nogil:
    int errno
    int EAGAIN, EACCES, EINTR

cdef uint64_t NOBODY = 0xffffffffffffffffULL      # owner of a word that is free, or about to be claimed or freed

cdef enum:
    SPIN = 60                   # looks before anything else: longer than a small commit holds the lock
    NAPS = 20                   # then naps, with one look after each
    NAP_NS = 50000
    WAIT_NS = 4000000           # then sleeps on the lock word, at most so long each

mm_fork_watch()


cdef uint32_t fork_epoch() noexcept nogil:
    """Moves in every forked child."""
    return mm_fork_epoch_word


# ---------------------------------------------------------------------------------------------- life and slots

cdef uint32_t name_of(uint32_t slot, uint32_t gen) noexcept nogil:
    """How the commit lock and pins name a process."""
    return (slot + 1) | (gen << 13)


cdef int owner_alive(mm_map *m, uint32_t w) noexcept nogil:
    """Does the process that a lock word names live? A slot claimed anew has another generation."""
    cdef uint32_t slot = (w & MM_LOCK_SLOT) - 1
    if slot >= m.n_slots or (mm_ld32(&m.slot[slot].gen) & 0x3ffff) != (w & ~MM_LOCK_WAITERS) >> 13:
        return 0
    return slot_alive(m, slot)


cdef int slot_alive(mm_map *m, uint32_t slot) noexcept nogil:
    """1 alive (or unknown), 0 dead. Of my own slot: alive."""
    if slot == m.me:
        return 1
    return mm_life_held(m.slots_fd, m.slots_dev, m.slots_ino, slot) != 0


cdef int claim_slot(mm_map *m, const char *slots_path, int across_fork, void **life, uint32_t *slot, uint32_t *gen) noexcept nogil:
    """Take a free slot and its life lock, under the attach lock; across_fork: a child inherits the life. MM_REFUSED: all slots live. MM_IO: see errno.

    A commit lock that the slot's dead owner still held is noticed by its waiters: the generation moves.
    """
    cdef mm_slots_head *head = <mm_slots_head *>m.slots
    cdef uint32_t i
    cdef mm_slot *s
    for i in range(m.n_slots):
        s = &m.slot[i]
        if s.state == MM_SLOT_LIVE and mm_life_held(m.slots_fd, m.slots_dev, m.slots_ino, i) != 0:
            continue
        life[0] = mm_life_hold(slots_path, i, 1, across_fork)
        if life[0] == NULL:
            if errno == EAGAIN or errno == EACCES:
                continue
            return MM_IO
        release_words(m, i, s.gen)
        s.gen += 1
        if s.gen > 0x3ffff:
            s.gen = 1
        s.pid = <uint32_t>getpid()
        s.read_only = m.read_only
        s.start_ns = mm_wall_ns()
        s.commits = 0
        s.conflicts = 0
        memset(s.what, 0, sizeof(s.what))
        slot[0] = i
        gen[0] = s.gen
        mm_st32(&s.state, MM_SLOT_LIVE)
        if head.slots_high < i + 1:
            mm_st32(&head.slots_high, i + 1)
        return MM_OK
    return MM_REFUSED


cdef void release_words(mm_map *m, uint32_t slot, uint32_t gen) noexcept nogil:
    """Free every snapshot word and pin of a dead or leaving slot."""
    cdef uint32_t i, high = mm_ld32(&(<mm_slots_head *>m.slots).snaps_high), pins = mm_ld32(&(<mm_slots_head *>m.slots).pins_high)
    cdef uint64_t pin
    for i in range(high if high < m.n_snaps else m.n_snaps):
        free_word(m, i, slot)
    for i in range(pins if pins < m.n_snaps else m.n_snaps):
        pin = mm_ld64(&m.pin[i])
        if <uint32_t>(pin >> MM_PIN_SHIFT) == name_of(slot, gen):
            mm_cas64(&m.pin[i], pin, 0)


cdef int free_word(mm_map *m, uint32_t i, uint32_t slot) noexcept nogil:
    """Free a snapshot word if it belongs to this slot. 1: freed.

    Two reapers may meet here, and a new owner who has claimed the word but not yet signed it. The word is read first, then its owner
    is taken away, then the word is freed if it is still the same: whoever comes late changes nothing.
    """
    cdef uint64_t w = mm_ld64(&m.snap[i]), o = mm_ld64(&m.owner[i])
    if ((w >> MM_SNAP_SHIFT) & 3) == MM_SNAP_FREE or o == NOBODY or (o >> 32) != slot:
        return 0
    if not mm_cas64(&m.owner[i], o, NOBODY):
        return 0
    entry_freed(m, i)
    return mm_cas64(&m.snap[i], w, ((w >> 50) + 1) << 50)


cdef void release_slot(mm_map *m) noexcept nogil:
    """Leave. The life lock goes afterwards, with its mapping."""
    if m.me != 0xffffffffU:
        release_words(m, m.me, m.me_gen)
        mm_st32(&m.slot[m.me].state, MM_SLOT_FREE)


cdef int reap(mm_map *m) noexcept nogil:
    """Free the slots of dead processes, under the attach lock. Returns how many."""
    cdef uint32_t i, high = mm_ld32(&(<mm_slots_head *>m.slots).slots_high)
    cdef int n = 0
    for i in range(high if high < m.n_slots else m.n_slots):
        if m.slot[i].state == MM_SLOT_LIVE and not slot_alive(m, i):
            release_words(m, i, m.slot[i].gen)
            mm_st32(&m.slot[i].state, MM_SLOT_FREE)
            n += 1
    return n


# ---------------------------------------------------------------------------------------------- the commit lock

cdef uint32_t lock_name(const mm_map *m) noexcept nogil:
    return name_of(m.me, m.me_gen)


cdef int lock_try(mm_map *m) noexcept nogil:
    """1 taken, 0 somebody has it. A short spin; never sleeps."""
    cdef uint32_t i
    for i in range(SPIN):
        if mm_ld32(&m.hot.lock) == 0 and mm_cas32(&m.hot.lock, 0, lock_name(m)):
            lock_taken(m)
            return 1
        mm_pause()
    return 0


cdef inline void lock_taken(mm_map *m) noexcept nogil:
    mm_st64r(&m.hot.lock_since_ns, 0)
    mm_st32(&m.hot.lock_doing, 0)


cdef int lock_take(mm_map *m, uint64_t timeout_ns) noexcept nogil:
    """Take the commit lock; call without the GIL unless lock_try() would do. Rolls forward what a dead owner sealed.

    MM_OK, MM_TIMEOUT, MM_CORRUPT. Waits in slices: the caller loops to let signals in (see commit.take_lock).
    """
    cdef uint64_t begun, now
    cdef uint32_t w, mine = lock_name(m)
    cdef int st, naps = 0, looks = 0
    if lock_try(m):
        return MM_OK
    begun = mm_mono_ns()
    while True:
        w = mm_ld32(&m.hot.lock)
        if w == 0:
            if mm_cas32(&m.hot.lock, 0, mine | (MM_LOCK_WAITERS if naps == NAPS else 0)):   # others may still sleep: keep their mark
                break
            continue
        if naps < NAPS:
            naps += 1
            mm_nap(NAP_NS)
            continue
        if looks:                       # just woken, which cost the last owner a system call: try longer than once
            looks -= 1
            mm_pause()
            continue
        if not w & MM_LOCK_WAITERS:
            if not mm_cas32(&m.hot.lock, w, w | MM_LOCK_WAITERS):
                continue
            w |= MM_LOCK_WAITERS
        st = mm_futex_wait(&m.hot.lock, w, WAIT_NS)     # sync point: lock_release's wake
        now = mm_mono_ns()
        looks = 0 if st else SPIN
        if st and mm_ld32(&m.hot.lock) == w:
            if not owner_alive(m, w) and mm_cas32(&m.hot.lock, w, mine | MM_LOCK_WAITERS):
                lock_taken(m)
                st = roll_forward(m)
                if st:
                    lock_release(m)
                return st
            if mm_ld64r(&m.hot.lock_since_ns) == 0:     # the owner reads no clock: who waits for it does, long after it came
                mm_cas64(&m.hot.lock_since_ns, 0, now - WAIT_NS)
        if now - begun > timeout_ns:
            return MM_TIMEOUT
    lock_taken(m)
    return roll_forward(m)      # a no-op, unless an owner left by an error between seal and roll


cdef void lock_release(mm_map *m) noexcept nogil:
    cdef uint32_t w = mm_xchg32(&m.hot.lock, 0)
    if w & MM_LOCK_WAITERS:
        mm_futex_wake(&m.hot.lock, 1)


# ---------------------------------------------------------------------------------------------- the ticket

cdef uint64_t ticket_take(mm_map *m, uint32_t entry, uint64_t for_ns) noexcept nogil:
    """Take the ticket for the holder of a snapshot entry. Under the commit lock, when ticket_stands() says no."""
    cdef uint64_t number = m.hot.ticket_last + 1, now = mm_mono_ns()
    mm_st64(&m.hot.ticket_last, number)
    mm_st64(&m.hot.ticket_since_ns, now)
    mm_st64(&m.hot.ticket_deadline_ns, now + for_ns)
    mm_st64(&m.hot.ticket, (number << MM_TICKET_SHIFT) | entry)
    return (number << MM_TICKET_SHIFT) | entry


cdef void ticket_release(mm_map *m, uint64_t ticket) noexcept nogil:
    """Give it back, or take it away; nothing happens if it is another one by now."""
    if mm_cas64(&m.hot.ticket, ticket, 0) and mm_ld32(&m.hot.ticket_sleepers):     # sync point: turns.wait_ticket's second look
        mm_st32(&m.hot.ticket_sleepers, 0)
        mm_add32(&m.hot.ticket_event, 1)
        mm_futex_wake(&m.hot.ticket_event, 0x7fffffff)


cdef int ticket_stands(mm_map *m, uint64_t mine, int ask) noexcept nogil:
    """1: somebody else's ticket is in the way. Past its deadline, or (if `ask`) of a dead holder, it is taken away."""
    cdef uint64_t t = mm_ld64(&m.hot.ticket)
    if t == 0 or t == mine:
        return 0
    if mm_mono_ns() >= mm_ld64(&m.hot.ticket_deadline_ns) or (ask and not entry_alive(m, <uint32_t>(t & MM_TICKET_ENTRY))):
        if m.read_only:
            return 0
        ticket_release(m, t)
        return mm_ld64(&m.hot.ticket) not in (0, mine)
    return 1


# ---------------------------------------------------------------------------------------------- snapshots

cdef int entry_alive(mm_map *m, uint32_t i) noexcept nogil:
    """Does the process live that owns this snapshot entry?"""
    cdef uint64_t o
    if i >= m.n_snaps or (mm_ld64(&m.snap[i]) >> MM_SNAP_SHIFT) & 3 == MM_SNAP_FREE:
        return 0
    o = mm_ld64(&m.owner[i])
    if o == NOBODY or (o >> 32) >= m.n_slots or mm_ld32(&m.slot[o >> 32].gen) != <uint32_t>o:
        return 0
    return slot_alive(m, <uint32_t>(o >> 32))


cdef void entry_freed(mm_map *m, uint32_t i) noexcept nogil:
    """Before an entry becomes free, by its owner or by a reaper: what is kept with it goes. Not always under the commit lock."""
    cdef uint64_t t = mm_ld64(&m.hot.ticket)
    if t and (t & MM_TICKET_ENTRY) == i and not m.read_only:       # who may only read the region leaves it to those who wait
        ticket_release(m, t)


cdef int64_t claim_snapshot(mm_map *m) noexcept nogil:
    """Own a snapshot word (IDLE). -1: all are owned."""
    cdef mm_slots_head *head = <mm_slots_head *>m.slots
    cdef uint32_t i, high
    cdef uint64_t w
    for i in range(m.n_snaps):
        w = mm_ld64(&m.snap[i])
        if (w >> MM_SNAP_SHIFT) & 3 == MM_SNAP_FREE and mm_cas64(&m.snap[i], w, (((w >> 50) + 1) << 50) | (MM_SNAP_IDLE << MM_SNAP_SHIFT)):
            mm_st64(&m.owner[i], (<uint64_t>m.me << 32) | m.me_gen)
            high = mm_ld32(&head.snaps_high)
            while high < i + 1 and not mm_cas32(&head.snaps_high, high, i + 1):
                high = mm_ld32(&head.snaps_high)
            return i
    return -1


cdef uint64_t announce(mm_map *m, uint32_t entry, uint64_t mark) noexcept nogil:
    """Announce a snapshot of the newest commit on an owned word and return it (the S in the word).

    mark: 0 or MM_SINCE_CHECKPOINT. All ones: the region is damaged, its gc_floor is newer than its newest commit.
    """
    cdef uint64_t s, floor, gen = mm_ld64(&m.snap[entry]) >> 50
    mm_st64(&m.since[entry], mm_coarse_ns() | mark)
    while True:
        s = mm_ld64(&m.hot.commit_seq)
        mm_xchg64(&m.snap[entry], (gen << 50) | (MM_SNAP_ACTIVE << MM_SNAP_SHIFT) | s)
        mm_fence()                      # sync point: frames.scan_snapshots
        floor = mm_ld64(&m.hot.gc_floor)
        if floor <= s:
            return s
        if floor > mm_ld64(&m.hot.commit_seq) or s > MM_SNAP_S:
            withdraw(m, entry)
            return ~<uint64_t>0


cdef uint64_t announced(mm_map *m, uint32_t entry) noexcept nogil:
    """The word as it stands; compare with the one stored to learn of a revocation."""
    return mm_ld64(&m.snap[entry])


cdef void withdraw(mm_map *m, uint32_t entry) noexcept nogil:
    cdef uint64_t gen = mm_ld64(&m.snap[entry]) >> 50
    mm_st64(&m.snap[entry], (gen << 50) | (MM_SNAP_IDLE << MM_SNAP_SHIFT))


cdef void release_snapshot(mm_map *m, uint32_t entry) noexcept nogil:
    cdef uint64_t gen = mm_ld64(&m.snap[entry]) >> 50
    mm_st64(&m.owner[entry], NOBODY)
    entry_freed(m, entry)
    mm_st64(&m.snap[entry], (gen + 1) << 50)


cdef int release_dead_snapshots(mm_map *m) noexcept nogil:
    """Free the announced words whose owner died. Under the commit lock. Returns how many."""
    cdef uint32_t i, high = mm_ld32(&(<mm_slots_head *>m.slots).snaps_high), slot, last = 0xffffffffU
    cdef uint64_t w, o
    cdef int n = 0, alive = 1
    for i in range(high if high < m.n_snaps else m.n_snaps):
        w = mm_ld64(&m.snap[i])
        if (w >> MM_SNAP_SHIFT) & 3 < MM_SNAP_ACTIVE:
            continue
        o = mm_ld64(&m.owner[i])
        if o == NOBODY:                 # announced words are signed: a reaper died between its two steps
            entry_freed(m, i)
            n += mm_cas64(&m.snap[i], w, ((w >> 50) + 1) << 50)
            continue
        slot = <uint32_t>(o >> 32)
        if slot >= m.n_slots:
            continue
        if slot != last:
            alive = slot_alive(m, slot)
            last = slot
        if not alive:
            n += free_word(m, i, slot)
    return n


cdef int revoke_oldest(mm_map *m, int64_t spare, int checkpoints) noexcept nogil:
    """Revoke the oldest snapshot, under the commit lock: MM_FOUND, or MM_ABSENT if there is none that something may be kept for.

    What dead owners left is freed first, and counts. spare: an entry that is passed over, or -1. checkpoints: theirs too, if nothing else is left.
    """
    cdef uint32_t i, high = mm_ld32(&(<mm_slots_head *>m.slots).snaps_high)
    cdef uint64_t w, s, best, word = 0, newest = m.hot.commit_seq
    cdef int64_t at = -1
    cdef int turn
    if release_dead_snapshots(m):
        return MM_FOUND
    for turn in range(2 if checkpoints else 1):
        best = newest               # a snapshot of the newest commit keeps nothing back
        for i in range(high if high < m.n_snaps else m.n_snaps):
            w = mm_ld64(&m.snap[i])
            s = w & MM_SNAP_S
            if ((w >> MM_SNAP_SHIFT) & 3) == MM_SNAP_ACTIVE and s < best and i != spare and (turn or not mm_ld64(&m.since[i]) & MM_SINCE_CHECKPOINT):
                best = s
                word = w
                at = i
        if at >= 0:
            revoke(m, <uint32_t>at, word)       # or its owner was faster
            return MM_FOUND
    return MM_ABSENT


cdef int revoke(mm_map *m, uint32_t entry, uint64_t word) noexcept nogil:
    """Revoke the snapshot of this very word, under the commit lock. sync point: alive() of its transaction."""
    if not mm_cas64(&m.snap[entry], word, word | (MM_SNAP_REVOKED << MM_SNAP_SHIFT)):
        return 0
    m.hot.revoked += 1
    return 1
