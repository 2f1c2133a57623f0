"""A region as a process has it: created or attached, used, left.

LAYOUT      The region's bytes (csrc/layout.h) in a Backing (backing.pyx), and the slots file. Where they lie: places.py; what the
            region is: superblock.pyx; how it grows: growth.pyx.
ATTACH LOCK An open-file-description lock on byte 2**40 of the slots file, held while slots are claimed; the kernel drops it with
            its holder. The next byte is the same for growth.
READ-ONLY   The region is mapped without the right to write, and nothing is stored in it: no lock is taken, no sleeper announced, no bit
            set. Where the slots file may be written, the process has a slot and announces its snapshots like any other. Where it may
            not, it is unregistered: nobody knows of its snapshots, and what it reads counts only while it cannot have been recycled
            (transaction.pyx).
CRASH       A process that dies leaves a locked slot byte (dropped by the kernel), maybe the commit lock (taken over), maybe
            announced snapshots (freed by whoever collects).
"""
from libc.stdint cimport uint8_t, uint32_t, uint64_t, int64_t
from libc.stdlib cimport free
from libc.string cimport memcpy
from posix.mman cimport munmap
from memora.engine.backing cimport Backing, File, gather
from memora.engine.descriptor cimport begin, put64, roll_forward, seal
from memora.engine.layout cimport *
from memora.engine.procs cimport (claim_slot, claim_snapshot, fork_epoch, lock_release, lock_take, lock_try, name_of, reap, release_slot,
                                  release_snapshot, slot_alive)
from memora.engine.status cimport error, lock_timeout, what_of
from memora.engine.superblock cimport bootstrap, judge_slots, read_super, write_super
from memora.engine.sync cimport *
from memora.engine.views cimport Views
from cpython.exc cimport PyErr_CheckSignals

import contextlib
import errno
import fcntl
import os
import secrets
import time

from memora import errors
from memora.engine import places
from memora.engine.backing import Segment
from memora.engine.superblock import boot_id, geometry, slots_bytes, slots_head

DEFAULT_RING = 8 << 20
DEFAULT_SLOTS = 1024
DEFAULT_SNAPS = 4096
cdef enum:
    GUARD_BYTES = 128 << 10     # mapped behind the region. Of C: a region may end when the module's names are gone

SYSV_BYTES = 256 << 20      # a System V region has its size from the beginning
ATTACH_BYTE = 1 << 40
GROW_BYTE = ATTACH_BYTE + 1
# Named points of a commit, in the order of MM_FP_* (csrc/layout.h).
FAILPOINTS = ("locked", "validated", "applied", "logged", "filled", "sealed", "rolling", "rolled", "unlocked", "collecting", "growing",
              "reserved", "stored")



cdef int take_lock(Region r, uint64_t timeout_ns) except -1:
    """Take the commit lock for this process. LockTimeout names the holder. Signals are let in while it waits."""
    cdef mm_map *m = &r.m
    cdef int st
    cdef uint64_t begun
    if r.closed:
        raise errors.ProgrammingError(f"region {r.name!r} is closed")
    if m.read_only:
        raise error(m, MM_READ_ONLY, f"region {r.name!r}")
    if lock_try(m):
        if m.desc.state:
            roll_forward(m)
        return 0
    begun = mm_mono_ns()
    while True:
        r.busy += 1
        with nogil:
            st = lock_take(m, 100000000)
        r.busy -= 1
        if r.closed:
            if st == MM_OK:
                lock_release(m)
            r._unmap()
            raise errors.ProgrammingError(f"region {r.name!r} was closed by another thread")
        if st == MM_OK:
            return 0
        if st != MM_TIMEOUT:
            raise error(m, st, "taking the commit lock")
        PyErr_CheckSignals()
        if mm_mono_ns() - begun > timeout_ns:
            raise lock_timeout(m, r.name, timeout_ns, r)


cdef class Region:
    """One attached region. Made by create(), attach() or memory(); the layers above use it through store.Store."""

    def __cinit__(self):
        self.entries = []
        self.views = Views.__new__(Views)
        self.views.m = &self.m
        self.closed = True
        self.m.me = 0xffffffffU
        self.m.slots_fd = -1

    # ---- making and finding

    @staticmethod
    def create(str name, str region_dir=None, max_bytes=None, ring_bytes=DEFAULT_RING, slots=DEFAULT_SLOTS, snaps=DEFAULT_SNAPS,
               initial_bytes=None, uuid=None, incarnation=1, file_id=(0, 0), fill=None, kind="shm", mode=places.PRIVATE, group=None,
               snapshot_bytes=None, snapshot_age_s=0.0):
        """Create the named region, or raise FileExistsError. fill(region), if given, runs before the region gets its name."""
        cdef Region r
        mode, gid = places.check_mode(mode), places.group_id(group)
        with places.creating(region_dir, places.entry(kind, name), mode, gid) as (path, keep):
            slots_file = File.create(path, "slots")
            if kind == "sysv":
                g = geometry(max_bytes or SYSV_BYTES, ring_bytes, slots, snaps, snapshot_bytes, snapshot_age_s)
                backing = Segment.create(path, g["map_bytes"] + GUARD_BYTES)
            else:
                backing = File.create(path, "region")
                g = geometry(max_bytes or places.default_cap(backing.room()), ring_bytes, slots, snaps, snapshot_bytes, snapshot_age_s)
            r = Region._build(name, kind, backing, slots_file, g, initial_bytes, uuid, incarnation, file_id)
            try:
                if fill is not None:
                    fill(r)
                backing.share(mode, gid)
                slots_file.share(mode, gid)
                r._moved(keep())
                return r
            except BaseException:
                r.close()
                raise

    @staticmethod
    def memory(max_bytes=None, ring_bytes=DEFAULT_RING, slots=64, snaps=1024, initial_bytes=None, snapshot_bytes=None, snapshot_age_s=0.0):
        """A region without a name: it ends with its last process. Forked children share it."""
        backing = File.memory("region")
        g = geometry(max_bytes or places.default_cap(backing.room()), ring_bytes, slots, snaps, snapshot_bytes, snapshot_age_s)
        return Region._build(":memory:", "memory", backing, File.memory("slots"), g, initial_bytes, None, 1, (0, 0))

    @staticmethod
    def _build(name, kind, Backing backing, File slots_file, dict g, initial_bytes, uuid, incarnation, file_id):
        cdef Region r = Region.__new__(Region)
        cdef mm_super s
        uuid = uuid or secrets.token_bytes(16)
        write_super(&s, g, uuid, incarnation, file_id)
        initial = min(g["cap_units"], max(64, (initial_bytes or min(1 << 20, g["cap_units"] * 1024)) // 4096))
        size = (slots_bytes(s.n_slots, s.n_snaps) + 4095) // 4096 * 4096
        slots_file.reserve(size)
        slots_file.allocate(0, size, "create region")
        os.pwrite(slots_file.fd(), slots_head(uuid, s.n_slots, s.n_snaps), 0)
        backing.reserve(s.map_bytes)
        r.name, r.kind = name, kind
        r._map(backing, slots_file, &s, True)
        try:
            backing.allocate(0, s.off_pt, "create region")
            r.allocate(0, initial)
            memcpy(r.m.base, &s, sizeof(s))
            r._claim()
            bootstrap(&r.m, initial)
        except BaseException:
            r.close()
            raise
        return r

    @staticmethod
    def attach(str name, str region_dir=None, file_id=None, kind="shm", owner=None, bint read_only=False):
        """Attach to the named region. FileNotFoundError: none. RegionError names what is wrong with what was found.

        owner: whose region; read_only: map it without the right to write.
        """
        cdef Region r = Region.__new__(Region)
        cdef mm_super s
        cdef Backing backing
        cdef File slots_file
        uid = places.user_id(owner)
        path = os.path.join(places.user_directory(region_dir, owner=uid), places.entry(kind, name))
        try:
            directory = places.open_directory(path)
            try:
                if kind == "sysv":
                    fd = places.open_file(directory, path, "segment", uid, os.O_RDONLY)
                    try:
                        backing = Segment.open(path, fd, uid)
                    finally:
                        os.close(fd)
                else:
                    backing = File(path, "region", places.open_file(directory, path, "region", uid, os.O_RDONLY if read_only else os.O_RDWR), not read_only)
                try:
                    slots_file = File(path, "slots", places.open_file(directory, path, "slots", uid, os.O_RDWR))
                except PermissionError:
                    if not read_only:
                        raise
                    slots_file = File(path, "slots", places.open_file(directory, path, "slots", uid, os.O_RDONLY), False)
                read_super(&s, backing.head(sizeof(s)), backing.size, path, read_only, file_id)
                judge_slots(&s, slots_file.head(32), slots_file.size, path)
                r.name, r.kind = name, kind
                r._map(backing, slots_file, &s, not read_only)
            finally:
                os.close(directory)
        except PermissionError as e:
            raise errors.RegionError(f"{path!r}: user {os.getuid()} may not {'read' if read_only else 'write'} it ({e.strerror})"
                                     + ("" if read_only else "; read_only=True asks for less")) from None
        try:
            if not r.unregistered:
                r._claim()
        except BaseException:
            r.close()
            raise
        return r

    cdef int _map(self, Backing backing, File slots_file, mm_super *s, bint writable) except -1:
        cdef mm_map *m = &self.m
        cdef uint8_t *p
        cdef uint64_t size = slots_bytes(s.n_slots, s.n_snaps)
        p = <uint8_t *>backing.map(s.map_bytes + GUARD_BYTES, writable)
        try:
            m.slots = <uint8_t *>slots_file.map(size, slots_file.writable)
        except BaseException:
            munmap(p, s.map_bytes + GUARD_BYTES)
            raise
        m.slots_bytes = size
        m.base = p
        m.super = <mm_super *>p
        m.hot = <mm_hot *>(p + 4096)
        m.desc = <mm_desc *>(p + 8192)
        m.ring = p + s.off_ring
        m.ring_bytes = s.ring_bytes
        m.pt = <uint32_t *>(p + s.off_pt)
        m.vis = <uint64_t *>(p + s.off_vis)
        m.xmap = <uint32_t *>(p + s.off_xmap)
        m.data = p + s.off_data
        m.map_bytes = s.map_bytes
        m.cap_units = s.cap_units
        m.cap_pages = s.cap_pages
        m.n_slots = s.n_slots
        m.n_snaps = s.n_snaps
        m.slot = <mm_slot *>(m.slots + 4096)
        m.snap = <uint64_t *>(m.slots + 4096 + s.n_slots * sizeof(mm_slot))
        m.owner = m.snap + s.n_snaps
        m.since = m.owner + s.n_snaps
        m.reserve = <mm_reserve *>(m.since + s.n_snaps)
        m.pin = <uint64_t *>(m.reserve + s.n_snaps)
        m.durable = -1
        m.read_only = not writable
        m.unregistered = self.unregistered = not slots_file.writable
        self.backing, self.slots_file = backing, slots_file
        m.slots_fd = slots_file.fd()
        m.slots_dev, m.slots_ino = slots_file.dev, slots_file.ino
        self.mapped = True
        self.closed = False
        self.epoch = fork_epoch()
        return 0

    def _moved(self, directory):
        self.backing.directory = self.slots_file.directory = directory

    def allocate(self, uint64_t first, uint64_t last):
        """Back units [first, last) and their entries in the arrays with memory, or raise RegionFull."""
        cdef mm_map *m = &self.m
        for at, width in ((<uint8_t *>m.pt - m.base, 4), (<uint8_t *>m.vis - m.base, 8), (<uint8_t *>m.xmap - m.base, 16), (m.data - m.base, 4096)):
            low = (at + first * width) // 4096 * 4096
            self.backing.allocate(low, at + last * width - low, "grow region")

    def cap_means(self) -> str:
        """What limits the region, for messages."""
        if self.kind == "sysv":
            return "max_bytes; a System V region has a fixed size"
        return "max_bytes; half of the file system, or of the container's memory, where nothing is said"

    # ---- this process

    cdef int slots_open(self) except -1:
        """Sure to have a descriptor of the slots file, also after os.closerange()."""
        self.m.slots_fd = self.slots_file.fd()
        return 0

    @contextlib.contextmanager
    def byte_lock(self, byte):
        """Hold a byte of the slots file: ATTACH_BYTE or GROW_BYTE."""
        self.slots_open()
        fd = os.open(f"/proc/self/fd/{self.m.slots_fd}", os.O_RDWR | os.O_CLOEXEC)     # an open file description of its own
        try:
            places.lock_byte(fd, fcntl.F_WRLCK, byte, True)
            yield
        finally:
            os.close(fd)

    def _claim(self):
        cdef int st = MM_IO
        cdef bytes path
        with self.byte_lock(ATTACH_BYTE):
            path = f"/proc/self/fd/{self.m.slots_fd}".encode()
            reap(&self.m)
            st = claim_slot(&self.m, path, 0, &self.life, &self.m.me, &self.m.me_gen)
        if st == MM_REFUSED:
            raise errors.OperationalError(f"region {self.name!r}: all {self.m.n_slots} process slots are taken")
        if st:
            raise errors.OperationalError(f"region {self.name!r}: cannot hold a slot: {os.strerror(errno.EIO)}")

    cdef int use(self) except -1:
        """Before every operation: the handle is open, and after fork() this process has a slot of its own."""
        if self.closed:
            raise errors.ProgrammingError(f"region {self.name!r} is closed")
        if self.epoch != fork_epoch():
            self.as_child()
            if not self.unregistered:
                self._claim()
        return 0

    cdef int as_child(self) except -1:
        """In a forked child: nothing of the parent's slot is ours."""
        self.epoch = fork_epoch()
        self.life = NULL                # the parent's life was not inherited (MADV_DONTFORK)
        self.m.me = 0xffffffffU
        self.entries = []
        self.busy = 0
        return 0

    def _before_fork(self):
        """Views are out: a slot for the child, with pins of its own for what they show (views.pyx)."""
        cdef int st = MM_IO
        cdef bytes path
        with self.byte_lock(ATTACH_BYTE):
            path = f"/proc/self/fd/{self.m.slots_fd}".encode()
            reap(&self.m)
            st = claim_slot(&self.m, path, 1, &self.child_life, &self.child_slot, &self.child_gen)
        if st:
            self.child_life = NULL
            raise errors.OperationalError(f"region {self.name!r}: no process slot for a forked child, whose views will not be held")
        self.views.for_fork(name_of(self.child_slot, self.child_gen))

    def _after_fork(self, bint child):
        if self.child_life == NULL:
            return
        if child:
            self.as_child()
            self.life = self.child_life
            self.m.me = self.child_slot
            self.m.me_gen = self.child_gen
            self.m.slot[self.m.me].pid = <uint32_t>os.getpid()
            self.views.in_child()
        else:
            munmap(self.child_life, 4096)       # the child's copy of the mapping is its life; no child: the slot is dead, and reaped
        self.child_life = NULL

    cdef int64_t snapshot_entry(self) except -1:
        """An owned, idle snapshot word of this process."""
        cdef int64_t i
        if self.entries:
            return self.entries.pop()
        i = claim_snapshot(&self.m)
        if i < 0:
            raise errors.OperationalError(f"region {self.name!r}: all {self.m.n_snaps} snapshots are open")
        return i

    cdef int give_back(self, uint32_t entry) except -1:
        if self.entries is not None and len(self.entries) < 64:     # None: the garbage collector has been here
            self.entries.append(entry)
        else:
            release_snapshot(&self.m, entry)
        return 0

    cdef uint32_t tree_number(self) except 0:
        """A tree number that was never used, taken for good by a descriptor of its own."""
        cdef mm_map *m = &self.m
        cdef uint32_t n
        take_lock(self, 60000000000)
        n = <uint32_t>m.hot.next_tree
        begin(m)
        put64(m, &m.hot.next_tree, n + 1)
        if seal(m, m.hot.commit_seq) == MM_OK:
            roll_forward(m)
        lock_release(m)
        return n

    # ---- leaving

    def close(self):
        """Leave the region: free slot and snapshots, unmap. Idempotent. A thread that commits ends that first, one that waits gives up.

        ViewsOut: memoryviews of it are in use; nothing was done.
        """
        if self.closed:
            return
        self.may_close()
        self.closed = True
        if self.epoch == fork_epoch():
            # a slot without its life would look dead, and the commit lock be taken from a living owner
            self.busy += 1
            while self.busy > 1:
                time.sleep(0.0005)
            self.busy -= 1
            release_slot(&self.m)
            if self.life != NULL:
                munmap(self.life, 4096)
        self.life = NULL
        self.backing.close()
        self.slots_file.close()
        self.m.slots_fd = -1
        self._unmap()

    def may_close(self):
        """ViewsOut: a program still holds views of the region's bytes."""
        out = self.views.out()
        if out:
            raise errors.ViewsOut(f"region {self.name!r} cannot be closed, views of it are in use: {out}; release() them first")

    def _unmap(self):
        if self.mapped and self.busy == 0:
            self.mapped = False
            munmap(self.m.base, self.m.map_bytes + GUARD_BYTES)
            munmap(self.m.slots, self.m.slots_bytes)
            free(self.m.buf.v)
            free(self.m.buf.hash)
            free(self.m.dirty)
            free(self.m.rec)
            free(self.m.work[0].p)
            free(self.m.work[1].p)
            free(self.m.scan)
            free(self.m.pinned)

    def __dealloc__(self):
        if self.mapped:
            if not self.closed and self.epoch == fork_epoch():
                release_slot(&self.m)
                if self.life != NULL:
                    munmap(self.life, 4096)
            munmap(self.m.base, self.m.map_bytes + GUARD_BYTES)
            munmap(self.m.slots, self.m.slots_bytes)
            free(self.m.buf.v)
            free(self.m.buf.hash)
            free(self.m.dirty)
            free(self.m.rec)
            free(self.m.work[0].p)
            free(self.m.work[1].p)
            free(self.m.scan)
            free(self.m.pinned)

    # ---- looking

    def huge_pages(self) -> int:
        """Have the kernel gather the pages' and values' memory into pages of 2 MiB, now; how many bytes lie in such pages in this process.

        It copies, some milliseconds a piece, and frames that are used later are not in them. 0: the kernel cannot (Linux before 6.1).
        """
        cdef mm_map *m = &self.m
        cdef uint64_t done
        self.use()
        self.busy += 1                  # close() by another thread waits
        try:
            with nogil:
                done = gather(m.data, mm_ld64(&m.hot.n_units) * MM_UNIT)
        finally:
            self.busy -= 1
        return done

    def stats(self) -> dict:
        """Numbers of the region: bytes, frames, lists, commit. A loose reading, not one moment's."""
        self.use()
        h = self.m.hot
        return {
            "commit": h.commit_seq, "bytes": h.n_units * MM_UNIT, "max_bytes": self.m.cap_units * MM_UNIT,
            "frames": h.n_frames, "free_frames": h.free_count, "limbo_frames": h.limbo_count, "pinned_frames": h.pinned_count,
            "pages": h.page_high - 1 - h.page_free_count, "extent_bytes": h.n_granules * MM_GRANULE, "extent_free_bytes": h.x_free * MM_GRANULE, "reserved_extents": h.xres_count,
            "log_bytes": h.ring_head - h.ring_tail, "log_first_commit": h.tail_commit, "trees": h.n_trees,
            "evictions": h.evictions, "expirations": h.expirations,
            "kept_bytes": h.pinned_count * MM_UNIT + h.xlimbo_granules * MM_GRANULE, "snapshot_bytes": self.m.super.snapshot_bytes,
            "snapshots_revoked": h.revoked,
        }

    def processes(self) -> list:
        """One dict for each attached process: slot, pid (as its own namespace numbers it), alive, since, commits, what it does."""
        self.use()
        self.slots_open()
        out = []
        for i in range(mm_ld32(&(<mm_slots_head *>self.m.slots).slots_high)):
            s = &self.m.slot[i]
            if mm_ld32(&s.state) == MM_SLOT_LIVE:
                alive = i == self.m.me or mm_life_held(self.m.slots_fd, self.m.slots_dev, self.m.slots_ino, i) != 0
                out.append({"slot": i, "generation": s.gen, "pid": s.pid, "alive": alive, "since": s.start_ns / 1e9,
                            "commits": s.commits, "conflicts": s.conflicts, "what": what_of(s)})
        return out

    def narrow_hashes(self, uint32_t bits):
        """For tests: only the lowest bits of hashes count in this process from now on. All processes that write need the same."""
        self.m.hash_ignore = ~((<uint32_t>1 << bits) - 1) if bits < 32 else 0

    def failpoint(self, name, int signal=0):
        """Raise `signal` in this process when it next comes to the named point of a commit (FAILPOINTS); None disarms. For tests."""
        if name is None:
            self.m.failpoint = 0
            return
        if name not in FAILPOINTS:
            raise ValueError(f"no failpoint {name!r}; there are {', '.join(FAILPOINTS)}")
        self.m.failaction = signal
        self.m.failpoint = FAILPOINTS.index(name) + 1

    @property
    def me(self) -> tuple:
        """(slot, generation) of this process: its identity in the region for as long as it lives."""
        self.use()
        return self.m.me, self.m.me_gen

    def alive(self, uint32_t slot, uint32_t generation) -> bool:
        """Does the process that held this slot in this generation still live? Asked of the kernel, not of a pid."""
        self.use()
        if slot >= self.m.n_slots or mm_ld32(&self.m.slot[slot].gen) != generation or mm_ld32(&self.m.slot[slot].state) != MM_SLOT_LIVE:
            return False
        self.slots_open()
        return bool(slot_alive(&self.m, slot))

    @property
    def directory(self):
        """Where the region lies; None: without a name."""
        return self.slots_file.directory

    @property
    def read_only(self) -> bool:
        """Attached without the right to write."""
        return bool(self.m.read_only)

    @property
    def uuid(self) -> bytes:
        return (<char *>self.m.super.uuid)[:16]

    @property
    def incarnation(self) -> int:
        return self.m.super.incarnation
