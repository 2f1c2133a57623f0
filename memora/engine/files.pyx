"""File databases: opening and leaving, the flusher, durability. The region is where the data lives; the files are what outlives it.

LAYOUT      app.db       the checkpoint (checkpoint.pyx); replaced by rename
            app.db-wal/  the log's segments, <incarnation>-<lsn>.wal, and operations of large records, .big (recovery.pyx)
            app.db-lock  identity and locks (identity.py)
INVARIANTS  (1) A builder raises and syncs the incarnation before it reads segments; segments of another uuid are never read.
            (2) A region gets its name only when the files say what it says: a log that was replayed is in a checkpoint of the new
                incarnation by then, so the log of one life at most stands behind a checkpoint.
            (3) Log bytes are written in order, at a place that follows from their lsn and segment_lsn, and count by
                compare-and-swap of written_lsn from where they begin: a second flusher writes the same bytes, or its bytes do not count.
            (4) Segments begin where the written log first exceeds SEGMENT_BYTES: every flusher decides alike. The old one is
                synced before, whoever wrote it.
            (5) A segment is removed only when a checkpoint at or behind its end is synced and has its name.
            (6) After a failed write or sync nothing is retried: DurabilityError until a checkpoint succeeds, behind which the log
                goes on. The flusher tries one after a second, then less often.
            (7) written_lsn and synced_lsn move before written_seq and durable_seq; who finds a killed flusher's halves mends them (flush).
STEPS       flush: copy [written, head) and large operations to private memory, check that the tail has not passed, write, raise
            written_lsn; to sync: fdatasync, ask whether the files are still ours, raise synced_lsn and durable_seq.
            open: under byte 1 of the lock file: adopt the region if it is whole and of this file and boot, else build it.
FORK        A child has a flusher of its own, which begins when the child first uses the region. Locks are made anew.
EXIT        A clean interpreter exit closes what was left open.
CRASH       anywhere: the region is still there (adopted), or the files hold every commit up to what was synced, in order.
"""
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint32_t, uint64_t, int64_t
from libc.string cimport memcpy, memset
from posix.mman cimport munmap
from memora.engine.extents cimport extent_bytes
from memora.engine.layout cimport *
from memora.engine.procs cimport fork_epoch
from memora.engine.recovery cimport record_crc
from memora.engine.region cimport Region
from memora.engine.sync cimport *
from memora.engine.wal cimport expand, ring_out

import atexit
import contextlib
import errno
import os
import secrets
import threading
import time

from memora import errors
from memora.engine import checkpoint as checkpoints, identity as identities, recovery
from memora.engine import places
from memora.engine.checkpoint import Superseded, read_head, sync_directory, write_all, write_checkpoint
from memora.engine.places import remove, user_directory
from memora.engine.region import DEFAULT_RING
from memora.engine.store import Store
from memora.engine.superblock import boot_id

LEVELS = ("off", "normal", "full")
SEGMENT_BYTES = 16 << 20
CHECKPOINT_BYTES = 64 << 20         # log behind the newest checkpoint that makes the flusher write one
BATCH_BYTES = 4 << 20               # log written at once, at most
BIG_BYTES = 16 << 20                # large operations copied at once, before which the batch ends
WRITE_EVERY_S = 0.01
SYNC_EVERY_S = 1.0

_open = set()                       # Files of this process that were not left yet


# ---------------------------------------------------------------------------------------------- opening

class FileStore(Store):
    """A store whose region is backed by files. Made by open_file."""

    def __init__(self, region, files, timeout_s):
        super().__init__(region, timeout_s)
        self.files = files

    @property
    def path(self) -> str:
        return self.files.path

    def checkpoint(self) -> int:
        """Write a checkpoint now; returns its commit."""
        return self.files.checkpoint()

    def flush(self, sync: bool = True):
        """Write the log to its file, and sync it."""
        self.files.flush(sync)

    def durable(self) -> dict:
        """How far commits have come: newest, written to the file, synced, in the newest checkpoint; and syncs by this process."""
        return self.files.reached()

    def close(self):
        """Leave. The last process writes a checkpoint and takes the region away. Idempotent. ViewsOut: as Region.close."""
        if not self.region.closed:
            self.region.may_close()
            self.files.leave()


class FileReader(Store):
    """A store that reads a database file and writes nothing beside it. Made by open_file. Its region is the live one, or a copy as of the opening."""

    def __init__(self, region, path, hold, timeout_s):
        super().__init__(region, timeout_s)
        self.path, self.hold = path, hold

    def checkpoint(self):
        raise errors.ReadOnly(f"{self.path!r}: attempt to write a readonly database")

    flush = checkpoint

    def durable(self) -> dict:
        """As FileStore.durable."""
        return {**reached(self.region), "syncs": 0}

    def close(self):
        """Leave. Idempotent. ViewsOut: as Region.close."""
        self.region.close()
        if self.hold is not None:
            self.hold.drop()


def open_file(path, *, durability=None, region_dir=None, timeout_s=5.0, create=True, recover=False, max_bytes=None,
              ring_bytes=DEFAULT_RING, read_only=False, owner=None, mode=places.PRIVATE, group=None, **sizes) -> Store:
    """Open a database file: adopt its live region, or build one from the checkpoint and the log. Symbolic links are followed.

    mode, group: of all its files and its region, when the lock file is made; what exists keeps what its lock file has. owner: whose lock file
    and region they must be; his region is never built. durability: "normal" if nothing is said.
    read_only: nothing is written beside the file. The live region is mapped without the right to write; where there is none, a private
    one is filled from the files, and stays as it is.

    CannotOpen: the file cannot be opened here. RegionError: it is no Memora database, or of a newer format, or of somebody else.
    RegionElsewhere: its live region may be in another container's tmpfs; recover=True builds anew all the same.
    CorruptionError names the damaged place. A torn tail of the log is cut: it was never acknowledged as synced.
    """
    if read_only and durability is not None:
        raise errors.ProgrammingError(f"durability={durability!r} is for who writes, not with read_only=True")
    durability = durability or "normal"
    made = places.check_mode(mode), places.group_id(group)
    owner = None if owner is None else places.user_id(owner)
    if durability not in LEVELS:
        raise ValueError(f"durability must be one of {', '.join(LEVELS)}, not {durability!r}")
    path = os.path.realpath(os.fspath(path))
    folder = os.path.dirname(path)
    unable = f"unable to open database file {path!r}"
    if not os.path.isdir(folder):
        raise errors.CannotOpen(f"{unable}: no directory {folder!r}")
    if os.path.isdir(path):
        raise errors.CannotOpen(f"{unable}: it is a directory")
    if (not create or read_only) and not os.path.exists(path):
        raise errors.CannotOpen(f"{unable}: it does not exist")
    try:
        if read_only:
            return _open_to_read(path, region_dir, timeout_s, recover, owner, {"max_bytes": max_bytes, "ring_bytes": ring_bytes, **sizes})
        if not os.path.exists(path + "-lock") and os.path.exists(path) and os.path.getsize(path):
            read_head(path)                 # nothing is put beside a file that is not ours
        places.sweep(region_dir)
        with identities.opening(path, made) as identity:
            _check_owner(identity, owner)
            _make_folder(path + "-wal", identity)
            user = user_directory(region_dir, create=owner in (None, os.getuid()), owner=owner)
            try:
                region = _adopt_or_build(path, identity, user, region_dir, recover, owner, max_bytes, ring_bytes, sizes)
                try:
                    return FileStore(region, Files(region, path, durability, identity), timeout_s)
                except BaseException:
                    region.close()
                    raise
            except BaseException:
                with contextlib.suppress(OSError):
                    os.rmdir(user)
                raise
    except OSError as e:
        raise errors.CannotOpen(f"{unable}: {e.strerror}{f': {e.filename!r}' if e.filename else ''}") from e


def _make_folder(path, identity):
    """The folder of the segments, which who may write the files may write."""
    if os.path.isdir(path):
        return
    os.mkdir(path, 0o700)
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        places.give(folder, places.passing(identity.mode), identity.gid)
    finally:
        os.close(folder)


def _check_owner(identity, owner):
    """RegionError: the lock file does not belong to who was named."""
    uid = os.fstat(identity.fd).st_uid
    if owner is not None and uid != owner:
        raise errors.RegionError(f"{identity.path!r} belongs to user {uid}, not to {owner}")


def _live(path, identity, user, region_dir, recover, owner, held, read_only=False):
    """The live region that the lock file tells of; None: there is none. RegionElsewhere, RegionError: there is one, but not for this process."""
    name = _name(identity)
    unclean = identity.boot == boot_id() and not identity.clean
    if unclean and identity.place != identities.place_of(region_dir) and not recover:
        raise errors.RegionElsewhere(
            f"{path!r}: its live region is in another tmpfs or directory than {user!r} (another container?); share that directory, or open "
            "with recover=True if no process uses it any more")
    if unclean and identity.owner != (os.getuid() if owner is None else owner) and not recover:
        raise errors.RegionElsewhere(f"{path!r}: its live region belongs to user {identity.owner}: give owner={identity.owner}, if its mode lets you in")
    with contextlib.suppress(FileNotFoundError):
        region = Region.attach(name, region_dir, (identity.dev, identity.ino), owner=owner, read_only=read_only)
        if region.uuid == identity.uuid and region.incarnation == identity.incarnation:
            return region
        region.close()
        raise errors.RegionError(f"region {name!r} is of another life of {path!r}")
    if held and not recover:
        raise errors.RegionElsewhere(f"{path!r} is open in a process whose region this one cannot see ({user!r})")
    return None


def _name(identity) -> str:
    """What the region of a database is called."""
    return f"db-{identity.dev:x}-{identity.ino:x}"


def _open_to_read(path, region_dir, timeout_s, recover, owner, sizes):
    """A FileReader. Nothing is created, changed or removed beside the file, nor in the users' directories."""
    try:
        with identities.opening(path, read_only=True) as identity:
            _check_owner(identity, owner)
            region = None
            if identity.known:
                held = identity.others()
                try:
                    region = _live(path, identity, user_directory(region_dir, owner=owner), region_dir, recover, owner, held, True)
                except errors.RegionElsewhere:
                    raise
                except errors.RegionError:
                    if held and not recover:
                        raise           # else it is left over and of no use: the files say all
            if region is None:
                return FileReader(_copy(path, identity.uuid if identity.known else None, sizes), path, None, timeout_s)
            try:
                return FileReader(region, path, Hold(identity.path), timeout_s)
            except BaseException:
                region.close()
                raise
    except FileNotFoundError as e:
        if e.filename != path + "-lock":
            raise
    return FileReader(_copy(path, None, sizes), path, None, timeout_s)      # without a lock file nobody has it open


def _copy(path, uuid, sizes):
    """A private region with what the files say, for reading."""
    cdef Region region
    head = read_head(path) if os.path.getsize(path) else None
    found = recovery.segments(path)
    region = Region.memory(**sizes)
    try:
        if head:
            checkpoints.load(region, path, head)
        recovery.replay_all(region, head, head["uuid"] if head else uuid, found)
        region.m.read_only = 1
        return region
    except BaseException:
        region.close()
        raise


def _adopt_or_build(path, identity, user, region_dir, recover, owner, max_bytes, ring_bytes, sizes):
    name, place, held = _name(identity), identities.place_of(region_dir), identity.others()
    mine = owner in (None, os.getuid())
    if identity.known:
        try:
            region = _live(path, identity, user, region_dir, recover, owner, held)
            if region is not None:
                return region
        except errors.RegionElsewhere:
            raise
        except errors.RegionError:
            if held and not recover or not mine:
                raise
            remove(name, region_dir)
    if not mine:
        raise errors.RegionError(f"{path!r}: user {owner} has no region of it now, and only he makes one; open it read_only, or without owner")
    if not identity.known:
        if held and not recover:
            raise errors.RegionElsewhere(f"{identity.path!r} was emptied or overwritten while a process has {path!r} open; recover=True builds anew")
        with contextlib.suppress(errors.RegionError):
            remove(name, region_dir)
    return _build(path, name, identity, place, region_dir, max_bytes, ring_bytes, sizes)


def _build(path, name, identity, place, region_dir, max_bytes, ring_bytes, sizes):
    """Build the region from the files, under a new incarnation."""
    head = read_head(path) if os.path.exists(path) and os.path.getsize(path) else None
    found = recovery.segments(path)
    was_clean = identity.known and identity.clean
    source = head["uuid"] if head else identity.uuid if identity.known else None
    # a copied database (its lock file is new) becomes a database of its own, once its log has been read
    identity.uuid = identity.uuid if identity.known else secrets.token_bytes(16)
    identity.incarnation = max([identity.incarnation, head["incarnation"] if head else 0] + [s["incarnation"] for s in found]) + 1
    identity.boot = boot_id()
    identity.place = place
    identity.owner = os.getuid()
    identity.clean = 0
    identity.write()
    checkpoints.sweep_temporaries(path)
    as_it_is = was_clean and not found and head is not None and head["uuid"] == identity.uuid

    def still_ours():
        return

    def fill(region):
        if head:
            checkpoints.load(region, path, head)
        recovery.replay_all(region, head, source, found)
        if not as_it_is:
            write_checkpoint(region, path, identity.uuid, identity.incarnation, still_ours)
        _in_files(region)
    try:
        region = Region.create(name, region_dir, max_bytes=max_bytes, ring_bytes=ring_bytes, uuid=identity.uuid, incarnation=identity.incarnation,
                               file_id=(identity.dev, identity.ino), fill=fill, mode=identity.mode, group=identity.gid, **sizes)
    except BaseException:
        if was_clean:
            identity.clean = 1
            identity.write()
        raise
    for s in found:
        os.unlink(s["path"])
    return region


def _in_files(Region region):
    """Everything in a region just built is in the files."""
    cdef mm_hot *h = region.m.hot
    h.written_lsn = h.synced_lsn = h.segment_lsn = h.checkpoint_lsn = h.ring_head
    h.written_seq = h.durable_seq = h.checkpoint_seq = h.commit_seq


# ---------------------------------------------------------------------------------------------- attached

cdef class Hold:
    """The shared lock of an attached process, on byte 0 of the lock file. A forked child has it, too."""

    def __cinit__(self, str path):
        name = os.fsencode(path)
        self.shared = mm_life_hold(name, identities.ATTACHED, 0, 1)
        if self.shared == NULL:
            raise errors.CannotOpen(f"cannot hold a lock on {path!r}")

    def drop(self):
        """Idempotent."""
        if self.shared != NULL:
            munmap(self.shared, 4096)
            self.shared = NULL

    def __dealloc__(self):
        self.drop()


def reached(Region region) -> dict:
    """Commit numbers of a region with files: newest, written, synced, checkpoint."""
    region.use()
    h = region.m.hot
    return {"newest": h.commit_seq, "written": h.written_seq, "synced": h.durable_seq, "checkpoint": h.checkpoint_seq}


cdef int _raise(uint64_t *word, uint64_t to) except -1:
    """A word that only grows."""
    cdef uint64_t now = mm_ld64(word)
    while now < to and not mm_cas64(word, now, to):
        now = mm_ld64(word)
    return 0


cdef bytes with_values(mm_map *m, const uint8_t *ops, uint64_t n, uint32_t count):
    """The operations of a record as the file has them, with the new values that they name; None: damaged."""
    cdef int64_t size = expand(m, ops, n, count, NULL, 0, 0)
    cdef bytes out
    if size < 0:
        return None
    out = PyBytes_FromStringAndSize(NULL, size)
    return out if expand(m, ops, n, count, <uint8_t *>PyBytes_AS_STRING(out), size, 0) == size else None


class _Overwritten(Exception):
    """A process with durability 'off' overwrote log that was not in the file yet: only a checkpoint helps."""


cdef class Files:
    """The files of an attached region: the flusher, durability, checkpoints, the way out."""

    def __cinit__(self, Region region, path, durability, identity):
        self.region = region
        self.path = path
        self.wal = path + "-wal"
        self.durability = durability
        self.uuid = identity.uuid
        self.incarnation = identity.incarnation
        self.local = threading.RLock()
        self.pointing = threading.Lock()
        self.hold = Hold(identity.path)
        region.m.durable = LEVELS.index(durability)
        region.flush = self._make_room
        if durability == "full":
            region.after_commit = self._wait_durable
        if durability != "off":
            self._start()
        _open.add(self)

    def _start(self):
        self.thread = threading.Thread(target=self._flusher, name="memora-flusher", daemon=True)
        self.thread.start()

    def _forked(self):
        """In a forked child: its threads are gone, and its locks may be held by one of them."""
        self.local = threading.RLock()
        self.pointing = threading.Lock()
        self.thread = self.checkpointer = None
        self.mine = 0
        if self.durability != "off" and not self.stop and self.lost is None:
            self._start()

    # ---- the flusher

    def _flusher(self):
        """Write what there is every 10 ms, sync every second, checkpoint when the log has grown; sleep while nothing happens."""
        cdef mm_map *m = &self.region.m
        cdef uint64_t synced_at = mm_mono_ns(), mend_at = 0, mend_after = 1000000000, quiet = 0
        cdef uint32_t seen
        while not self.stop and not self.region.closed and self.lost is None:
            if self.region.epoch != fork_epoch():
                time.sleep(0.02)                    # a forked child that has not used the region yet
                continue
            if mm_ld64(&m.hot.io_failed):
                quiet = 0
                if mm_mono_ns() > mend_at:
                    mend_at = mm_mono_ns() + mend_after
                    mend_after = min(2 * mend_after, <uint64_t>30000000000)
                    self._checkpoint_behind()
            elif mm_ld64(&m.hot.written_lsn) < mm_ld64(&m.hot.ring_head) or (
                    mm_ld64(&m.hot.synced_lsn) < mm_ld64(&m.hot.written_lsn) and mm_mono_ns() - synced_at > <uint64_t>(SYNC_EVERY_S * 1e9)):
                quiet = 0
                sync = mm_mono_ns() - synced_at > <uint64_t>(SYNC_EVERY_S * 1e9)
                try:
                    self.flush(sync)
                    if sync:
                        synced_at = mm_mono_ns()
                    mend_after = 1000000000
                except errors.DurabilityError:
                    mend_at = mm_mono_ns() + mend_after     # told to who commits with 'full', and to flush()
                except (errors.FileReplaced, errors.ProgrammingError):
                    return                                  # told to whoever commits; or closed meanwhile
                if not self.region.closed and mm_ld64(&m.hot.ring_head) - mm_ld64(&m.hot.checkpoint_lsn) > CHECKPOINT_BYTES:
                    self._checkpoint_behind()
            else:
                quiet += 1
            if quiet < 100:
                time.sleep(WRITE_EVERY_S)
            else:
                seen = mm_ld32(&m.hot.feed_event)
                mm_st32(&m.hot.feed_sleepers, 1)
                mm_fence()
                if mm_ld64(&m.hot.written_lsn) == mm_ld64(&m.hot.ring_head) and mm_ld64(&m.hot.synced_lsn) == mm_ld64(&m.hot.written_lsn):
                    self.region.busy += 1
                    with nogil:
                        mm_futex_wait(&m.hot.feed_event, seen, 100000000)
                    self.region.busy -= 1
                    if self.region.closed:
                        self.region._unmap()
                        return
                else:
                    time.sleep(WRITE_EVERY_S)

    def _checkpoint_behind(self):
        """Write a checkpoint in a thread of its own, unless somebody does already: the log goes on being written meanwhile."""
        if self.checkpointer is None or not self.checkpointer.is_alive():
            self.checkpointer = threading.Thread(target=self._checkpoint_quietly, name="memora-checkpoint", daemon=True)
            self.checkpointer.start()

    def _checkpoint_quietly(self):
        try:
            self.checkpoint(wait=False)
        except errors.Error:
            return          # the log stands; the next one may succeed, and the last process to leave tells

    def _replaced(self, error):
        """From now on every commit of this process says that the files are not ours any more."""
        def tell(commit):
            raise errors.FileReplaced(f"{error} (commit {commit} is in memory only)")
        self.lost = error
        if not self.region.closed:
            self.region.after_commit = tell

    cdef int lease(self) except -1:
        """Become the one who writes, for a second; another one's lease counts until its deadline."""
        cdef mm_map *m = &self.region.m
        cdef uint64_t now = mm_mono_ns() // 1000000, w = mm_ld64(&m.hot.flush_lease), slot = (w >> 48) - 1
        self.region.use()
        self.mine = (<uint64_t>(m.me + 1) << 48) | ((now + 1000) & 0xffffffffffffULL)
        if w and slot != m.me and slot < m.n_slots and (w & 0xffffffffffffULL) > now:
            if self.region.alive(<uint32_t>slot, m.slot[slot].gen):
                return 0
        return mm_cas64(&m.hot.flush_lease, w, self.mine)

    cdef int give_back_lease(self) except -1:
        mm_cas64(&self.region.m.hot.flush_lease, self.mine, 0)
        return 0

    def _still_ours(self):
        """The files are still ours: lock file, uuid, incarnation, and a checkpoint no older than the newest we know. FileReplaced otherwise."""
        cdef uint64_t known = mm_ld64(&self.region.m.hot.checkpoint_seq)
        if self.lost is not None:
            raise errors.FileReplaced(str(self.lost))
        what = None
        if not identities.holds(self.path, self.region.m.super.file_dev, self.region.m.super.file_ino, self.uuid, self.incarnation):
            what = self.path + "-lock"
        else:
            try:
                head = read_head(self.path)
                if head["uuid"] != self.uuid or head["commit"] < known:
                    what = self.path
            except (FileNotFoundError, errors.DatabaseError):
                what = self.path
        if what is not None:
            raise errors.FileReplaced(f"{what!r} was replaced while {self.path!r} was open; nothing more is written to it")

    def _segment(self, start):
        """The descriptor of the segment that begins at start."""
        if self.segment is None or self.segment[0] != start:
            self._close_segment()
            name = os.path.join(self.wal, recovery.segment_name(self.incarnation, start))
            fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                if os.fstat(fd).st_size < recovery.SEGMENT_HEAD:
                    places.share_alike(fd, self.path)
                    os.pwrite(fd, recovery.segment_head(self.uuid, self.incarnation, start), 0)
                    os.fdatasync(fd)
                    sync_directory(self.wal)
            except BaseException:
                os.close(fd)
                raise
            self.segment = (start, fd)
        return self.segment[1]

    cdef int write_batch(self) except -1:
        """Write the next piece of the log. 0: there was none."""
        cdef mm_map *m = &self.region.m
        cdef mm_hot *h = m.hot
        cdef uint64_t from_ = mm_ld64(&h.written_lsn), start = mm_ld64(&h.segment_lsn), to = mm_ld64(&h.ring_head), at = 0, commit = 0, bigs = 0
        cdef mm_record r
        cdef mm_bigref big
        cdef const uint8_t *x
        cdef bytearray copy
        cdef uint8_t *p
        if to == from_:
            return 0
        if start > from_:
            return 1                                # another flusher was faster
        if from_ - start > SEGMENT_BYTES:
            name = os.path.join(self.wal, recovery.segment_name(self.incarnation, start))
            if os.path.exists(name):                # if not, everything in it is in a checkpoint
                os.fdatasync(self._segment(start))
            _raise(&h.segment_lsn, from_)
            return 1
        if to - from_ > BATCH_BYTES:
            to = from_ + BATCH_BYTES
        copy = bytearray(to - from_)
        p = <uint8_t *><char *>copy
        ring_out(m.ring, m.ring_bytes, from_, p, to - from_)
        mm_fence_acq()
        if mm_ld64(&h.ring_tail) > from_:
            if mm_ld64(&h.written_lsn) > from_:
                return 1
            raise _Overwritten()
        large = []
        while at + sizeof(r) <= to - from_ and bigs < BIG_BYTES:
            memcpy(&r, p + at, sizeof(r))
            if r.len < sizeof(r) or r.lsn != from_ + at:
                raise errors.CorruptionError(f"the log's record at {from_ + at} is damaged: lsn {r.lsn}, {r.len} bytes")
            if at + r.len > to - from_:
                break
            if r.flags & (MM_REC_BIG | MM_REC_REFS):
                memcpy(&big, p + at + sizeof(r), sizeof(big))
                if r.flags & MM_REC_BIG:
                    x = extent_bytes(m, big.granule, big.nbytes)
                else:
                    x = p + at + sizeof(r) + sizeof(big) if big.nbytes + sizeof(big) + sizeof(r) <= r.len else NULL
                ops = None if x == NULL else with_values(m, x, big.nbytes, r.n_ops) if r.flags & MM_REC_REFS else (<const char *>x)[:big.nbytes]
                mm_fence_acq()
                if mm_ld64(&h.ring_tail) > from_ + at:
                    if mm_ld64(&h.written_lsn) > from_:
                        return 1
                    raise _Overwritten()
                if ops is None or not r.flags & MM_REC_BIG and <uint64_t>len(ops) + sizeof(r) > r.len:
                    raise errors.CorruptionError(f"commit {r.commit}: its operations lie outside the region")
                r.flags &= ~MM_REC_REFS
                memcpy(p + at, &r, sizeof(r))
                if r.flags & MM_REC_BIG:
                    big.nbytes = len(ops)
                    big.crc = mm_crc32c(0, <const char *>ops, big.nbytes)
                    memcpy(p + at + sizeof(r), &big, sizeof(big))
                    large.append((os.path.join(self.wal, recovery.segment_name(self.incarnation, r.lsn, "big")), ops))
                    bigs += big.nbytes
                else:
                    memcpy(p + at + sizeof(r), <const char *>ops, len(ops))
                    memset(p + at + sizeof(r) + len(ops), 0, r.len - sizeof(r) - len(ops))
            r.crc = record_crc(self.incarnation, r.lsn, p + at, r.len)
            memcpy(p + at + 4, &r.crc, 4)
            commit = r.commit
            at += r.len
        for name, ops in large:
            bigfd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                places.share_alike(bigfd, self.path)
                write_all(bigfd, ops)
                os.fdatasync(bigfd)
            finally:
                os.close(bigfd)
        fd = self._segment(start)
        if large:
            sync_directory(self.wal)
        view = memoryview(copy)[:at]
        place = recovery.SEGMENT_HEAD + from_ - start
        while view:
            done = os.pwrite(fd, view, place)
            view = view[done:]
            place += done
        if mm_cas64(&h.written_lsn, from_, from_ + at):
            _raise(&h.written_seq, commit)
        return 1

    cdef int sync_log(self) except -1:
        cdef mm_hot *h = self.region.m.hot
        cdef uint64_t to = mm_ld64(&h.written_lsn), commit = mm_ld64(&h.written_seq), start
        if mm_ld64(&h.synced_lsn) >= to:
            return 0
        start = mm_ld64(&h.segment_lsn)             # after the two above: segments before it were synced as a whole
        fd = self._segment(start)
        os.fdatasync(fd)
        self.syncs += 1
        self._still_ours()
        os.pwrite(fd, recovery.mark(to), recovery.SYNCED_AT)
        _raise(&h.synced_lsn, to)
        _raise(&h.durable_seq, commit)
        return 0

    cdef int write_log(self, bint sync) except -1:
        while self.write_batch():
            if self.stop and self.region.closed:
                return 0
        if sync:
            self.sync_log()
        return 0

    def flush(self, bint sync=True):
        """Write the log to its file, and sync it. Waits for another process that is doing it.

        DurabilityError: a write or sync failed, and no checkpoint has succeeded since. FileReplaced: the files are not ours any more.
        """
        cdef mm_map *m = &self.region.m
        cdef uint64_t s, to
        self.region.use()
        s = mm_ld64(&m.hot.commit_seq)
        to = mm_ld64(&m.hot.ring_head)              # at or behind the end of commit s
        while True:
            if self.region.closed:
                raise errors.ProgrammingError(f"{self.path!r} was closed by another thread")
            if (mm_ld64(&m.hot.synced_lsn) if sync else mm_ld64(&m.hot.written_lsn)) >= to:
                _raise(&m.hot.written_seq, s)
                if sync:
                    _raise(&m.hot.durable_seq, s)
                return
            if self.lost is not None:
                raise errors.FileReplaced(str(self.lost))
            if mm_ld64(&m.hot.io_failed):
                raise errors.DurabilityError(f"{self.path!r}: the log could not be written: {os.strerror(m.hot.io_failed)}; a checkpoint that "
                                             "succeeds mends it", s, "memory")
            overwritten = False
            with self.local:
                if self.region.closed:
                    continue
                if (mm_ld64(&m.hot.synced_lsn) if sync else mm_ld64(&m.hot.written_lsn)) >= to:
                    continue
                if self.lease():
                    self.region.busy += 1
                    try:
                        self.write_log(sync)
                    except _Overwritten:
                        overwritten = True
                    except errors.FileReplaced as e:
                        self._replaced(e)
                        raise
                    except OSError as e:
                        mm_st64(&m.hot.io_failed, e.errno or errno.EIO)
                        self._close_segment()
                        raise errors.DurabilityError(f"{self.path!r}: writing the log failed: {e.strerror}", s, "memory") from e
                    finally:
                        self.give_back_lease()
                        self.region.busy -= 1
                        if self.region.closed:
                            self.region._unmap()
                    if not overwritten:
                        continue
            if overwritten:
                self.checkpoint()
            else:
                time.sleep(0.0005)

    def _make_room(self):
        """The ring is full of records that are not in the file yet. Nothing of the commit that needs room has happened."""
        if self.durability == "off":
            raise errors.InternalError("the log waits for a file, with durability off")
        try:
            self.flush(False)
        except errors.DurabilityError as e:
            raise errors.RegionFull(f"the log in memory ({self.region.m.ring_bytes} bytes) is full and cannot be written; this commit did not "
                                    f"happen. {e}") from None

    def _wait_durable(self, commit):
        """durability='full': the commit returns when a sync has covered it; one syncs for all who wait."""
        cdef mm_hot *h = self.region.m.hot
        while mm_ld64(&h.durable_seq) < commit:
            try:
                self.flush(True)
            except errors.DurabilityError as e:
                raise errors.DurabilityError(f"commit {commit} is visible but not durable: {e}", commit,
                                             "written" if mm_ld64(&h.written_seq) >= commit else "memory") from None

    # ---- checkpoints

    def checkpoint(self, wait=True):
        """Write a checkpoint of the newest commit; the log before it is removed. Returns the commit.

        wait=False: returns None if another process or thread is writing one. OperationalError: it could not be written.
        """
        self.region.use()
        if not self.pointing.acquire(blocking=wait):
            return None
        self.region.busy += 1
        try:
            while True:
                self._still_ours()
                with identities.checkpointing(self.path, wait) as mine:
                    if not mine:
                        return None
                    try:
                        commit, lsn = write_checkpoint(self.region, self.path, self.uuid, self.incarnation, self._still_ours)
                    except (Superseded, errors.SnapshotTooOld):
                        continue
                    self.passed(commit, lsn)
                    self._drop_segments(lsn)
                    return commit
        except errors.FileReplaced as e:
            self._replaced(e)
            raise
        except OSError as e:
            room = os.statvfs(os.path.dirname(self.path))
            raise errors.OperationalError(f"{self.path!r}: the checkpoint could not be written: {e.strerror}; {room.f_bavail * room.f_frsize} bytes "
                                          "are free; the one before and the log stand") from e
        finally:
            self.region.busy -= 1
            if self.region.closed:
                self.region._unmap()
            self.pointing.release()

    cdef int passed(self, uint64_t commit, uint64_t lsn) except -1:
        """A checkpoint stands: the log before lsn need not be written any more, and what failed does not matter any more."""
        cdef mm_hot *h = self.region.m.hot
        _raise(&h.checkpoint_seq, commit)
        _raise(&h.checkpoint_lsn, lsn)
        _raise(&h.written_lsn, lsn)
        _raise(&h.written_seq, commit)
        _raise(&h.synced_lsn, lsn)
        _raise(&h.durable_seq, commit)
        mm_st64(&h.io_failed, 0)
        return 0

    def _drop_segments(self, uint64_t lsn):
        """Remove segments that end at or before lsn: those followed by one that begins there or earlier; and those of lives before."""
        names = sorted(n for n in os.listdir(self.wal) if n.endswith((".wal", ".big")))
        starts = [int(n[9:25], 16) for n in names if n.endswith(".wal") and int(n[:8], 16) == self.incarnation]
        for n in names:
            begins = int(n[9:25], 16)
            if int(n[:8], 16) < self.incarnation:
                gone = True
            elif n.endswith(".big"):
                gone = begins < lsn
            else:
                gone = any([begins < s <= lsn for s in starts])
            if gone:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(os.path.join(self.wal, n))

    def reached(self) -> dict:
        """Commit numbers: newest, written, synced, checkpoint; and how often this process synced the log."""
        return {**reached(self.region), "syncs": self.syncs}

    # ---- leaving

    def leave(self):
        """Close the region; the last process checkpoints first and takes the region away."""
        self.stop = True
        for thread in (self.thread, self.checkpointer):
            if thread is not None and thread is not threading.current_thread():
                thread.join()
        _open.discard(self)
        if self.region.closed:
            return
        try:
            with identities.opening(self.path, made=None) as identity:
                self._let_go()
                if not (identity.known and identity.uuid == self.uuid and identity.incarnation == self.incarnation):
                    self._abandon()
                elif not identity.others():
                    self.checkpoint()
                    identity.clean = 1
                    identity.write()
                    for n in os.listdir(self.wal):
                        os.unlink(os.path.join(self.wal, n))
                    self._remove_region()
                elif self.durability != "off":
                    self.flush(True)
        except FileNotFoundError:
            self._abandon()             # the lock file, or its directory, is gone
        except errors.FileReplaced:
            self._abandon()
            raise
        finally:
            self._let_go()
            self._close_segment()
            if not self.region.views.out():     # at exit: a view may still be read, the kernel frees what it pins
                self.region.close()

    def _let_go(self):
        self.hold.drop()

    def _abandon(self):
        """The files are not ours any more: nobody will find this region again. Who is last takes it away."""
        me = self.region.me
        if not any([p["alive"] and (p["slot"], p["generation"]) != me for p in self.region.processes()]):
            self._remove_region()

    def _remove_region(self):
        """Take the region away, unless its name was given to another one."""
        directory = self.region.directory
        with contextlib.suppress(FileNotFoundError, errors.RegionError):
            there = os.stat(os.path.join(directory, "region"))
            ours = os.fstat(self.region.backing.fd())
            if (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino):
                remove(self.region.name, os.path.dirname(os.path.dirname(directory)))

    def _close_segment(self):
        if self.segment is not None:
            os.close(self.segment[1])
            self.segment = None


def _after_fork():
    for files in list(_open):
        files._forked()


def _at_exit():
    for files in list(_open):
        # what cannot be written stays in the region, and the next opening adopts it: nothing is lost, so nothing is said
        with contextlib.suppress(errors.Error):
            files.leave()


os.register_at_fork(after_in_child=_after_fork)
atexit.register(_at_exit)
