"""File databases: checkpoint, log segments, recovery. The region is where the data lives; the files are what outlives it.

LAYOUT      app.db       checkpoint: header, then blocks of records, each with crc32c; replaced by rename
            app.db-wal/  segments <incarnation>-<lsn>.wal: 64-byte header, then the log's records exactly as in the ring, with their
                         crc filled in; the record at lsn L of a segment that begins at lsn B lies at byte 64 + L - B.
                         Ops of a large record: <incarnation>-<lsn>.big, with its crc in the record.
            app.db-lock  created once: identity {uuid, incarnation, boot, device of the region's tmpfs, clean}, and locks: byte 0 is
                         held shared (by a mapping) by every attached process, byte 1 exclusively while somebody opens or leaves.
            docs/format.md tells every byte.
INVARIANTS  (1) A builder raises and syncs the incarnation before it reads segments; segments of another uuid are never read.
            (2) crc of a record = crc32c over it with crc = 0, seeded by incarnation and lsn: bytes of an older life never verify.
            (3) Log bytes are written in order and at a place that follows from their lsn, so a second flusher writes the same bytes.
            (4) A segment is removed only when a checkpoint at or behind its end is synced and has its name.
            (5) After a failed sync nothing is retried: DurabilityError until a checkpoint succeeds.
STEPS       flush: copy [written, head) to private memory, check that the tail has not passed, write, raise written_lsn; to sync:
            fdatasync, then raise synced_lsn and durable_seq. checkpoint: snapshot S with its lsn, temporary file, fsync, rename,
            fsync of the directory, then old segments. open: under byte 1 of the lock file: adopt the region if it is whole and of this
            file and boot, else build it: newest checkpoint, then the segments, stopping at a torn tail.
CRASH       anywhere: the region is still there (adopted), or the files hold every commit up to what was synced, in order.
"""
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint32_t, uint64_t, int64_t
from libc.string cimport memcpy, memset
from posix.mman cimport munmap
from memora.engine.commit cimport TreeRef
from memora.engine.descriptor cimport begin, put64
from memora.engine.extents cimport extent_bytes
from memora.engine.frames cimport reserve
from memora.engine.layout cimport *
from memora.engine.procs cimport lock_release
from memora.engine.region cimport Region, take_lock
from memora.engine.replay cimport replay, restore_entry, restore_message, restore_seal, restore_tree
from memora.engine.status cimport error
from memora.engine.sync cimport *
from memora.engine.transaction cimport Cursor, Transaction
from memora.engine.wal cimport record_begin, ring_out

import contextlib
import errno
import fcntl
import os
import secrets
import struct
import threading
import time

from memora import errors
from memora.engine import region as regions
from memora.engine.region import _lock_byte, boot_id, remove, user_directory
from memora.engine.store import Store

LEVELS = ("off", "normal", "full")
SEGMENT_BYTES = 16 << 20
CHECKPOINT_BYTES = 64 << 20         # log behind the newest checkpoint that makes the flusher write one
BLOCK_BYTES = 64 << 10
WRITE_EVERY_S = 0.01
SYNC_EVERY_S = 1.0

# app.db header: magic, format, uuid, incarnation, commit, lsn, wall clock ns, next tree; crc32c of all that behind it
HEAD = struct.Struct("<8sI4x16sQQQQQ")
HEAD_MAGIC = b"MEMORADB"
FORMAT = 1
# block: bytes, crc32c (seeded by the block's number), number of records
BLOCK = struct.Struct("<III")
# records in blocks: kind, then
TREE = struct.Struct("<BIII")        # b'T', tree, kind, bytes of control
ENTRY = struct.Struct("<BIQQ")       # b'E', key bytes, value bytes, expiry
MESSAGE = struct.Struct("<BQQQI")    # b'M', number, commit, wall clock ns, payload bytes
END = struct.Struct("<BQQ")          # b'Z', trees, entries
# segment header: magic, format, uuid, incarnation, first lsn, crc32c of all that
SEGMENT = struct.Struct("<8sI4x16sQQI12x")
SEGMENT_MAGIC = b"MEMOWAL\0"
# lock file: magic, uuid, incarnation, boot id, device of the region's tmpfs, own inode, clean; crc32c behind it
IDENTITY = struct.Struct("<8s16sQ16sQQI4x")
IDENTITY_MAGIC = b"MEMOLOCK"


def crc32c(data, seed=0) -> int:
    """crc32c (Castagnoli) of bytes, continued from a seed."""
    cdef bytes b = bytes(data)
    return mm_crc32c(<uint32_t>seed, PyBytes_AS_STRING(b), len(b))


cdef uint32_t record_crc(uint64_t incarnation, uint64_t lsn, const uint8_t *p, uint64_t n) noexcept nogil:
    """Of a record whose crc field is 0."""
    cdef uint64_t seed[2]
    seed[0] = incarnation
    seed[1] = lsn
    return mm_crc32c(mm_crc32c(0, seed, 16), p, n)


def _sync_directory(path):
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _write_all(fd, data):
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view):]


# ---------------------------------------------------------------------------------------------- the lock file

class _Identity:
    """What the lock file says."""

    def __init__(self, path):
        self.path = path + "-lock"
        self.fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        st = os.fstat(self.fd)
        self.dev, self.ino = st.st_dev, st.st_ino
        self.uuid, self.incarnation, self.boot, self.tmpfs, self.clean, self.known = b"", 0, b"", 0, 1, False

    def read(self):
        data = os.pread(self.fd, IDENTITY.size + 4, 0)
        if len(data) < IDENTITY.size + 4:
            return
        body, crc = data[:IDENTITY.size], int.from_bytes(data[IDENTITY.size:], "little")
        magic, uuid, incarnation, boot, tmpfs, ino, clean = IDENTITY.unpack(body)
        if magic != IDENTITY_MAGIC or crc != crc32c(body):
            raise errors.CorruptionError(f"{self.path!r} is damaged: its checksum is {crc:#x}, its content says {crc32c(body):#x}; "
                                         "remove it if no process has the database open")
        if ino != self.ino:             # copied together with the database: not our identity
            return
        self.uuid, self.incarnation, self.boot, self.tmpfs, self.clean, self.known = uuid, incarnation, boot, tmpfs, clean, True

    def write(self):
        body = IDENTITY.pack(IDENTITY_MAGIC, self.uuid, self.incarnation, self.boot, self.tmpfs, self.ino, self.clean)
        os.pwrite(self.fd, body + crc32c(body).to_bytes(4, "little"), 0)
        os.fsync(self.fd)

    def others(self) -> bool:
        """Does any process hold byte 0, that is, is it attached?"""
        fd = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        try:
            _lock_byte(fd, fcntl.F_WRLCK, 0, False)
            return False
        except (BlockingIOError, PermissionError):
            return True
        finally:
            os.close(fd)

    def close(self):
        os.close(self.fd)


@contextlib.contextmanager
def _opening(path):
    """Byte 1 of the lock file, exclusively: nobody else opens, builds or leaves meanwhile."""
    identity = _Identity(path)
    try:
        _lock_byte(identity.fd, fcntl.F_WRLCK, 1, True)
        identity.read()
        yield identity
    finally:
        identity.close()


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
        """How far commits have come: newest, written to the file, synced, in the newest checkpoint."""
        return self.files.reached()

    def close(self):
        """Leave. The last process writes a checkpoint and takes the region away. Idempotent."""
        if not self.region.closed:
            self.files.leave()


def open_file(path, *, durability="normal", region_dir=None, timeout_s=5.0, create=True, recover=False, max_bytes=None,
              ring_bytes=regions.DEFAULT_RING, **sizes) -> FileStore:
    """Open a database file: adopt its live region, or build one from the checkpoint and the log.

    RegionElsewhere: its live region may be in another container's tmpfs; recover=True builds anew all the same.
    CorruptionError names the damaged place. A torn tail of the log is cut: it was never acknowledged as synced.
    """
    if durability not in LEVELS:
        raise ValueError(f"durability must be one of {', '.join(LEVELS)}, not {durability!r}")
    path = os.path.abspath(os.fspath(path))
    folder = os.path.dirname(path)
    if not os.path.isdir(folder):
        raise errors.OperationalError(f"unable to open database file {path!r}: no directory {folder!r}")
    if os.path.isdir(path):
        raise errors.OperationalError(f"unable to open database file {path!r}: it is a directory")
    if not create and not os.path.exists(path):
        raise errors.OperationalError(f"unable to open database file {path!r}: it does not exist")
    regions.sweep(region_dir)
    try:
        opening = _opening(path)
        identity = opening.__enter__()
    except OSError as e:
        raise errors.OperationalError(f"unable to open database file {path!r}: {e.strerror}") from None
    try:
        name = f"db-{identity.dev:x}-{identity.ino:x}"
        user = user_directory(region_dir, create=True)
        tmpfs = os.stat(user).st_dev
        region = None
        if identity.known:
            if identity.boot == boot_id() and not identity.clean and identity.tmpfs != tmpfs and not recover:
                raise errors.RegionElsewhere(
                    f"{path!r}: its live region is in another tmpfs than {user!r} (another container?); share that directory, or open with "
                    "recover=True if no process uses it any more")
            with contextlib.suppress(FileNotFoundError):
                try:
                    region = Region.attach(name, region_dir, (identity.dev, identity.ino))
                    if region.uuid != identity.uuid or region.incarnation != identity.incarnation:
                        region.close()
                        region = None
                        raise errors.RegionError(f"region {name!r} is of another life of {path!r}")
                except errors.RegionError:
                    if identity.others():
                        raise
                    remove(name, region_dir)
        else:
            with contextlib.suppress(errors.RegionError):
                remove(name, region_dir)
        if region is None:
            if identity.known and identity.others():
                raise errors.RegionElsewhere(f"{path!r} is open in a process whose region this one cannot see ({user!r})")
            region = _build(path, name, identity, tmpfs, region_dir, max_bytes, ring_bytes, sizes)
        files = Files(region, path, durability, identity)
        return FileStore(region, files, timeout_s)
    except BaseException:
        with contextlib.suppress(OSError):
            os.rmdir(user_directory(region_dir))
        raise
    finally:
        opening.__exit__(None, None, None)


def _build(path, name, identity, tmpfs, region_dir, max_bytes, ring_bytes, sizes):
    """Build the region from the files, under a new incarnation; ends with a fresh checkpoint if there was a log to replay."""
    head = None
    if os.path.exists(path) and os.path.getsize(path):
        head = _read_head(path)
    segments = _segments(path)
    known = max([identity.incarnation, head["incarnation"] if head else 0] + [s["incarnation"] for s in segments])
    source = head["uuid"] if head else identity.uuid if identity.known else None
    # a copied database (its lock file is new) becomes a database of its own, once its log has been read
    identity.uuid = identity.uuid if identity.known else (secrets.token_bytes(16))
    identity.incarnation = known + 1
    identity.boot = boot_id()
    identity.tmpfs = tmpfs
    identity.clean = 0
    identity.write()
    done = {"replayed": 0}

    def fill(region):
        if head:
            _load(region, path, head)
        done["replayed"] = _replay_all(region, path, head, source, segments)
    region = Region.create(name, region_dir, max_bytes=max_bytes, ring_bytes=ring_bytes, uuid=identity.uuid, incarnation=identity.incarnation,
                           file_id=(identity.dev, identity.ino), fill=fill, **sizes)
    _publish_lsn(region)
    if done["replayed"] or head is None or head["uuid"] != identity.uuid:
        try:
            _checkpoint(region, path, identity.uuid, identity.incarnation, [s["path"] for s in segments])
        except BaseException:
            region.close()
            remove(name, region_dir)
            raise
    else:
        for s in segments:
            os.unlink(s["path"])
    return region


def _publish_lsn(Region region):
    """Everything in a region just built is in the files."""
    cdef mm_hot *h = region.m.hot
    h.written_lsn = h.synced_lsn = h.segment_lsn = h.checkpoint_lsn = h.ring_head
    h.written_seq = h.durable_seq = h.checkpoint_seq = h.commit_seq


def _read_head(path):
    with open(path, "rb") as f:
        data = f.read(HEAD.size + 4)
    if data[:8] != HEAD_MAGIC[:len(data[:8])] or len(data) < HEAD.size + 4:
        raise errors.RegionError(f"{path!r} is no Memora database: it begins with {data[:16]!r}")
    body, crc = data[:HEAD.size], int.from_bytes(data[HEAD.size:], "little")
    if crc != crc32c(body):
        raise errors.CorruptionError(f"{path!r}: the header's checksum is wrong at byte 0")
    magic, fmt, uuid, incarnation, commit, lsn, wall, next_tree = HEAD.unpack(body)
    if fmt != FORMAT:
        raise errors.RegionError(f"{path!r} has file format {fmt}; this Memora reads {FORMAT}")
    return {"uuid": uuid, "incarnation": incarnation, "commit": commit, "lsn": lsn, "next_tree": next_tree}


def _segments(path):
    """The segments beside a database, by incarnation and lsn."""
    found = []
    folder = path + "-wal"
    if not os.path.isdir(folder):
        return found
    for n in os.listdir(folder):
        if n.endswith(".wal"):
            full = os.path.join(folder, n)
            with open(full, "rb") as f:
                data = f.read(SEGMENT.size)
            if len(data) < SEGMENT.size:
                found.append({"path": full, "incarnation": 0, "lsn": 0, "uuid": None, "size": 0})
                continue
            magic, fmt, uuid, incarnation, lsn, crc = SEGMENT.unpack(data)
            if magic != SEGMENT_MAGIC or crc != crc32c(data[:48]):
                if not any(data):           # never written: the file was made and then the power went
                    found.append({"path": full, "incarnation": 0, "lsn": 0, "uuid": None, "size": 0})
                    continue
                raise errors.CorruptionError(f"{full!r}: the segment's header is damaged at byte 0")
            found.append({"path": full, "incarnation": incarnation, "lsn": lsn, "uuid": uuid, "size": os.path.getsize(full)})
        elif n.endswith(".big"):
            found.append({"path": os.path.join(folder, n), "incarnation": 0, "lsn": 0, "uuid": None, "size": 0})
    found.sort(key=lambda s: (s["incarnation"], s["lsn"]))
    return found


def _relieve(Region region, int st):
    if st == MM_NEED_FRAMES or st == MM_NEED_EXTENT:
        region.grow_for(st, region.m.need, region.m.hot.n_units)
        return
    raise error(&region.m, st, "rebuilding from the files")


def _load(Region region, path, head):
    """Load a checkpoint into a fresh region."""
    cdef mm_map *m = &region.m
    cdef TreeRef t
    cdef bytes block, key, value
    cdef const uint8_t *p
    cdef uint64_t at, end, kn, vn, expiry, n_entries = 0
    cdef int st
    number = 0
    trees = 0
    ended = False
    t.tree = MM_TREE_CATALOG
    t.root = MM_PG_CATALOG
    t.control = 0
    t.kind = MM_ROOT_TREE
    begin(m)
    m.building = 1
    record_begin(m)
    _next_batch(region)
    with open(path, "rb") as f:
        f.seek(HEAD.size + 4)
        while True:
            offset = f.tell()
            data = f.read(BLOCK.size)
            if not data:
                break
            if len(data) < BLOCK.size:
                raise errors.CorruptionError(f"{path!r} is truncated at byte {offset}, in block {number}")
            size, crc, count = BLOCK.unpack(data)
            block = f.read(size)
            if len(block) < size or crc32c(block, number) != crc:
                raise errors.CorruptionError(f"{path!r}: block {number} at byte {offset} is damaged or cut off")
            p = <const uint8_t *><char *>block
            at = 0
            while count:
                count -= 1
                kind = p[at]
                if kind == 84:                              # T
                    _, tree, tree_kind, n = TREE.unpack_from(block, at)
                    at += TREE.size
                    while True:
                        st = restore_tree(m, tree, tree_kind, p + at, n, &t)
                        if st == MM_OK:
                            st = restore_seal(m, 1)
                            if st == MM_OK:
                                break
                        begin(m)
                        _relieve(region, st)
                        begin(m)
                    at += n
                    trees += 1
                elif kind == 69:                            # E
                    _, kn, vn, expiry = ENTRY.unpack_from(block, at)
                    at += ENTRY.size
                    if at + kn + vn > len(block):
                        raise errors.CorruptionError(f"{path!r}: block {number} at byte {offset}: an entry leaves the block")
                    if m.buf.n > 600 or kn + vn > MM_CELL_INLINE:
                        _next_batch(region)
                    st = restore_entry(m, &t, p + at, kn, p + at + kn, vn, expiry)
                    while st:           # only possible right behind _next_batch: no page was touched yet
                        begin(m)
                        _relieve(region, st)
                        begin(m)
                        st = restore_entry(m, &t, p + at, kn, p + at + kn, vn, expiry)
                    at += kn + vn
                    n_entries += 1
                elif kind == 77:                            # M
                    _, seq, commit, wall, n = MESSAGE.unpack_from(block, at)
                    at += MESSAGE.size
                    st = restore_message(m, &t, seq, commit, wall, p + at, n)
                    if st:
                        raise error(m, st, "rebuilding from the files")
                    at += n
                elif kind == 90:                            # Z
                    _, want_trees, want_entries = END.unpack_from(block, at)
                    at += END.size
                    if want_trees != trees or want_entries != n_entries:
                        raise errors.CorruptionError(f"{path!r}: {trees} trees and {n_entries} entries, its end says {want_trees} and {want_entries}")
                    ended = True
                else:
                    raise errors.CorruptionError(f"{path!r}: block {number} at byte {offset} holds a record of kind {kind}")
            number += 1
    if not ended:
        raise errors.CorruptionError(f"{path!r} is truncated behind block {number}")
    put64(m, &m.hot.ring_head, head["lsn"])
    put64(m, &m.hot.ring_tail, head["lsn"])
    put64(m, &m.hot.tail_commit, head["commit"] + 1)
    put64(m, &m.hot.next_tree, max(head["next_tree"], m.hot.next_tree))
    put64(m, &m.hot.schema_seq, head["commit"])
    st = restore_seal(m, head["commit"])
    if st:
        raise error(m, st, "rebuilding from the files")


def _next_batch(Region region):
    """Seal what was restored, and have room for the next batch: its pages are changed in place, so it must not run out of frames."""
    cdef mm_map *m = &region.m
    cdef int st = restore_seal(m, 1)
    if st:
        raise error(m, st, "rebuilding from the files")
    if m.hot.free_count < reserve(m) + 1024:
        with contextlib.suppress(errors.RegionFull):        # a region at its cap may still have room for everything
            region.grow_for(MM_NEED_FRAMES, 2048, m.hot.n_units)
        begin(m)


def _replay_all(Region region, path, head, uuid, segments):
    """Replay the log behind the checkpoint; returns the number of commits. A torn tail ends it, damage in the middle is named."""
    cdef mm_map *m = &region.m
    cdef mm_record r
    cdef mm_bigref big
    cdef bytes record
    cdef int st
    mine = [s for s in segments if s["uuid"] == uuid and uuid is not None]
    count = 0
    position = head["lsn"] if head else 0
    for i, s in enumerate(mine):
        if s["size"] <= SEGMENT.size:
            continue
        last_of_life = i + 1 == len(mine) or mine[i + 1]["incarnation"] != s["incarnation"]
        with open(s["path"], "rb") as f:
            data = f.read()
        if s["lsn"] > position:
            raise errors.CorruptionError(f"{s['path']!r} begins at log position {s['lsn']}; the log before it ends at {position}")
        at = SEGMENT.size + max(0, position - s["lsn"])
        while at < len(data):
            lsn = s["lsn"] + at - SEGMENT.size
            record = _record(data, at, lsn, s["incarnation"])
            if record is None:
                later = _later_record(data, at, s)
                if later or not last_of_life:
                    raise errors.CorruptionError(
                        f"{s['path']!r}: the record at byte {at} is damaged" + (f", though a good one follows at byte {later}" if later else
                                                                                "; more segments follow"))
                break
            memcpy(&r, <const char *>record, sizeof(r))
            at += r.len
            if r.flags & MM_REC_BIG:
                memcpy(&big, <const char *>record + sizeof(r), sizeof(big))
                name = os.path.join(os.path.dirname(s["path"]), f"{s['incarnation']:08x}-{lsn:016x}.big")
                try:
                    with open(name, "rb") as f:
                        ops = f.read()
                except FileNotFoundError:
                    ops = b""
                if len(ops) != big.nbytes or crc32c(ops) != big.crc:
                    if at < len(data) or not last_of_life:
                        raise errors.CorruptionError(f"{name!r}: {len(ops)} bytes of {big.nbytes}, or a wrong checksum")
                    break
                record = record[:sizeof(r)] + ops
            if r.commit <= m.hot.commit_seq:
                raise errors.CorruptionError(f"{s['path']!r}: commit {r.commit} at byte {at} follows commit {m.hot.commit_seq}")
            while True:
                take_lock(region, 60000000000)
                st = replay(m, <const uint8_t *><char *>record, len(record))
                lock_release(m)
                if st == MM_OK:
                    break
                _relieve(region, st)
            count += 1
            position = lsn + r.len
            if m.hot.ring_head != position or m.hot.commit_seq != r.commit:
                raise errors.CorruptionError(f"{s['path']!r}: replaying commit {r.commit} ended at log position {m.hot.ring_head}, not {position}")
    return count


def _record(data, at, lsn, incarnation):
    """The record at this place of a segment, if it is whole; its crc field cleared."""
    cdef mm_record r
    cdef bytes out
    if at + sizeof(r) > len(data):
        return None
    head = bytes(data[at:at + sizeof(r)])
    memcpy(&r, <const char *>head, sizeof(r))
    if r.len < sizeof(r) or r.len & 7 or at + r.len > len(data) or r.lsn != lsn:
        return None
    crc = r.crc
    r.crc = 0
    out = (<char *>&r)[:sizeof(r)] + data[at + sizeof(r):at + r.len]
    if record_crc(incarnation, lsn, <const uint8_t *><char *>out, len(out)) != crc:
        return None
    return out


def _later_record(data, at, s):
    """The place of a good record behind a bad one, or None: then the bad one is a torn tail."""
    for place in range(at + 8, len(data) - sizeof(mm_record), 8):
        if int.from_bytes(data[place + 8:place + 16], "little") == s["lsn"] + place - SEGMENT.size:
            if _record(data, place, s["lsn"] + place - SEGMENT.size, s["incarnation"]) is not None:
                return place
    return None


# ---------------------------------------------------------------------------------------------- checkpoint

class _Writer:
    """Blocks of a checkpoint."""

    def __init__(self, fd):
        self.fd, self.parts, self.size, self.count, self.number = fd, [], 0, 0, 0

    def add(self, *parts):
        self.parts += parts
        self.size += sum([len(p) for p in parts])
        self.count += 1
        if self.size >= BLOCK_BYTES:
            self.end()

    def end(self):
        if self.count:
            block = b"".join(self.parts)
            _write_all(self.fd, BLOCK.pack(len(block), crc32c(block, self.number), self.count) + block)
            self.parts, self.size, self.count = [], 0, 0
            self.number += 1


def _checkpoint(Region region, path, uuid, incarnation, old_segments):
    """Write a checkpoint of the newest commit and give it its name; then remove the segments named. Returns (commit, lsn)."""
    cdef mm_map *m = &region.m
    cdef Transaction t
    cdef Cursor c, roots
    cdef TreeRef *ref
    cdef mm_control control
    cdef mm_control *live
    cdef mm_root root
    cdef int more, more_trees
    cdef uint64_t lsn, n_entries = 0, n_trees = 0
    take_lock(region, 60000000000)
    try:
        t = Transaction(region, read_only=True)
        t.now = 1                       # what has expired is saved, too: the log behind may tell of its removal
        lsn = m.hot.ring_head
        next_tree = m.hot.next_tree
    finally:
        lock_release(m)
    folder = os.path.dirname(path)
    temporary = f"{path}.{os.getpid()}-{secrets.token_hex(4)}.tmp"
    fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        try:
            head = HEAD.pack(HEAD_MAGIC, FORMAT, uuid, incarnation, t.s, lsn, mm_wall_ns(), next_tree)
            _write_all(fd, head + crc32c(head).to_bytes(4, "little"))
            w = _Writer(fd)
            c = Cursor(t, MM_TREE_CATALOG)
            more = c.c_first()
            while more:
                w.add(ENTRY.pack(69, c.kn, c.vn, c.expiry), c.key, c.value)
                n_entries += 1
                more = c.c_next()
            roots = Cursor(t, MM_TREE_ROOTS)
            more_trees = roots.c_first()
            while more_trees:
                tree = int.from_bytes(roots.key, "big")
                if tree != MM_TREE_CATALOG:
                    memcpy(&root, roots.vp, sizeof(root))
                    memset(&control, 0, sizeof(control))
                    messages = []
                    if root.control:
                        live = <mm_control *>extent_bytes(m, root.control, sizeof(mm_control))
                        if live == NULL:
                            raise errors.CorruptionError(f"tree {tree}: its control extent lies outside the region")
                        memcpy(&control, live, sizeof(control))
                        if root.kind == MM_ROOT_TOPIC:
                            messages = _messages(region, tree, t.s)
                            control.tail_seq = messages[0][0] if messages else _next_message(region, tree, t.s)
                    w.add(TREE.pack(84, tree, root.kind, sizeof(control)), (<char *>&control)[:sizeof(control)])
                    n_trees += 1
                    for seq, commit, wall, payload in messages:
                        w.add(MESSAGE.pack(77, seq, commit, wall, len(payload)), payload)
                    c = Cursor(t, tree)
                    more = c.c_first()
                    while more:
                        w.add(ENTRY.pack(69, c.kn, c.vn, c.expiry), c.key, c.value)
                        n_entries += 1
                        more = c.c_next()
                more_trees = roots.c_next()
            w.add(END.pack(90, n_trees, n_entries))
            w.end()
            os.fsync(fd)
        finally:
            os.close(fd)
            t.rollback()
        os.rename(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    _sync_directory(folder)
    mm_st64(&m.hot.io_failed, 0)
    _raise(&m.hot.checkpoint_seq, t.s)
    _raise(&m.hot.checkpoint_lsn, lsn)
    _raise(&m.hot.durable_seq, t.s)
    for segment in old_segments:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(segment)
    return t.s, lsn


cdef int _raise(uint64_t *word, uint64_t to) except -1:
    """A word that only grows."""
    cdef uint64_t now = mm_ld64(word)
    while now < to and not mm_cas64(word, now, to):
        now = mm_ld64(word)
    return 0


def _messages(Region region, tree, s):
    """The messages a topic keeps, up to commit s."""
    from memora.engine.feed import TopicReader
    while True:
        found = []
        reader = TopicReader(region, tree, 0)
        try:
            while reader.ready():
                message = reader.read(0)
                if message is None or message[1] > s:
                    break
                found.append(message)
            return found
        except errors.Lagged:
            continue


def _next_message(Region region, tree, s):
    from memora.engine.feed import TopicReader
    reader = TopicReader(region, tree, 0)
    return reader.position


# ---------------------------------------------------------------------------------------------- attached

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
        name = identity.path.encode()
        self.shared = mm_life_hold(name, 0, 0, 1)
        if self.shared == NULL:
            raise errors.OperationalError(f"cannot hold {identity.path!r}")
        os.makedirs(self.wal, mode=0o700, exist_ok=True)
        region.m.durable = LEVELS.index(durability)
        region.flush = self._make_room
        if durability == "full":
            region.after_commit = self._wait_durable
        if durability != "off":
            self._start()

    def _start(self):
        self.thread = threading.Thread(target=self._flusher, name="memora-flusher", daemon=True)
        self.thread.start()

    def _flusher(self):
        """Write what there is every 10 ms, sync every second, checkpoint when the log has grown; sleep while nothing happens."""
        cdef mm_map *m = &self.region.m
        cdef uint64_t synced_at = mm_mono_ns(), quiet = 0
        cdef uint32_t seen
        while not self.stop and not self.region.closed:
            if mm_ld64(&m.hot.written_lsn) < mm_ld64(&m.hot.ring_head) or (
                    mm_ld64(&m.hot.synced_lsn) < mm_ld64(&m.hot.written_lsn) and mm_mono_ns() - synced_at > <uint64_t>(SYNC_EVERY_S * 1e9)):
                quiet = 0
                sync = mm_mono_ns() - synced_at > <uint64_t>(SYNC_EVERY_S * 1e9)
                with contextlib.suppress(errors.DurabilityError, errors.ProgrammingError):
                    self.flush(sync)
                    if sync:
                        synced_at = mm_mono_ns()
                    if mm_ld64(&m.hot.ring_head) - mm_ld64(&m.hot.checkpoint_lsn) > CHECKPOINT_BYTES:
                        self.checkpoint()
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

    cdef int lease(self) except -1:
        """Become the one who writes, for a second; another one's lease counts until its deadline."""
        cdef mm_map *m = &self.region.m
        cdef uint64_t now = mm_mono_ns() // 1000000, w = mm_ld64(&m.hot.flush_lease), mine
        mine = (<uint64_t>(m.me + 1) << 48) | ((now + 1000) & 0xffffffffffffULL)
        if w and (w >> 48) != m.me + 1 and (w & 0xffffffffffffULL) > now:
            self.region._fd(1)
            if self.region.alive(<uint32_t>(w >> 48) - 1, m.slot[(w >> 48) - 1].gen):
                return 0
        return mm_cas64(&m.hot.flush_lease, w, mine)

    def _identity_holds(self):
        """The files are still ours: same lock file, uuid and incarnation. FileReplaced otherwise."""
        try:
            st = os.stat(self.path + "-lock")
            with open(self.path + "-lock", "rb") as f:
                data = f.read(IDENTITY.size)
        except FileNotFoundError:
            st, data = None, b""
        if st is None or (st.st_dev, st.st_ino) != (self.region.m.super.file_dev, self.region.m.super.file_ino) or len(data) < IDENTITY.size \
                or IDENTITY.unpack(data)[1:3] != (self.uuid, self.incarnation):
            raise errors.FileReplaced(f"{self.path!r} was replaced while it was open; nothing more is written to it")

    def _segment(self):
        """The descriptor of the segment that written_lsn belongs to, and where it begins."""
        cdef mm_hot *h = self.region.m.hot
        cdef uint64_t start = mm_ld64(&h.segment_lsn), written = mm_ld64(&h.written_lsn)
        if written - start > SEGMENT_BYTES:
            if self.segment is not None:
                os.fdatasync(self.segment[1])       # what the old one holds is synced before the new one counts
            _raise(&h.segment_lsn, written)
            start = written
        if self.segment is None or self.segment[0] != start:
            if self.segment is not None:
                os.close(self.segment[1])
                self.segment = None
            name = os.path.join(self.wal, f"{self.incarnation:08x}-{start:016x}.wal")
            fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            head = SEGMENT.pack(SEGMENT_MAGIC, FORMAT, self.uuid, self.incarnation, start, 0)
            head = SEGMENT.pack(SEGMENT_MAGIC, FORMAT, self.uuid, self.incarnation, start, crc32c(head[:48]))
            os.pwrite(fd, head, 0)
            os.fdatasync(fd)
            _sync_directory(self.wal)
            self.segment = (start, fd)
        return self.segment

    cdef int write_log(self, bint sync) except -1:
        cdef mm_map *m = &self.region.m
        cdef mm_hot *h = m.hot
        cdef uint64_t from_, to, at, commit = 0, n
        cdef mm_record r
        cdef mm_bigref big
        cdef const uint8_t *x
        cdef bytearray copy
        cdef uint8_t *p
        while True:
            from_ = mm_ld64(&h.written_lsn)
            to = mm_ld64(&h.ring_head)
            if to - from_ > (4 << 20):
                to = from_ + (4 << 20)
            if to == from_:
                break
            start, fd = self._segment()
            copy = bytearray(to - from_)
            p = <uint8_t *><char *>copy
            ring_out(m.ring, m.ring_bytes, from_, p, to - from_)
            mm_fence_acq()
            if mm_ld64(&h.ring_tail) > from_:
                if mm_ld64(&h.written_lsn) > from_:
                    continue                        # another flusher was faster
                raise errors.InternalError(f"the log was overwritten at {from_} before it was written")
            at = 0
            while at + sizeof(r) <= to - from_:
                memcpy(&r, p + at, sizeof(r))
                if r.len < sizeof(r) or r.lsn != from_ + at:
                    raise errors.CorruptionError(f"the log's record at {from_ + at} is damaged: lsn {r.lsn}, {r.len} bytes")
                if at + r.len > to - from_:
                    break
                if r.flags & MM_REC_BIG:
                    memcpy(&big, p + at + sizeof(r), sizeof(big))
                    x = extent_bytes(m, big.granule, big.nbytes)
                    if x == NULL:
                        raise errors.CorruptionError(f"commit {r.commit}: its operations lie outside the region")
                    big.crc = mm_crc32c(0, x, big.nbytes)
                    memcpy(p + at + sizeof(r), &big, sizeof(big))
                    name = os.path.join(self.wal, f"{self.incarnation:08x}-{r.lsn:016x}.big")
                    bigfd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
                    try:
                        _write_all(bigfd, (<const char *>x)[:big.nbytes])
                        os.fdatasync(bigfd)
                    finally:
                        os.close(bigfd)
                    _sync_directory(self.wal)
                r.crc = record_crc(self.incarnation, r.lsn, p + at, r.len)
                memcpy(p + at + 4, &r.crc, 4)
                commit = r.commit
                at += r.len
            n = at
            view = memoryview(copy)[:n]
            place = SEGMENT.size + from_ - start
            while view:
                done = os.pwrite(fd, view, place)
                view = view[done:]
                place += done
            _raise(&h.written_lsn, from_ + n)
            _raise(&h.written_seq, commit)
        if sync and mm_ld64(&h.synced_lsn) < mm_ld64(&h.written_lsn):
            to = mm_ld64(&h.written_lsn)
            commit = mm_ld64(&h.written_seq)
            start, fd = self._segment()
            os.fdatasync(fd)
            self._identity_holds()
            _raise(&h.synced_lsn, to)
            _raise(&h.durable_seq, commit)
            if mm_ld32(&h.durable_sleepers):
                mm_st32(&h.durable_sleepers, 0)
                mm_add32(&h.durable_event, 1)
                mm_futex_wake(&h.durable_event, 0x7fffffff)
        return 0

    def flush(self, bint sync=True):
        """Write the log to its file, and sync it. Waits for another process that is doing it."""
        cdef mm_map *m = &self.region.m
        cdef uint64_t to = mm_ld64(&m.hot.ring_head)
        while not self.region.closed:
            if mm_ld64(&m.hot.io_failed):
                raise errors.DurabilityError(f"{self.path!r}: the log could not be synced: {os.strerror(m.hot.io_failed)}; a checkpoint may mend it",
                                             m.hot.commit_seq, "memory")
            if (mm_ld64(&m.hot.synced_lsn) if sync else mm_ld64(&m.hot.written_lsn)) >= to:
                return
            with self.local:
                if self.region.closed:
                    return
                if self.lease():
                    try:
                        self.write_log(sync)
                    except OSError as e:
                        mm_st64(&m.hot.io_failed, e.errno or errno.EIO)
                        raise errors.DurabilityError(f"{self.path!r}: writing the log failed: {e.strerror}", m.hot.commit_seq, "memory") from e
                    finally:
                        mm_st64(&m.hot.flush_lease, 0)
                    continue
            time.sleep(0.0005)

    def _make_room(self):
        """The ring is full of records that are not in the file yet."""
        if self.durability == "off":
            raise errors.InternalError("the log waits for a file, with durability off")
        self.flush(False)

    def _wait_durable(self, commit):
        """durability='full': the commit returns when a sync has covered it; one syncs for all who wait."""
        cdef mm_hot *h = self.region.m.hot
        while mm_ld64(&h.durable_seq) < commit:
            try:
                self.flush(True)
            except errors.DurabilityError as e:
                raise errors.DurabilityError(str(e), commit, "written" if mm_ld64(&h.written_seq) >= commit else "memory") from None

    def checkpoint(self) -> int:
        """Write a checkpoint of the newest commit; log segments before it are removed. Returns the commit."""
        with self.local:
            self._identity_holds()
            if self.durability != "off":
                with contextlib.suppress(errors.DurabilityError):
                    self.flush(True)
            commit, lsn = _checkpoint(self.region, self.path, self.uuid, self.incarnation, [])
            self._drop_segments(lsn)
            return commit

    def _drop_segments(self, uint64_t lsn):
        """Remove segments that end at or before lsn: those followed by one that begins there or earlier."""
        mine = sorted(n for n in os.listdir(self.wal) if n.endswith((".wal", ".big")))
        starts = [int(n[9:25], 16) for n in mine if n.endswith(".wal") and int(n[:8], 16) == self.incarnation]
        for n in mine:
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
        """Commit numbers: newest, written, synced, checkpoint."""
        self.region.use()
        h = self.region.m.hot
        return {"newest": h.commit_seq, "written": h.written_seq, "synced": h.durable_seq, "checkpoint": h.checkpoint_seq}

    def leave(self):
        """Close the region; the last process checkpoints first and takes the region away."""
        self.stop = True
        if self.thread is not None and self.thread is not threading.current_thread():
            self.thread.join()
        region_dir = os.path.dirname(os.path.dirname(self.region.directory))
        with _opening(self.path) as identity:
            if self.shared != NULL:
                munmap(self.shared, 4096)
                self.shared = NULL
            mine = identity.known and identity.uuid == self.uuid and identity.incarnation == self.incarnation
            try:
                if mine and not identity.others():
                    self.checkpoint()
                    identity.clean = 1
                    identity.write()
                    for n in os.listdir(self.wal):
                        os.unlink(os.path.join(self.wal, n))
                    self._close_segment()
                    self.region.close()
                    remove(self.region.name, region_dir)
                elif mine and self.durability != "off":
                    self.flush(True)
            finally:
                self._close_segment()
                self.region.close()

    def _close_segment(self):
        if self.segment is not None:
            os.close(self.segment[1])
            self.segment = None
