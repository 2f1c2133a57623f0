"""The checkpoint, app.db: everything that one commit sees, and how a fresh region is filled from it.

LAYOUT      HEAD and its crc32c, then blocks: BLOCK, then records. A block's crc32c is seeded by its number and covers its head, too.
            Records, in this order: the catalog's entries; for each tree a T with its control, then its messages or its
            entries; at the end a Z that counts. Nothing follows. docs/format.md tells every byte.
WRITERS     1 create a temporary file  2 remove all other temporary files  3 take S and the log's position, under the commit lock
            4 write what S sees, fsync  5 ask whether the database is still ours, rename, fsync of the directory.
            Of two at a time at most one finds its file in step 5, and that one has the newer S: Superseded tells the other.
INVARIANTS  (1) A topic's messages up to S follow one another to the number that was next at S, or there are none.
CRASH       A temporary file is left; the next checkpoint, or opening, removes it.
"""
from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset
from memora.engine.commit cimport TreeRef
from memora.engine.descriptor cimport begin, put64
from memora.engine.extents cimport collect_extents, extent_bytes
from memora.engine.frames cimport collect, reserve
from memora.engine.growth cimport grow_for
from memora.engine.layout cimport *
from memora.engine.procs cimport lock_release
from memora.engine.region cimport Region, take_lock
from memora.engine.replay cimport restore_entry, restore_message, restore_seal, restore_tree
from memora.engine.status cimport error
from memora.engine.sync cimport *
from memora.engine.cursor cimport Cursor
from memora.engine.transaction cimport Transaction
from memora.engine.wal cimport record_begin

cdef enum:
    BATCH_STORES = 250          # of a batch; each new page is at least one (its place in pt)
    BATCH_FRAMES = 512          # more than a batch can take: its stores, and the splits of its last entry

import contextlib
import os
import re
import secrets
import struct

from memora import errors
from memora.engine import places
from memora.engine.feed import TopicReader

FORMAT = 1
BLOCK_BYTES = 64 << 10
# app.db header: magic, format, uuid, incarnation, commit, lsn, wall clock ns, next tree; crc32c of all that behind it
HEAD = struct.Struct("<8sI4x16sQQQQQ")
HEAD_MAGIC = b"MEMORADB"
# block: bytes, number of records, crc32c
BLOCK = struct.Struct("<III")
BLOCK_COUNTS = struct.Struct("<II")
# records in blocks: kind, then
TREE = struct.Struct("<BIII")        # b'T', tree, kind, bytes of control
ENTRY = struct.Struct("<BIQQ")       # b'E', key bytes, value bytes, expiry
MESSAGE = struct.Struct("<BQQQI")    # b'M', number, commit, wall clock ns, payload bytes
END = struct.Struct("<BQQ")          # b'Z', trees, entries


class Superseded(Exception):
    """Another checkpoint was begun later than this one, which is given up."""


def crc32c(data, seed=0) -> int:
    """crc32c (Castagnoli) of bytes, continued from a seed."""
    cdef bytes b = bytes(data)
    return mm_crc32c(<uint32_t>seed, PyBytes_AS_STRING(b), len(b))


def sync_directory(path):
    """fsync of a directory: names in it that were made or changed survive a power cut."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_all(fd, data):
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view):]


def temporaries(path) -> list:
    """Checkpoints of this database that have no name yet."""
    folder, name = os.path.split(path)
    pattern = re.compile(re.escape(name) + r"\.[0-9]+-[0-9a-f]{8}\.tmp")
    return [os.path.join(folder, n) for n in os.listdir(folder) if pattern.fullmatch(n)]


def sweep_temporaries(path, keep=None):
    """Remove checkpoints without a name: those of killed processes, and those that must not get one any more."""
    for name in temporaries(path):
        if name != keep:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)


# ---------------------------------------------------------------------------------------------- reading

def read_head(path) -> dict:
    """The header of a checkpoint: uuid, incarnation, commit, lsn, next_tree. RegionError: it is none, or too new."""
    with open(path, "rb") as f:
        data = f.read(HEAD.size + 4)
    if data[:8] != HEAD_MAGIC[:len(data[:8])]:
        raise errors.RegionError(f"{path!r} is no Memora database: it begins with {data[:16]!r}")
    if len(data) < HEAD.size + 4:
        raise errors.CorruptionError(f"{path!r} is truncated at byte {len(data)}, in its header")
    body, crc = data[:HEAD.size], int.from_bytes(data[HEAD.size:], "little")
    magic, fmt, uuid, incarnation, commit, lsn, wall, next_tree = HEAD.unpack(body)
    if fmt > FORMAT:
        raise errors.RegionError(f"{path!r} has file format {fmt}; this Memora reads {FORMAT}")
    if crc != crc32c(body) or fmt != FORMAT:
        raise errors.CorruptionError(f"{path!r}: the header is damaged at byte 0: its checksum is {crc:#x}, its content says {crc32c(body):#x}")
    return {"uuid": uuid, "incarnation": incarnation, "commit": commit, "lsn": lsn, "next_tree": next_tree}


cdef int grow_or_raise(Region region, int st) except -1:
    """Rebuilding lacked space: collect what replayed commits retired, and grow. Nobody else is in the region."""
    cdef mm_map *m = &region.m
    cdef uint64_t need = m.need, had = m.hot.x_free
    if st != MM_NEED_FRAMES and st != MM_NEED_EXTENT:
        raise error(m, st, "rebuilding from the files")
    take_lock(region, 60000000000)
    st2 = collect(m, 1)
    if st2 == MM_OK:
        st2 = collect_extents(m, 1)
    lock_release(m)
    if st2:
        raise error(m, st2, "rebuilding from the files")
    if st == MM_NEED_FRAMES and m.hot.free_count > need + reserve(m):
        return 0
    try:
        grow_for(region, st, need, m.hot.n_units)
    except errors.RegionFull:
        if st == MM_NEED_FRAMES or m.hot.x_free == had:
            raise
    return 0


cdef int next_batch(Region region) except -1:
    """Seal what was restored, and have room for the next batch: its pages are changed in place, so it must not run out of frames."""
    cdef mm_map *m = &region.m
    cdef int st = restore_seal(m, 1)
    if st:
        raise error(m, st, "rebuilding from the files")
    if m.hot.free_count < reserve(m) + BATCH_FRAMES:
        with contextlib.suppress(errors.RegionFull):        # a region at its cap may still have room for everything
            grow_for(region, MM_NEED_FRAMES, BATCH_FRAMES, m.hot.n_units)
        begin(m)
    return 0


cdef class _Loader:
    """Fills a fresh region, record by record."""
    cdef Region region
    cdef TreeRef t
    cdef uint64_t trees, entries
    cdef bint ended

    def __cinit__(self, Region region):
        cdef mm_map *m = &region.m
        self.region = region
        self.t.tree = MM_TREE_CATALOG
        self.t.root = MM_PG_CATALOG
        self.t.kind = MM_ROOT_TREE
        begin(m)
        m.building = 1
        record_begin(m)

    cdef uint64_t record(self, bytes block, uint64_t at) except 0:
        """Restore the record at a place of a block; where the next one begins. ValueError or struct.error: it does not fit."""
        cdef mm_map *m = &self.region.m
        cdef const uint8_t *p = <const uint8_t *>PyBytes_AS_STRING(block)
        cdef uint64_t size = len(block), kn, vn, expiry, seq, commit, wall
        cdef uint32_t tree, kind
        cdef int st
        cdef bint fresh
        if at >= size or self.ended:
            raise ValueError("a record too many")
        if p[at] == 84:
            _, tree, kind, vn = TREE.unpack_from(block, at)
            at += TREE.size
            if vn > size - at:
                raise ValueError("a tree leaves its block")
            next_batch(self.region)     # what lacks space below is dropped: the entries before must stand
            while True:
                st = restore_tree(m, tree, kind, p + at, vn, &self.t)
                if st == MM_OK:
                    st = restore_seal(m, 1)
                    if st == MM_OK:
                        break
                begin(m)
                grow_or_raise(self.region, st)
                begin(m)
            self.trees += 1
            return at + vn
        if p[at] == 69:
            _, kn, vn, expiry = ENTRY.unpack_from(block, at)
            at += ENTRY.size
            if kn > MM_KEY_MAX or kn > size - at or vn > size - at - kn:
                raise ValueError("an entry leaves its block")
            if self.entries == 0 or m.buf.n > BATCH_STORES or kn + vn > MM_CELL_INLINE:
                next_batch(self.region)
            fresh = m.buf.n == 0
            st = restore_entry(m, &self.t, p + at, kn, p + at + kn, vn, expiry)
            while st:                   # only right behind next_batch: no page was touched yet, so dropping the buffer drops nothing else
                if not fresh:
                    raise errors.InternalError(f"a batch of a checkpoint lacked {m.need} after {m.buf.n} stores (status {st})")
                begin(m)
                grow_or_raise(self.region, st)
                begin(m)
                st = restore_entry(m, &self.t, p + at, kn, p + at + kn, vn, expiry)
            self.entries += 1
            return at + kn + vn
        if p[at] == 77:
            _, seq, commit, wall, vn = MESSAGE.unpack_from(block, at)
            at += MESSAGE.size
            if vn > size - at or self.t.kind != MM_ROOT_TOPIC:
                raise ValueError("a message leaves its block")
            st = restore_message(m, &self.t, seq, commit, wall, p + at, vn)
            if st:
                raise error(m, st, "rebuilding from the files")
            return at + vn
        if p[at] == 90:
            _, trees, entries = END.unpack_from(block, at)
            if trees != self.trees or entries != self.entries:
                raise ValueError(f"{self.trees} trees and {self.entries} entries came, its end says {trees} and {entries}")
            self.ended = True
            return at + END.size
        raise ValueError(f"a record of kind {p[at]}")


def load(Region region, path, head):
    """Load a checkpoint into a fresh region. CorruptionError names file, block and byte."""
    cdef mm_map *m = &region.m
    cdef _Loader loader = _Loader(region)
    cdef uint64_t at
    cdef int st
    number = 0
    with open(path, "rb") as f:
        left = os.fstat(f.fileno()).st_size - (HEAD.size + 4)
        f.seek(HEAD.size + 4)
        while left:
            offset = f.tell()
            data = f.read(BLOCK.size)
            left -= BLOCK.size
            if left < 0:
                raise errors.CorruptionError(f"{path!r} is truncated at byte {offset}, in block {number}")
            size, count, crc = BLOCK.unpack(data)
            block = f.read(size) if size <= left else b""
            if len(block) < size or crc32c(block, crc32c(data[:8], number)) != crc:
                raise errors.CorruptionError(f"{path!r}: block {number} at byte {offset} is damaged or cut off")
            at = 0
            try:
                for _ in range(count):
                    at = loader.record(block, at)
                if at != len(block):
                    raise ValueError("bytes behind its last record")
            except (ValueError, struct.error) as e:
                raise errors.CorruptionError(f"{path!r}: block {number} at byte {offset}: {e}") from None
            left -= size
            number += 1
    if not loader.ended:
        raise errors.CorruptionError(f"{path!r} is truncated behind block {number}")
    put64(m, &m.hot.ring_head, head["lsn"])
    put64(m, &m.hot.ring_tail, head["lsn"])
    put64(m, &m.hot.tail_commit, head["commit"] + 1)
    put64(m, &m.hot.next_tree, max(head["next_tree"], m.hot.next_tree))
    put64(m, &m.hot.schema_seq, head["commit"])
    st = restore_seal(m, head["commit"])
    if st:
        raise error(m, st, "rebuilding from the files")


# ---------------------------------------------------------------------------------------------- writing

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
            counts = BLOCK_COUNTS.pack(len(block), self.count)
            write_all(self.fd, counts + crc32c(block, crc32c(counts, self.number)).to_bytes(4, "little"))
            write_all(self.fd, block)
            self.parts, self.size, self.count = [], 0, 0
            self.number += 1

    def entries(self, Cursor c) -> int:
        """Every entry of a tree, also what has expired: the log behind may tell of its removal."""
        cdef int more = c.c_first()
        n = 0
        while more:
            self.add(ENTRY.pack(69, c.kn, c.vn, c.expiry), c.key, c.value)
            n += 1
            more = c.c_next()
        return n


def _trees(Transaction t) -> list:
    """(tree, kind, control granule) of every tree but the catalog, as a transaction sees them."""
    cdef Cursor c = Cursor(t, MM_TREE_ROOTS)
    cdef mm_root root
    cdef int more = c.c_first()
    found = []
    while more:
        tree = int.from_bytes(c.key, "big")
        if tree != MM_TREE_CATALOG:
            if c.vn != sizeof(root):
                raise errors.CorruptionError(f"tree {tree}: its row in the roots has {c.vn} bytes")
            memcpy(&root, c.vp, sizeof(root))
            found.append((tree, root.kind | root.flags << MM_MADE_SHIFT, root.control))
        more = c.c_next()
    return found


def _topics(Region region) -> list:
    """(tree, control granule) of the topics there are now."""
    t = Transaction(region, read_only=True)
    try:
        return [(tree, control) for tree, kind, control in _trees(t) if kind == MM_ROOT_TOPIC]
    finally:
        t.rollback()


cdef mm_control *control_at(Region region, tree, granule) except NULL:
    cdef mm_control *c = <mm_control *>extent_bytes(&region.m, granule, sizeof(mm_control))
    if c == NULL:
        raise errors.CorruptionError(f"tree {tree}: its control extent {granule} lies outside the region")
    return c


def _begin(Region region):
    """(transaction, lsn, next tree, trees, {topic: number of its next message}), all of one moment."""
    cdef mm_map *m = &region.m
    while True:
        topics = _topics(region)
        take_lock(region, 60000000000)
        try:
            t = Transaction(region, read_only=True, checkpoint=True)
            lsn = m.hot.ring_head
            next_tree = m.hot.next_tree
            heads = {tree: control_at(region, tree, granule).head_seq for tree, granule in topics}
        finally:
            lock_release(m)
        try:
            trees = _trees(t)
            if all([kind != MM_ROOT_TOPIC or tree in heads for tree, kind, control in trees]):
                return t, lsn, next_tree, trees, heads
        except BaseException:
            t.rollback()
            raise
        t.rollback()                # a topic was created in between


def _messages(Region region, tree, s) -> list:
    """The messages a topic still keeps, up to commit s."""
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


def write_checkpoint(Region region, path, uuid, incarnation, still_ours) -> tuple:
    """Write a checkpoint of the newest commit and give it its name. Returns (commit, lsn).

    still_ours(): called before the rename; raises if the database is not ours any more. Superseded: another one goes on.
    """
    cdef Transaction t
    cdef mm_control control
    temporary = f"{path}.{os.getpid()}-{secrets.token_hex(4)}.tmp"
    fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        try:
            places.share_alike(fd, path)
            sweep_temporaries(path, temporary)
            t, lsn, next_tree, trees, heads = _begin(region)
            try:
                t.now = 1
                head = HEAD.pack(HEAD_MAGIC, FORMAT, uuid, incarnation, t.s, lsn, mm_wall_ns(), next_tree)
                write_all(fd, head + crc32c(head).to_bytes(4, "little"))
                w = _Writer(fd)
                n_entries = w.entries(Cursor(t, MM_TREE_CATALOG))
                for tree, kind, granule in trees:
                    memset(&control, 0, sizeof(control))
                    messages = []
                    if granule:
                        memcpy(&control, control_at(region, tree, granule), sizeof(control))
                        if kind == MM_ROOT_TOPIC:
                            try:
                                messages = _messages(region, tree, t.s)
                            except errors.OperationalError:
                                t.alive()           # dropped after S: its messages are gone, and the log will tell of that
                            control.tail_seq = messages[0][0] if messages else heads[tree]
                    w.add(TREE.pack(84, tree, kind, sizeof(control)), (<char *>&control)[:sizeof(control)])
                    for seq, commit, wall, payload in messages:
                        w.add(MESSAGE.pack(77, seq, commit, wall, len(payload)), payload)
                    n_entries += w.entries(Cursor(t, tree))
                w.add(END.pack(90, len(trees), n_entries))
                w.end()
            finally:
                t.rollback()
            os.fsync(fd)
        finally:
            os.close(fd)
        still_ours()
        try:
            os.rename(temporary, path)
        except FileNotFoundError:
            raise Superseded(temporary) from None
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    sync_directory(os.path.dirname(path))
    return t.s, lsn
