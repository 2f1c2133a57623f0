"""What the bytes of a region lie in: a file of a tmpfs, a memfd, or a System V segment. Opened here, mapped, and backed with memory.

LAYOUT      A file database, shm: and :memory: have two files, region and slots. sysv: has its slots in a file and the region in a
            segment, which the file `segment` beside the slots names (SEGMENT, docs/format.md).
INVARIANTS  (1) Memory is allocated before it is touched, so that a tmpfs without room is RegionFull and never SIGBUS: fallocate for files,
                MADV_POPULATE_WRITE for segments.
            (2) The file `segment` names the key before a segment of that key exists, so whoever finds the file of a dead creator finds
                the segment, too. A segment is somebody else's unless its owner, key and size are those that the file says.
FORK        A child has the mapping. A program may close all descriptors that it does not know (daemons do): fd() notices and opens anew.
"""
from libc.stdint cimport uint8_t, uint64_t
from posix.mman cimport MAP_ANONYMOUS, MAP_FAILED, MAP_FIXED, MAP_PRIVATE, MAP_SHARED, PROT_NONE, PROT_READ, PROT_WRITE, madvise, mmap, munmap
from posix.types cimport gid_t, mode_t, uid_t
from memora.engine.sync cimport mm_add32

import contextlib
import errno
import os
import secrets
import struct

from memora import errors

cdef extern from "<sys/mman.h>" nogil:
    int MAP_NORESERVE

cdef enum:
    HUGE = 2 << 20
    MADV_COLLAPSE = 25          # Linux 6.1; headers may be older


cdef uint64_t gather(uint8_t *p, uint64_t n) noexcept nogil:
    """Have the whole 2 MiB pieces among n mapped bytes copied into huge pages; how many bytes that are."""
    cdef uint64_t done = 0, skip = -<uint64_t>p & (HUGE - 1)
    while skip + HUGE <= n:
        if madvise(p + skip, HUGE, MADV_COLLAPSE) == 0:
            done += HUGE
        skip += HUGE
    return done

cdef extern from "<sys/shm.h>" nogil:
    ctypedef int key_t
    struct ipc_perm:
        key_t __key
        uid_t uid
        gid_t gid
        mode_t mode
    struct shmid_ds:
        ipc_perm shm_perm
        size_t shm_segsz
    int IPC_CREAT, IPC_EXCL, IPC_RMID, IPC_SET, IPC_STAT, SHM_RDONLY
    int shmget(key_t key, size_t size, int flags)
    void *shmat(int id, const void *address, int flags)
    int shmdt(const void *address)
    int shmctl(int id, int command, shmid_ds *buf)

cdef extern from "<errno.h>" nogil:
    int c_errno "errno"

cdef enum:
    POPULATE_WRITE = 23         # MADV_POPULATE_WRITE, Linux 5.14

# magic, key, id (-1: not made yet), bytes
SEGMENT = struct.Struct("<8siiQ")
SEGMENT_MAGIC = b"MEMSYSV\0"
NO_ROOM = (errno.ENOSPC, errno.ENOMEM, errno.EDQUOT, errno.EFBIG, errno.EFAULT)


cdef class Backing:
    """What the two have in common."""

    cdef void *map(self, size_t size, bint writable) except NULL:
        raise NotImplementedError


cdef class File(Backing):
    """An open file of a region; directory None: a memfd."""

    def __init__(self, directory, name, fd, writable=True):
        self.directory, self.name, self.opened, self.writable = directory, name, fd, writable
        st = os.fstat(fd)
        self.dev, self.ino = st.st_dev, st.st_ino

    @staticmethod
    def create(directory, name):
        """A new file of a directory that only this process knows."""
        return File(directory, name, os.open(os.path.join(directory, name), os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))

    @staticmethod
    def memory(name):
        return File(None, name, os.memfd_create("memora-" + name, os.MFD_CLOEXEC))

    @property
    def where(self) -> str:
        return self.directory or "memfd"

    @property
    def size(self) -> int:
        return os.fstat(self.fd()).st_size

    def fd(self) -> int:
        """A descriptor, sure to be of this file even after os.closerange()."""
        if self.is_ours():
            return self.opened
        if self.directory is None:
            raise errors.OperationalError("a region's descriptor was closed by this program, and a nameless region cannot be opened again")
        flags = (os.O_RDWR if self.writable else os.O_RDONLY) | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            fd = os.open(os.path.join(self.directory, self.name), flags)
        except FileNotFoundError:
            raise errors.OperationalError(f"region {self.directory!r} was removed") from None
        st = os.fstat(fd)
        if (st.st_dev, st.st_ino) != (self.dev, self.ino):
            os.close(fd)
            raise errors.OperationalError(f"region {self.directory!r} was removed")
        self.opened = fd
        return fd

    cdef bint is_ours(self):
        with contextlib.suppress(OSError):
            st = os.fstat(self.opened)
            return (st.st_dev, st.st_ino) == (self.dev, self.ino)
        return False

    def head(self, n) -> bytes:
        """The first n bytes, fewer if the file is shorter."""
        return os.pread(self.fd(), n, 0)

    def reserve(self, n):
        """The file is n bytes long from here on; what is not allocated is a hole: a damaged count leads into zeros, never to SIGBUS."""
        os.ftruncate(self.fd(), n)

    def room(self) -> int:
        """Bytes of its file system, or of the machine."""
        room = os.fstatvfs(self.fd())
        return room.f_blocks * room.f_frsize or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")

    cdef void *map(self, size_t size, bint writable) except NULL:
        cdef int prot = PROT_READ | PROT_WRITE if writable else PROT_READ, flags = MAP_SHARED | MAP_NORESERVE, fd = self.fd()
        cdef size_t whole = size + HUGE, before
        cdef uint8_t *at
        cdef void *p
        if size < HUGE:
            p = mmap(NULL, size, prot, flags, fd, 0)
        else:                           # at a place where the kernel can use huge pages
            p = mmap(NULL, whole, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
            if p != MAP_FAILED:
                at = <uint8_t *>p
                before = -<size_t>at & (HUGE - 1)
                p = mmap(at + before, size, prot, flags | MAP_FIXED, fd, 0)
                if p == MAP_FAILED:
                    munmap(at, whole)
                else:
                    if before:
                        munmap(at, before)
                    size = (size + 4095) & ~<size_t>4095
                    munmap(at + before + size, whole - before - size)
        if p == MAP_FAILED:
            raise errors.RegionError(f"cannot map {size} bytes of {self.where!r}: address space is limited; give a smaller max_bytes")
        return p

    def allocate(self, uint64_t offset, uint64_t length, doing):
        """Back a part with memory, or raise RegionFull."""
        try:
            os.posix_fallocate(self.fd(), offset, length)
        except OSError as e:
            if e.errno not in NO_ROOM:
                raise
            room = os.fstatvfs(self.fd())
            raise errors.RegionFull(
                f"{doing}: {length} bytes needed, {room.f_bavail * room.f_frsize} free on the file system of {self.where!r} "
                f"({room.f_blocks * room.f_frsize} bytes); in a container give more with --shm-size, or share the host's with --ipc=host") from None

    def share(self, mode, gid):
        """Give the file its mode and group, whatever the umask says."""
        if gid is not None:
            os.fchown(self.fd(), -1, gid)
        os.fchmod(self.fd(), mode)

    def close(self):
        if self.is_ours():
            os.close(self.opened)
        self.opened = -1

    def __del__(self):
        try:
            self.close()
        except (NameError, AttributeError):
            return          # the interpreter ends and this module's names are gone: the kernel closes


cdef class Segment(Backing):
    """A System V segment of fixed size, and the file that names it."""

    def __init__(self, directory, key, id, size):
        self.directory, self.key, self.id, self.size = directory, key, id, size

    @staticmethod
    def create(directory, uint64_t size):
        """A new segment. RegionFull: the kernel's limits do not allow it."""
        cdef int id
        cdef key_t key
        fd = os.open(os.path.join(directory, "segment"), os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            while True:
                key = secrets.randbelow(0x7ffffffe) + 1
                os.pwrite(fd, SEGMENT.pack(SEGMENT_MAGIC, key, -1, size), 0)
                id = shmget(key, size, IPC_CREAT | IPC_EXCL | 0o600)
                if id >= 0:
                    break
                if c_errno != errno.EEXIST:
                    raise no_segment(size, c_errno)
            os.pwrite(fd, SEGMENT.pack(SEGMENT_MAGIC, key, id, size), 0)
        finally:
            os.close(fd)
        return Segment(directory, key, id, size)

    @staticmethod
    def open(directory, fd, owner):
        """The segment that an open file `segment` names; owner: the user that it must belong to."""
        data = os.pread(fd, SEGMENT.size, 0)
        if len(data) < SEGMENT.size or data[:8] != SEGMENT_MAGIC:
            raise errors.RegionError(f"{directory!r} is no region: its file 'segment' begins with {data[:8]!r}")
        _, key, id, size = SEGMENT.unpack(data)
        if not is_segment(id, key, size, owner):
            raise errors.RegionError(f"{directory!r}: its System V segment (key {key:#x}, {size} bytes, user {owner}) does not exist; it was removed, "
                                     "or belongs to another IPC namespace (containers share one with --ipc=host)")
        return Segment(directory, key, id, size)

    @property
    def where(self) -> str:
        return f"System V segment {self.key:#x}"

    def head(self, n) -> bytes:
        cdef void *p = shmat(self.id, NULL, SHM_RDONLY)
        if <size_t>p == <size_t>-1:
            raise errors.RegionError(f"{self.directory!r}: cannot attach to its {self.where}: {os.strerror(c_errno)}")
        try:
            return (<char *>p)[:min(n, self.size)]
        finally:
            shmdt(p)

    def reserve(self, n):
        """Nothing to do: a segment has its size from the beginning."""

    def room(self) -> int:
        return self.size

    cdef void *map(self, size_t size, bint writable) except NULL:
        cdef void *p = shmat(self.id, NULL, 0 if writable else SHM_RDONLY)
        if <size_t>p == <size_t>-1:
            raise errors.RegionError(f"{self.directory!r}: cannot attach to its {self.where}: {os.strerror(c_errno)}")
        self.at = <uint8_t *>p
        return p

    def allocate(self, uint64_t offset, uint64_t length, doing):
        """Back a part with memory, or raise RegionFull."""
        cdef uint64_t low = offset // 4096 * 4096, i, n = offset + length - low
        if madvise(self.at + low, n, POPULATE_WRITE) == 0:
            return
        if c_errno != errno.EINVAL:
            raise errors.RegionFull(f"{doing}: {length} bytes needed, and the machine or container has no memory for them ({os.strerror(c_errno)}); "
                                    "in a container give more with --memory")
        for i in range(0, n, 4096):                 # an older kernel
            mm_add32(self.at + low + i, 0)

    def share(self, mode, gid):
        cdef shmid_ds d
        if shmctl(self.id, IPC_STAT, &d):
            raise OSError(c_errno, os.strerror(c_errno), self.where)
        d.shm_perm.mode = mode
        if gid is not None:
            d.shm_perm.gid = gid
        if shmctl(self.id, IPC_SET, &d):
            raise OSError(c_errno, os.strerror(c_errno), self.where)
        path = os.path.join(self.directory, "segment")
        if gid is not None:
            os.chown(path, -1, gid, follow_symlinks=False)
        os.chmod(path, mode & 0o644)

    def close(self):
        """Nothing to do: the mapping is what holds a segment."""


cdef bint is_segment(int id, int key, uint64_t size, owner):
    cdef shmid_ds d
    return id >= 0 and shmctl(id, IPC_STAT, &d) == 0 and d.shm_perm.__key == key and d.shm_segsz == size and d.shm_perm.uid == owner


def remove_segment(directory):
    """Take away the segment that the file `segment` of a directory names, if it has one. Whoever is attached keeps it."""
    cdef int id
    try:
        with open(os.path.join(directory, "segment"), "rb") as f:
            data = f.read(SEGMENT.size)
    except FileNotFoundError:
        return
    if len(data) < SEGMENT.size or data[:8] != SEGMENT_MAGIC:
        return
    _, key, id, size = SEGMENT.unpack(data)
    if id < 0:                                      # the creator died before it could say the number
        id = shmget(key, 0, 0)
    if is_segment(id, key, size, os.getuid()):
        shmctl(id, IPC_RMID, NULL)


cdef no_segment(uint64_t size, int code):
    """Why the kernel refused a segment: its limits, and what is in use."""
    said = {name: _number(f"/proc/sys/kernel/{name}") for name in ("shmmax", "shmall", "shmmni")}
    page = os.sysconf("SC_PAGE_SIZE")
    used = 0
    with open("/proc/sysvipc/shm") as f:
        n = 0
        for n, line in enumerate(f):
            if n:
                used += (int(line.split()[3]) + page - 1) // page
    if code in (errno.EINVAL, errno.ENOSPC, errno.ENOMEM):
        return errors.RegionFull(
            f"create region: a System V segment of {size} bytes needed ({os.strerror(code)}); kernel.shmmax allows {said['shmmax']} bytes in one, "
            f"kernel.shmall {max(0, said['shmall'] - used) * page} more bytes in all, kernel.shmmni {said['shmmni']} segments of which {n} exist: "
            "raise them with sysctl, or give a smaller max_bytes")
    return OSError(code, os.strerror(code))


def _number(path):
    with open(path) as f:
        return int(f.read())
