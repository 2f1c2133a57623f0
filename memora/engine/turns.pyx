"""Turns: who may commit now. The commit lock together with the ticket, and what can be asked about who has them and who reads.

A commit takes the lock with take_turn(): it returns when no ticket of somebody else stands. The kernels of both are in procs.pyx.

WAITERS     wait_ticket(): the lock is let go while it waits, so that the holder can commit. A thread that waits for its own ticket
            would wait for ever: that raises at once. It naps, and takes the ticket when it finds it free, which costs a holder that begins and
            ends all the time nothing; who had no luck for 2 ms says so (ticket_want_ns) and sleeps until the next release.
NEWCOMERS   who wants the ticket and finds it free while somebody sleeps for it leaves it to him, for 0.3 ms at most.
READERS     locks() and snapshots() are loose readings, each line true of some moment near the call.
"""
from libc.stdint cimport int64_t, uint32_t, uint64_t
from cpython.exc cimport PyErr_CheckSignals
from cpython.pythread cimport PyThread_get_thread_ident
from memora.engine.layout cimport *
from memora.engine.procs cimport lock_release, slot_alive, ticket_stands, ticket_take
from memora.engine.region cimport Region, take_lock
from memora.engine.status cimport age_of, doing_of, ticket_timeout, what_of
from memora.engine.sync cimport *

from memora import errors

cdef enum:
    NAPS = 20                   # looks at the ticket, each after a nap: for some 2 ms its holder may take it again, with warm caches
    NAP_NS = 50000
    WAIT_NS = 4000000           # then a sleep; after one that nobody ended the holder's life is asked for
    BACK_NAPS = 6               # how long a newcomer leaves the ticket to those who sleep
    FRESH_NS = 10000000         # who was seen going to sleep within this time still waits


cdef int take_turn(Region r, uint64_t timeout_ns, uint64_t mine) except -1:
    """take_lock(), and no ticket stands but `mine` (0: none). LockTimeout names who has what."""
    take_lock(r, timeout_ns)
    if mm_ld64(&r.m.hot.ticket) in (0, mine):
        return 0
    return wait_ticket(r, timeout_ns, mine, 0)


cdef int somebody_sleeps(const mm_map *m, uint64_t now) noexcept nogil:
    """Did somebody wait for the last ticket so long that he went to sleep? He has not had it since, if he lives."""
    cdef uint64_t want = mm_ld64(&m.hot.ticket_want_ns)
    return want > mm_ld64(&m.hot.ticket_since_ns) and now < want + FRESH_NS


cdef int nap(mm_map *m, int most) noexcept nogil:
    """Naps, until the ticket looks free or is another one, at most so many. How many it were."""
    cdef uint64_t t = mm_ld64(&m.hot.ticket), last = mm_ld64(&m.hot.ticket_last)
    cdef int n = 0
    while n < most:
        mm_nap(NAP_NS)
        n += 1
        if mm_ld64(&m.hot.ticket) == 0 and (t or mm_ld64(&m.hot.ticket_last) != last):
            break
    return n


cdef int wait_ticket(Region r, uint64_t timeout_ns, uint64_t mine, int taking) except -1:
    """Called with the commit lock, returns with it: then no ticket stands but `mine`. taking: the caller will take the ticket itself."""
    cdef mm_map *m = &r.m
    cdef uint64_t begun = mm_mono_ns(), now = begun, t, until
    cdef uint32_t seen
    cdef int st = 0, waited = 0, naps = 0
    while True:
        if not ticket_stands(m, mine, st) and (waited or not taking or not somebody_sleeps(m, now)):
            return 0
        seen = mm_ld32(&m.hot.ticket_event)
        if naps >= NAPS:
            mm_st32(&m.hot.ticket_sleepers, 1)
            mm_fence()                  # sync point: procs.ticket_release
        t = mm_ld64(&m.hot.ticket)
        until = mm_ld64(&m.hot.ticket_deadline_ns)
        lock_release(m)
        if t and t == r.ticket and r.ticket_thread == PyThread_get_thread_ident():
            raise ticket_timeout(m, r.name, t, "is held by this very thread, which would wait for itself")
        now = mm_mono_ns()
        if now - begun >= timeout_ns and (t or waited):
            raise ticket_timeout(m, r.name, t, f"was not free within {timeout_ns / 1e9:g} s" if timeout_ns else "is taken")
        if until > now + WAIT_NS:
            until = now + WAIT_NS
        st = 0
        r.busy += 1
        if t == 0 or naps < NAPS:
            with nogil:
                naps += nap(m, NAPS - naps if t else BACK_NAPS)
        elif until > now:
            mm_st64(&m.hot.ticket_want_ns, now)
            with nogil:
                st = mm_futex_wait(&m.hot.ticket_event, seen, until - now)
            naps = NAPS if st else 0    # woken, and somebody was faster: he may go on for a while, too
        r.busy -= 1
        if r.closed:
            r._unmap()
            raise errors.ProgrammingError(f"region {r.name!r} was closed by another thread")
        PyErr_CheckSignals()
        waited = 1
        take_lock(r, timeout_ns)
        now = mm_mono_ns()


cdef uint64_t enter(Region r, uint32_t entry, uint64_t timeout_ns, uint64_t for_ns) except 0:
    """Take the ticket for a snapshot entry, and keep the commit lock: the caller announces its snapshot under it, then lets it go."""
    cdef mm_map *m = &r.m
    cdef uint64_t ticket
    take_lock(r, timeout_ns)
    m.hot.lock_doing = MM_DOING_TICKET
    wait_ticket(r, timeout_ns, 0, 1)
    ticket = ticket_take(m, entry, for_ns)
    r.ticket = ticket
    r.ticket_thread = PyThread_get_thread_ident()
    return ticket


# ---------------------------------------------------------------------------------------------- asking

def blocked(Region r not None) -> float | None:
    """None: nobody's ticket is in a commit's way. Else for how many seconds it may be at most, unless it is given back before."""
    cdef mm_map *m = &r.m
    cdef uint64_t until, now
    r.use()
    if not ticket_stands(m, 0, 1):
        return None
    until = mm_ld64(&m.hot.ticket_deadline_ns)
    now = mm_mono_ns()
    return (until - now) / 1e9 if until > now else 0.0


cdef dict _who(Region r, uint32_t slot):
    cdef mm_slot *s
    if slot >= r.m.n_slots:
        return {"slot": None, "pid": None, "alive": False, "what": ""}
    s = &r.m.slot[slot]
    return {"slot": slot, "pid": s.pid, "alive": bool(slot_alive(&r.m, slot)), "what": what_of(s)}


def locks(Region r not None) -> list:
    """Who keeps commits waiting at this moment: the owner of the commit lock, the holder of the ticket. One dict each, none if free.

    age: seconds; of the lock since somebody first missed its release, None if nobody has. remaining: till the ticket's deadline; past it, it is lost
    to the first who waits.
    """
    cdef mm_map *m = &r.m
    cdef uint32_t w
    cdef uint64_t t, o
    cdef double age
    cdef int64_t left
    r.use()
    r.slots_open()
    out = []
    w = mm_ld32(&m.hot.lock)
    if w & MM_LOCK_SLOT:
        age = age_of(mm_ld64(&m.hot.lock_since_ns))
        row = _who(r, (w & MM_LOCK_SLOT) - 1)
        doing = doing_of(m, r)
        out.append({"lock": "commit", **row, "what": " ".join(part for part in (row["what"], f"({doing})" if doing else "") if part),
                    "age": None if age < 0 else age, "remaining": None, "waiters": bool(w & MM_LOCK_WAITERS)})
    t = mm_ld64(&m.hot.ticket)
    if t:
        i = t & MM_TICKET_ENTRY
        o = mm_ld64(&m.owner[i]) if i < m.n_snaps else 0xffffffffffffffffULL
        left = <int64_t>(mm_ld64(&m.hot.ticket_deadline_ns) - mm_mono_ns())
        out.append({"lock": "ticket", **_who(r, <uint32_t>(o >> 32)), "age": max(age_of(mm_ld64(&m.hot.ticket_since_ns)), 0.0),
                    "remaining": left / 1e9, "waiters": bool(mm_ld32(&m.hot.ticket_sleepers))})
    return out


def snapshots(Region r not None) -> list:
    """The open snapshots, oldest first: entry, state ("active", "revoked"), commit, behind, age, of a checkpoint, and whose they are."""
    cdef mm_map *m = &r.m
    cdef uint64_t w, o, since
    cdef uint32_t i, high
    r.use()
    r.slots_open()
    newest = mm_ld64(&m.hot.commit_seq)
    high = mm_ld32(&(<mm_slots_head *>m.slots).snaps_high)
    out = []
    for i in range(high if high < m.n_snaps else m.n_snaps):
        w = mm_ld64(&m.snap[i])
        since = mm_ld64(&m.since[i])
        o = mm_ld64(&m.owner[i])
        if (w >> MM_SNAP_SHIFT) & 3 < MM_SNAP_ACTIVE or mm_ld64(&m.snap[i]) != w:
            continue
        out.append({"entry": i, "state": "active" if (w >> MM_SNAP_SHIFT) & 3 == MM_SNAP_ACTIVE else "revoked", "commit": w & MM_SNAP_S,
                    "behind": max(newest - (w & MM_SNAP_S), 0), "age": max(age_of(since & ~MM_SINCE_CHECKPOINT), 0.0),
                    "checkpoint": bool(since & MM_SINCE_CHECKPOINT), **_who(r, <uint32_t>(o >> 32))})
    return sorted(out, key=lambda row: row["commit"])
