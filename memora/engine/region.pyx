"""Regions: create, attach, grow, leave. A region is two files in a directory of its own, or two memfds.

LAYOUT      <base>/memora-<uid>/<name>/{region,slots}; base is /dev/shm or region_dir. The directory of the user is 0700 and must
            belong to the user; no symbolic link is followed. Bytes: csrc/layout.h.
CREATION    Both files are built in <user directory>/.new-<pid>-<random>/ and the directory is then renamed to its name, which
            fails if the name is taken: nobody ever sees half a region. What a killed creator left is swept at the next open.
ATTACH LOCK An open-file-description lock on byte 2**40 of the slots file, held while slots are claimed; the kernel drops it with
            its holder. The next byte is the same for growth: a process stopped while it grows the region keeps nobody from attaching.
GROWTH      Address space for the cap is mapped once. Growing = fallocate the new parts of the page table, the side arrays and
            the units; format the new frames, which nobody can reach; publish them by one descriptor. A growth that dies is done
            again by the next. Memory is allocated before it is touched, so a full tmpfs is an error and never SIGBUS.
CRASH       A process that dies leaves a locked slot byte (dropped by the kernel), maybe the commit lock (taken over), maybe
            announced snapshots (freed by whoever collects).
"""
from libc.stdint cimport uint8_t, uint32_t, uint64_t, int64_t
from libc.stdlib cimport free
from libc.string cimport memcmp, memcpy, memset
from posix.mman cimport MAP_FAILED, MAP_SHARED, PROT_READ, PROT_WRITE, mmap, munmap
from memora.engine.btree cimport Path, locate, put_at
from memora.engine.descriptor cimport begin, get32, get64, put32, put64, roll_forward, seal
from memora.engine.extents cimport free_run
from memora.engine.frames cimport finish
from memora.engine.layout cimport *
from memora.engine.procs cimport (claim_slot, claim_snapshot, fork_epoch, lock_release, lock_take, lock_try, reap, release_slot,
                                  release_snapshot, slot_alive)
from memora.engine.status cimport error
from memora.engine.sync cimport *
from cpython.exc cimport PyErr_CheckSignals

import contextlib
import errno
import fcntl
import os
import secrets
import shutil
import stat
import struct
import time

from memora import errors

cdef extern from "<sys/mman.h>" nogil:
    int MAP_NORESERVE

ATTACH_BYTE = 1 << 40
GROW_BYTE = ATTACH_BYTE + 1
DEFAULT_RING = 8 << 20
DEFAULT_SLOTS = 1024
DEFAULT_SNAPS = 4096
GUARD = 128 << 10
GROW_UNITS = 1024           # at least 4 MiB a step
FEATURES_KNOWN = 0
# Named points of a commit, in the order of MM_FP_* (csrc/layout.h).
FAILPOINTS = ("locked", "validated", "applied", "logged", "filled", "sealed", "rolling", "rolled", "unlocked", "collecting", "growing")


def boot_id() -> bytes:
    """The kernel's random id of this boot, 16 bytes."""
    with open("/proc/sys/kernel/random/boot_id") as f:
        return bytes.fromhex(f.read().strip().replace("-", ""))


def user_directory(region_dir=None, create=False) -> str:
    """The directory that holds this user's regions. Refuses one that is a link or belongs to somebody else."""
    path = os.path.join(region_dir or "/dev/shm", f"memora-{os.getuid()}")
    if create:
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o700)
    try:
        st = os.lstat(path)
    except FileNotFoundError:
        return path
    except NotADirectoryError:
        raise errors.RegionError(f"{region_dir!r} is not a directory") from None
    if not stat.S_ISDIR(st.st_mode) or st.st_uid != os.getuid():
        raise errors.RegionError(f"{path!r} is not a directory of user {os.getuid()}: refused")
    return path


def _lock_byte(fd, kind, byte, wait):
    # struct flock: l_type, l_whence, l_start, l_len, l_pid
    op = 38 if wait else 37         # F_OFD_SETLKW, F_OFD_SETLK
    fcntl.fcntl(fd, op, struct.pack("hhqqi4x", kind, os.SEEK_SET, byte, 1, 0))


def _round(n, to):
    return (n + to - 1) // to * to


def _fallocate(fd, offset, length, what, path):
    try:
        os.posix_fallocate(fd, offset, length)
    except OSError as e:
        if e.errno not in (errno.ENOSPC, errno.ENOMEM, errno.EDQUOT, errno.EFBIG):
            raise
        room = os.fstatvfs(fd)
        raise errors.RegionFull(
            f"{what}: {length} bytes needed, {room.f_bavail * room.f_frsize} free on the file system of {path!r}; "
            "in a container give more with --shm-size, or share the host's with --ipc=host") from None


def _is_at(path, fd):
    """Is the open directory still the one of that name?"""
    try:
        return os.path.samestat(os.lstat(path), os.fstat(fd))
    except FileNotFoundError:
        return False


cdef int take_lock(Region r, uint64_t timeout_ns) except -1:
    """Take the commit lock for this process. LockTimeout names the holder. Signals are let in while it waits."""
    cdef mm_map *m = &r.m
    cdef int st
    cdef uint64_t begun
    if r.closed:
        raise errors.ProgrammingError(f"region {r.name!r} is closed")
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
            w = mm_ld32(&m.hot.lock)
            slot = <int>(w & MM_LOCK_SLOT) - 1
            who = "nobody any more"
            if 0 <= slot < <int>m.n_slots:
                what = bytes((<char *>m.slot[slot].what)[:sizeof(m.slot[slot].what)]).split(b"\0")[0].decode("utf-8", "replace")
                who = f"process {m.slot[slot].pid} (slot {slot}){' in ' + repr(what) if what else ''}"
            raise errors.LockTimeout(f"the commit lock of {r.name!r} was not free within {timeout_ns / 1e9:g} s; held by {who}")


cdef int bootstrap(mm_map *m, uint64_t units) except -1:
    """Lay out an empty region: the roots tree with the catalog in it, every other frame free. Nobody else can see it yet."""
    cdef uint32_t u
    cdef Path path
    cdef mm_root root
    cdef mm_frame *f
    cdef uint8_t key[4]
    m.hot.n_units = units
    m.hot.n_frames = units - 1
    m.hot.page_high = 3
    m.hot.tail_commit = 2
    m.hot.next_tree = MM_TREE_FIRST
    m.hot.n_trees = 2
    for u in range(1, 3):
        f = mm_frame_at(m, u)
        f.pgno = u
        f.tree = MM_TREE_ROOTS if u == MM_PG_ROOTS else MM_TREE_CATALOG
        f.kind = MM_KIND_LEAF
        f.layout = 1
        f.heap = MM_UNIT
        m.pt[u] = u
    for u in range(3, units):
        mm_frame_at(m, u).link = u + 1 if u + 1 < units else 0
    m.hot.free_head = 3
    m.hot.free_count = units - 3
    m.building = 1
    begin(m)
    root.root = MM_PG_CATALOG
    root.control = 0
    root.flags = 0
    root.kind = MM_ROOT_TREE
    key[0] = key[1] = key[2] = 0
    key[3] = MM_TREE_CATALOG
    if locate(m, MM_PG_ROOTS, MM_TREE_ROOTS, key, 4, &path) or put_at(m, &path, key, 4, <uint8_t *>&root, sizeof(root), 0):
        raise errors.InternalError("cannot format the region")
    finish(m)
    if seal(m, 1) or roll_forward(m):
        raise errors.InternalError("cannot format the region")
    return 0


cdef class Region:
    """One attached region. Made by create(), attach() or memory(); the layers above use it through store.Store."""

    def __cinit__(self):
        self.entries = []
        self.closed = True
        self.m.me = 0xffffffffU
        self.m.slots_fd = -1

    # ---- making and finding

    @staticmethod
    def geometry(max_bytes, ring_bytes, slots, snaps):
        """Offsets of a region whose data may grow to about max_bytes: a dict of mm_super fields."""
        ring = _round(ring_bytes, 4096)
        units = max(64, (max_bytes - 24576 - ring) * 4096 // (4096 + 4 + 8 + 16) // 4096)
        g = {"ring_bytes": ring, "cap_units": units, "cap_pages": units, "n_slots": slots, "n_snaps": snaps}
        g["off_ring"] = _round(8192 + MM_DESC_BYTES, 4096)
        g["off_pt"] = g["off_ring"] + ring
        g["off_vis"] = g["off_pt"] + _round(units * 4, 4096)
        g["off_xmap"] = g["off_vis"] + _round(units * 8, 4096)
        g["off_data"] = g["off_xmap"] + _round(units * 4 * 4, 4096)
        g["map_bytes"] = g["off_data"] + units * 4096
        return g

    @staticmethod
    def create(str name, str region_dir=None, max_bytes=None, ring_bytes=DEFAULT_RING, slots=DEFAULT_SLOTS, snaps=DEFAULT_SNAPS,
               initial_bytes=None, uuid=None, incarnation=1, file_id=(0, 0), fill=None):
        """Create the named region, or raise FileExistsError. fill(region), if given, runs before the region gets its name."""
        cdef Region r
        for left in range(100, -1, -1):
            user = user_directory(region_dir, create=True)
            path = os.path.join(user, f".new-{os.getpid()}-{secrets.token_hex(6)}")
            try:
                os.mkdir(path, 0o700)
                break
            except FileNotFoundError:       # somebody who removed the last region took the empty directory away
                if left == 0:
                    raise
        try:
            fds = [os.open(os.path.join(path, f), os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600) for f in ("region", "slots")]
            r = Region._build(name, path, fds, max_bytes, ring_bytes, slots, snaps, initial_bytes, uuid, incarnation, file_id)
            try:
                if fill is not None:
                    fill(r)
                final = os.path.join(user, name)
                try:
                    os.rename(path, final)
                except OSError as e:
                    if e.errno in (errno.ENOTEMPTY, errno.EEXIST):
                        raise FileExistsError(final) from None
                    raise
                r.directory = final
                return r
            except BaseException:
                r.close()
                raise
        except BaseException:
            shutil.rmtree(path, ignore_errors=True)
            with contextlib.suppress(OSError):
                os.rmdir(user)
            raise

    @staticmethod
    def memory(max_bytes=None, ring_bytes=DEFAULT_RING, slots=64, snaps=1024, initial_bytes=None):
        """A region without a name: it ends with its last process. Forked children share it."""
        fds = [os.memfd_create("memora-" + f, os.MFD_CLOEXEC) for f in ("region", "slots")]
        return Region._build(":memory:", None, fds, max_bytes, ring_bytes, slots, snaps, initial_bytes, None, 1, (0, 0))

    @staticmethod
    def _build(name, path, fds, max_bytes, ring_bytes, slots, snaps, initial_bytes, uuid, incarnation, file_id):
        cdef Region r = Region.__new__(Region)
        cdef mm_super s
        room = os.fstatvfs(fds[0])
        total = room.f_blocks * room.f_frsize or (os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
        if max_bytes is None:
            max_bytes = max(total // 2, 1 << 20)
        g = Region.geometry(max_bytes, ring_bytes, slots, snaps)
        initial = min(g["cap_units"], max(64, (initial_bytes or min(1 << 20, max_bytes // 4)) // 4096))
        slots_bytes = 4096 + slots * sizeof(mm_slot) + snaps * (16 + sizeof(mm_reserve))
        where = path or "memfd"
        _fallocate(fds[0], 0, g["off_pt"], "create region", where)
        Region._allocate(fds[0], g, 0, initial, where)
        os.ftruncate(fds[0], g["map_bytes"])        # the rest is a hole: a damaged count leads into zeros, never to SIGBUS
        _fallocate(fds[1], 0, _round(slots_bytes, 4096), "create region", where)
        memset(&s, 0, sizeof(s))
        memcpy(s.magic, MM_MAGIC, 8)
        s.major = MM_FORMAT_MAJOR
        s.minor = MM_FORMAT_MINOR
        s.unit_bytes = MM_UNIT
        s.granule_bytes = MM_GRANULE
        uuid = uuid or secrets.token_bytes(16)
        memcpy(s.uuid, <const uint8_t *>uuid, 16)
        boot = boot_id()
        memcpy(s.boot_id, <const uint8_t *>boot, 16)
        s.incarnation = incarnation
        s.map_bytes = g["map_bytes"]
        s.ring_bytes = g["ring_bytes"]
        s.off_ring = g["off_ring"]
        s.off_pt = g["off_pt"]
        s.off_vis = g["off_vis"]
        s.off_xmap = g["off_xmap"]
        s.off_data = g["off_data"]
        s.cap_units = g["cap_units"]
        s.cap_pages = g["cap_pages"]
        s.file_dev, s.file_ino = file_id
        s.created_ns = mm_wall_ns()
        s.n_slots = slots
        s.n_snaps = snaps
        s.crc = mm_crc32c(0, &s, <size_t>(<char *>&s.crc - <char *>&s))
        os.pwrite(fds[0], (<char *>&s)[:sizeof(s)], 0)
        os.pwrite(fds[1], b"MEMSLOTS" + uuid + struct.pack("<II", slots, snaps), 0)
        r.name = name
        r.directory = path
        r.ephemeral = path is None
        r._map(fds, uuid)
        try:
            r._claim()
            bootstrap(&r.m, initial)
        except BaseException:
            r.close()
            raise
        return r

    @staticmethod
    def _allocate(fd, g, first, last, where):
        """Back units [first, last) and their entries in the arrays with memory."""
        for off, width in ((g["off_pt"], 4), (g["off_vis"], 8), (g["off_xmap"], 16), (g["off_data"], 4096)):
            lo = (off + first * width) // 4096 * 4096
            _fallocate(fd, lo, off + last * width - lo, "grow region", where)

    @staticmethod
    def attach(str name, str region_dir=None, file_id=None):
        """Attach to the named region. FileNotFoundError: none. RegionError names what is wrong with what was found."""
        cdef Region r
        user = user_directory(region_dir)
        path = os.path.join(user, name)
        try:
            d = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except (NotADirectoryError, OSError) as e:
            if isinstance(e, FileNotFoundError):
                raise
            raise errors.RegionError(f"{path!r} is no region: {e.strerror}") from None
        fds = []
        try:
            for f in ("region", "slots"):
                try:
                    fds.append(os.open(f, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=d))
                except FileNotFoundError:
                    if not _is_at(path, d):
                        raise               # it is being removed: there is none any more
                    raise errors.RegionError(f"{path!r} is no region: its file {f!r} is missing") from None
                owner = os.fstat(fds[len(fds) - 1]).st_uid
                if owner != os.getuid():
                    raise errors.RegionError(f"{path!r}: {f!r} belongs to user {owner}")
        except BaseException:
            for fd in fds:
                os.close(fd)
            raise
        finally:
            os.close(d)
        r = Region.__new__(Region)
        r.name = name
        r.directory = path
        try:
            uuid = Region._verify(fds, path, file_id)
            r._map(fds, uuid)
        except BaseException:
            for fd in fds:
                os.close(fd)
            raise
        try:
            r._claim()
        except BaseException:
            r.close()
            raise
        return r

    @staticmethod
    def _verify(fds, path, file_id):
        cdef mm_super s
        data = os.pread(fds[0], sizeof(mm_super), 0)
        if len(data) < sizeof(mm_super):
            raise errors.RegionError(f"{path!r} is no region: {len(data)} bytes, a header has {sizeof(mm_super)}")
        memcpy(&s, <const char *>data, sizeof(s))
        if memcmp(s.magic, MM_MAGIC, 8):
            raise errors.RegionError(f"{path!r} is no region: it begins with {data[:8]!r}")
        if s.major != MM_FORMAT_MAJOR:
            raise errors.RegionError(f"{path!r} has region format {s.major}.{s.minor}; this Memora reads {MM_FORMAT_MAJOR}.x")
        if s.crc != mm_crc32c(0, &s, <size_t>(<char *>&s.crc - <char *>&s)):
            raise errors.RegionError(f"{path!r}: the header's checksum is wrong; it is damaged")
        if s.feature_incompat & ~<uint32_t>FEATURES_KNOWN:
            raise errors.RegionError(f"{path!r} uses features {s.feature_incompat:#x} that this Memora does not know")
        boot = boot_id()
        if memcmp(s.boot_id, <const uint8_t *>boot, 16):
            raise errors.RegionError(f"{path!r} was made before the last boot")
        g = Region.geometry(0, s.ring_bytes, s.n_slots, s.n_snaps)
        units = s.cap_units
        expect = (g["off_ring"], g["off_pt"], s.off_pt + _round(units * 4, 4096), s.off_vis + _round(units * 8, 4096),
                  s.off_xmap + _round(units * 16, 4096), s.off_data + units * 4096)
        if (s.off_ring, s.off_pt, s.off_vis, s.off_xmap, s.off_data, s.map_bytes) != expect or units > 0x3fffffff:
            raise errors.RegionError(f"{path!r}: the header's offsets do not fit together; it is damaged")
        if s.unit_bytes != MM_UNIT or s.granule_bytes != MM_GRANULE or s.cap_pages != units:
            raise errors.RegionError(f"{path!r} has units of {s.unit_bytes} bytes; this Memora reads {MM_UNIT}")
        if os.fstat(fds[0]).st_size < s.map_bytes:
            raise errors.RegionError(f"{path!r} is truncated: {os.fstat(fds[0]).st_size} bytes of {s.map_bytes}")
        if file_id is not None and (s.file_dev, s.file_ino) != tuple(file_id):
            raise errors.RegionError(f"{path!r} belongs to another database file")
        head = os.pread(fds[1], 32, 0)
        uuid = (<char *>s.uuid)[:16]
        if head[:8] != b"MEMSLOTS" or head[8:24] != uuid or head[24:32] != struct.pack("<II", s.n_slots, s.n_snaps):
            raise errors.RegionError(f"{path!r}: the slots file is not of this region")
        want = 4096 + s.n_slots * sizeof(mm_slot) + s.n_snaps * (16 + sizeof(mm_reserve))
        if os.fstat(fds[1]).st_size < want or not 0 < s.n_slots < 8191:
            raise errors.RegionError(f"{path!r}: the slots file is truncated: {os.fstat(fds[1]).st_size} of {want} bytes")
        return uuid

    def _map(self, fds, uuid):
        cdef mm_map *m = &self.m
        cdef mm_super s
        data = os.pread(fds[0], sizeof(mm_super), 0)
        memcpy(&s, <const char *>data, sizeof(s))
        size = s.map_bytes + GUARD
        p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fds[0], 0)
        if p == MAP_FAILED:
            raise errors.RegionError(f"cannot map {size} bytes of {self.name!r}: address space is limited; give a smaller max_bytes")
        m.slots_bytes = 4096 + s.n_slots * sizeof(mm_slot) + s.n_snaps * (16 + sizeof(mm_reserve))
        q = mmap(NULL, m.slots_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fds[1], 0)
        if q == MAP_FAILED:
            munmap(p, size)
            raise errors.RegionError(f"cannot map the slots of {self.name!r}")
        m.base = <uint8_t *>p
        m.slots = <uint8_t *>q
        m.super = <mm_super *>p
        m.hot = <mm_hot *>(m.base + 4096)
        m.desc = <mm_desc *>(m.base + 8192)
        m.ring = m.base + s.off_ring
        m.ring_bytes = s.ring_bytes
        m.pt = <uint32_t *>(m.base + s.off_pt)
        m.vis = <uint64_t *>(m.base + s.off_vis)
        m.xmap = <uint32_t *>(m.base + s.off_xmap)
        m.data = m.base + s.off_data
        m.map_bytes = s.map_bytes
        m.cap_units = s.cap_units
        m.cap_pages = s.cap_pages
        m.n_slots = s.n_slots
        m.n_snaps = s.n_snaps
        m.slot = <mm_slot *>(m.slots + 4096)
        m.snap = <uint64_t *>(m.slots + 4096 + s.n_slots * sizeof(mm_slot))
        m.owner = m.snap + s.n_snaps
        m.reserve = <mm_reserve *>(m.owner + s.n_snaps)
        m.durable = -1
        self.region_fd, self.slots_fd = fds
        self.ids = [(os.fstat(fd).st_dev, os.fstat(fd).st_ino) for fd in fds]
        m.slots_fd = fds[1]
        m.slots_dev, m.slots_ino = self.ids[1]
        self.mapped = True
        self.closed = False
        self.epoch = fork_epoch()

    # ---- this process

    def _fd(self, int which):
        """A descriptor of the region (0) or slots (1) file, sure to be ours even after os.closerange()."""
        fd = (self.region_fd, self.slots_fd)[which]
        with contextlib.suppress(OSError):
            st = os.fstat(fd)
            if (st.st_dev, st.st_ino) == self.ids[which]:
                return fd
        if self.directory is None:
            raise errors.OperationalError(f"{self.name!r}: its descriptor was closed by this program; a nameless region cannot be opened again")
        fd = os.open(os.path.join(self.directory, ("region", "slots")[which]), os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        st = os.fstat(fd)
        if (st.st_dev, st.st_ino) != self.ids[which]:
            os.close(fd)
            raise errors.OperationalError(f"region {self.name!r} was removed")
        if which:
            self.slots_fd = fd
            self.m.slots_fd = fd
        else:
            self.region_fd = fd
        return fd

    @contextlib.contextmanager
    def _attach_lock(self, byte=ATTACH_BYTE):
        path = f"/proc/self/fd/{self._fd(1)}"
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)     # an open file description of its own
        try:
            _lock_byte(fd, fcntl.F_WRLCK, byte, True)
            yield
        finally:
            os.close(fd)

    def _claim(self):
        cdef int st
        path = f"/proc/self/fd/{self._fd(1)}".encode()
        cdef const char *p = path
        with self._attach_lock():
            reap(&self.m)
            st = claim_slot(&self.m, p, &self.life)
        if st == MM_REFUSED:
            raise errors.OperationalError(f"region {self.name!r}: all {self.m.n_slots} process slots are taken")
        if st:
            raise errors.OperationalError(f"region {self.name!r}: cannot hold a slot: {os.strerror(errno.EIO)}")

    cdef int use(self) except -1:
        """Before every operation: the handle is open, and after fork() this process has a slot of its own."""
        if self.closed:
            raise errors.ProgrammingError(f"region {self.name!r} is closed")
        if self.epoch != fork_epoch():
            self.epoch = fork_epoch()
            self.life = NULL            # the parent's life was not inherited (MADV_DONTFORK)
            self.m.me = 0xffffffffU
            self.entries = []
            self.busy = 0
            self._claim()
        return 0

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
        if len(self.entries) < 64:
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

    # ---- growth

    cdef int grow_for(self, int status, uint64_t need, uint64_t units) except -1:
        """After a commit lacked frames (need of them) or extent space (need granules): grow, or raise RegionFull.

        units: how many there were when it was dropped; if there are more by now, somebody else has grown.
        """
        cdef mm_map *m = &self.m
        cdef uint32_t order = 0, u
        cdef uint64_t first, last, start, frames_to, cap = m.cap_units
        cdef mm_frame *f
        g = {"off_pt": m.super.off_pt, "off_vis": m.super.off_vis, "off_xmap": m.super.off_xmap, "off_data": m.super.off_data}
        with self._attach_lock(GROW_BYTE):
            first = m.hot.n_units
            if first != units:
                return 0
            step = max(GROW_UNITS, first // 4)
            if first + step > cap:
                step = cap - first
            if status == MM_NEED_EXTENT:
                while (<uint64_t>1 << order) < need:
                    order += 1
                align = max(1, (1 << order) // MM_PER_UNIT)
                start = _round(first, align)
                size = max(align, min(256, cap // 8 // align * align))
                last = start + size
                if last > cap:
                    last = start + align
                frames_to = start
            else:
                last = first + max(step, min(need + 64, cap - first))
                frames_to = last
                if last < first + need and last < cap:
                    last = frames_to = cap
            if last > cap or last == first or (status != MM_NEED_EXTENT and last - first < 1):
                what = f"{need * MM_GRANULE} bytes in one piece" if status == MM_NEED_EXTENT else f"{need * MM_UNIT} bytes of pages"
                raise errors.RegionFull(
                    f"region {self.name!r} is full: {what} needed, {m.hot.free_count * MM_UNIT} free of {cap * MM_UNIT} (max_bytes); "
                    "reads and deletes still work")
            Region._allocate(self._fd(0), g, first, last, self.directory or "memfd")
            for u in range(first, frames_to):
                f = mm_frame_at(m, u)
                f.link = u + 1
            take_lock(self, 60 * 1000000000)
            try:
                mm_fail(m, MM_FP_GROWING)
                begin(m)
                put64(m, &m.hot.n_units, last)
                if frames_to > first:
                    mm_frame_at(m, <uint32_t>frames_to - 1).link = <uint32_t>m.hot.free_head
                    put64(m, &m.hot.free_head, first)
                    put64(m, &m.hot.free_count, m.hot.free_count + frames_to - first)
                    put64(m, &m.hot.n_frames, m.hot.n_frames + frames_to - first)
                if last > frames_to:
                    put64(m, &m.hot.n_granules, m.hot.n_granules + (last - frames_to) * MM_PER_UNIT)
                    free_run(m, <uint32_t>(frames_to * MM_PER_UNIT), (last - frames_to) * MM_PER_UNIT)
                if seal(m, m.hot.commit_seq) == MM_OK:
                    roll_forward(m)
            finally:
                lock_release(m)
        return 0

    # ---- leaving

    def close(self):
        """Leave the region: free slot and snapshots, unmap. Idempotent. A thread that commits ends that first, one that waits gives up."""
        if self.closed:
            return
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
        for which, fd in enumerate((self.region_fd, self.slots_fd)):
            with contextlib.suppress(OSError):
                st = os.fstat(fd)
                if (st.st_dev, st.st_ino) == self.ids[which]:
                    os.close(fd)
        self.m.slots_fd = -1
        self._unmap()

    def _unmap(self):
        if self.mapped and self.busy == 0:
            self.mapped = False
            munmap(self.m.base, self.m.map_bytes + GUARD)
            munmap(self.m.slots, self.m.slots_bytes)
            free(self.m.buf.v)
            free(self.m.buf.hash)
            free(self.m.dirty)
            free(self.m.rec)
            free(self.m.work[0].p)
            free(self.m.work[1].p)
            free(self.m.scan)

    def __dealloc__(self):
        if self.mapped:
            if not self.closed and self.epoch == fork_epoch():
                release_slot(&self.m)
                if self.life != NULL:
                    munmap(self.life, 4096)
            munmap(self.m.base, self.m.map_bytes + GUARD)
            munmap(self.m.slots, self.m.slots_bytes)
            free(self.m.buf.v)
            free(self.m.buf.hash)
            free(self.m.dirty)
            free(self.m.rec)
            free(self.m.work[0].p)
            free(self.m.work[1].p)
            free(self.m.scan)

    # ---- looking

    def stats(self) -> dict:
        """Numbers of the region: bytes, frames, lists, commit. A loose reading, not one moment's."""
        self.use()
        h = self.m.hot
        return {
            "commit": h.commit_seq, "bytes": h.n_units * MM_UNIT, "max_bytes": self.m.cap_units * MM_UNIT,
            "frames": h.n_frames, "free_frames": h.free_count, "limbo_frames": h.limbo_count, "pinned_frames": h.pinned_count,
            "pages": h.page_high - 1 - h.page_free_count, "extent_bytes": h.n_granules * MM_GRANULE, "extent_free_bytes": h.x_free * MM_GRANULE,
            "log_bytes": h.ring_head - h.ring_tail, "log_first_commit": h.tail_commit, "trees": h.n_trees,
            "evictions": h.evictions, "expirations": h.expirations,
        }

    def processes(self) -> list:
        """One dict for each attached process: slot, pid (as its own namespace numbers it), alive, since, commits, what it does."""
        self.use()
        out = []
        for i in range(mm_ld32(&(<mm_slots_head *>self.m.slots).slots_high)):
            s = &self.m.slot[i]
            if mm_ld32(&s.state) == MM_SLOT_LIVE:
                alive = i == self.m.me or mm_life_held(self._fd(1), self.m.slots_dev, self.m.slots_ino, i) != 0
                what = bytes((<char *>s.what)[:sizeof(s.what)]).split(b"\0")[0].decode("utf-8", "replace")
                out.append({"slot": i, "generation": s.gen, "pid": s.pid, "alive": alive, "since": s.start_ns / 1e9,
                            "commits": s.commits, "conflicts": s.conflicts, "what": what})
        return out

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
        self._fd(1)
        return bool(slot_alive(&self.m, slot))

    @property
    def uuid(self) -> bytes:
        return (<char *>self.m.super.uuid)[:16]

    @property
    def incarnation(self) -> int:
        return self.m.super.incarnation


def remove(str name, str region_dir=None):
    """Take a named region away. Processes that are attached keep it until they leave; nobody can attach any more."""
    user = user_directory(region_dir)
    path = os.path.join(user, name)
    dead = os.path.join(user, f".dead-{os.getpid()}-{secrets.token_hex(6)}")
    try:
        os.rename(path, dead)
    except FileNotFoundError:
        raise errors.RegionError(f"there is no region {name!r} in {user!r}") from None
    shutil.rmtree(dead)
    with contextlib.suppress(OSError):
        os.rmdir(user)


def names(str region_dir=None) -> list:
    """The names of this user's regions, sorted."""
    user = user_directory(region_dir)
    try:
        return sorted(n for n in os.listdir(user) if not n.startswith("."))
    except FileNotFoundError:
        return []


def sweep(str region_dir=None):
    """Remove what killed creators and removers left. A creator that lives holds byte 0 of its slots file."""
    user = user_directory(region_dir)
    try:
        left = [n for n in os.listdir(user) if n.startswith((".new-", ".dead-"))]
    except FileNotFoundError:
        return
    for n in left:
        path = os.path.join(user, n)
        with contextlib.suppress(OSError):
            if time.time() - os.lstat(path).st_mtime < 10:
                continue
            if n.startswith(".new-"):
                with contextlib.suppress(FileNotFoundError):
                    fd = os.open(os.path.join(path, "slots"), os.O_RDWR | os.O_CLOEXEC)
                    try:
                        _lock_byte(fd, fcntl.F_WRLCK, 0, False)
                    finally:
                        os.close(fd)
            shutil.rmtree(path, ignore_errors=True)
