"""The lock file of a file database: who the database is, who is attached, who opens or leaves, who writes a checkpoint.

LAYOUT      app.db-lock, created once and never renamed: IDENTITY, then its crc32c. `place` tells in which directory of which tmpfs
            the region lies, `owner` in whose; `clean` is 1 from the last clean close to the next opening.
ACCESS      Its mode and group are those of all files of the database, and of its region (places.access_of).
LOCKS       All are open-file-description locks, which the kernel drops with their holder.
            byte 0  shared, held by a mapping, by every attached process
            byte 1  exclusive, while somebody opens or leaves; shared, while a read-only process opens
            byte 2  exclusive, while somebody writes a checkpoint. One that does not get on is passed by (checkpointing()): what
                    keeps two checkpoints apart is that each removes the other's temporary file, so that only one can be renamed.
FORK        A child closes the copies of locked descriptors that it inherits, or its parent's lock would outlive the parent.
"""
import contextlib
import errno
import fcntl
import os
import struct
import time

from memora import errors
from memora.engine import places
from memora.engine.checkpoint import crc32c, temporaries
from memora.engine.places import lock_byte

# magic, uuid, incarnation, boot id, place of the region, own inode, clean, owner of the region; crc32c behind it
IDENTITY = struct.Struct("<8s16sQ16sQQII")
IDENTITY_MAGIC = b"MEMOLOCK"
ATTACHED, OPENING, CHECKPOINT = 0, 1, 2
STALL_S = 3.0           # a checkpoint whose file has not grown for so long is passed by

_held = set()           # descriptors with locks, for a forked child to close


def _close_inherited():
    for fd in list(_held):
        os.close(fd)
    _held.clear()


os.register_at_fork(after_in_child=_close_inherited)


def place_of(region_dir=None) -> int:
    """A number for the directory that holds the users' regions: its device and inode."""
    st = os.stat(region_dir or "/dev/shm")
    return (st.st_dev ^ (st.st_ino << 20)) & 0xffffffffffffffff


class Identity:
    """What the lock file says. Changed only by the holder of byte 1. made: (mode, group) for one that does not exist yet; None: it must."""

    def __init__(self, path, made=(places.PRIVATE, None), read_only=False):
        self.path = path + "-lock"
        self.read_only = read_only
        while True:
            with contextlib.suppress(FileNotFoundError):
                self.fd = os.open(self.path, (os.O_RDONLY if read_only else os.O_RDWR) | os.O_CLOEXEC)
                break
            if made is None or read_only:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self.path)
            with contextlib.suppress(FileExistsError):
                self.fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                places.give(self.fd, *made)
                break
        st = os.fstat(self.fd)
        self.dev, self.ino = st.st_dev, st.st_ino
        self.mode, self.gid = places.access_of(self.fd)
        self.uuid, self.incarnation, self.boot, self.place, self.clean, self.owner, self.known = b"", 0, b"", 0, 1, os.getuid(), False

    def read(self):
        """Take over what is written; `known` stays false in a new lock file and in one that was copied with its database."""
        data = os.pread(self.fd, IDENTITY.size + 4, 0)
        if len(data) < IDENTITY.size + 4:
            return
        body, crc = data[:IDENTITY.size], int.from_bytes(data[IDENTITY.size:], "little")
        magic, uuid, incarnation, boot, place, ino, clean, owner = IDENTITY.unpack(body)
        if magic != IDENTITY_MAGIC or crc != crc32c(body):
            raise errors.CorruptionError(f"{self.path!r} is damaged: its checksum is {crc:#x}, its content says {crc32c(body):#x}; "
                                         "remove it if no process has the database open")
        if ino != self.ino:
            return
        self.uuid, self.incarnation, self.boot, self.place, self.clean, self.owner, self.known = uuid, incarnation, boot, place, clean, owner, True

    def write(self):
        body = IDENTITY.pack(IDENTITY_MAGIC, self.uuid, self.incarnation, self.boot, self.place, self.ino, self.clean, self.owner)
        os.pwrite(self.fd, body + crc32c(body).to_bytes(4, "little"), 0)
        os.fsync(self.fd)

    def others(self) -> bool:
        """Is any process attached?"""
        fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return places.is_locked(fd, ATTACHED)
        finally:
            os.close(fd)


def _unlock(fd, byte):
    """Drop a lock at once, also where a forked child has a copy of the descriptor."""
    _held.discard(fd)
    with contextlib.suppress(OSError):
        lock_byte(fd, fcntl.F_UNLCK, byte, False)
    os.close(fd)


@contextlib.contextmanager
def opening(path, made=(places.PRIVATE, None), read_only=False):
    """The identity of a database, with byte 1 held: nobody else opens, builds or leaves meanwhile. Arguments as of Identity."""
    identity = Identity(path, made, read_only)
    _held.add(identity.fd)
    try:
        lock_byte(identity.fd, fcntl.F_RDLCK if read_only else fcntl.F_WRLCK, OPENING, True)
        identity.read()
        yield identity
    finally:
        _unlock(identity.fd, OPENING)


def holds(path, dev, ino, uuid, incarnation) -> bool:
    """Is the lock file at path still this file, with this uuid and incarnation?"""
    try:
        with open(path + "-lock", "rb") as f:
            st = os.fstat(f.fileno())
            data = f.read(IDENTITY.size)
    except FileNotFoundError:
        return False
    return (st.st_dev, st.st_ino) == (dev, ino) and len(data) == IDENTITY.size and IDENTITY.unpack(data)[1:3] == (uuid, incarnation)


# ---------------------------------------------------------------------------------------------- checkpoints

def _sizes(path):
    sizes = []
    for n in temporaries(path):
        with contextlib.suppress(FileNotFoundError):
            sizes.append((n, os.stat(n).st_size))
    return sorted(sizes)


@contextlib.contextmanager
def checkpointing(path, wait=True):
    """Byte 2, or what comes of it: yields False if it is held and wait is false. A holder that does not get on is passed by."""
    fd = os.open(path + "-lock", os.O_RDWR | os.O_CLOEXEC)
    _held.add(fd)
    try:
        seen, since, mine = None, time.monotonic(), False
        while not mine:
            try:
                lock_byte(fd, fcntl.F_WRLCK, CHECKPOINT, False)
                mine = True
            except (BlockingIOError, PermissionError):
                if not wait:
                    break
                now = _sizes(path)
                if now != seen:
                    seen, since = now, time.monotonic()
                mine = time.monotonic() - since > STALL_S
                time.sleep(0.002)
        yield mine
    finally:
        _unlock(fd, CHECKPOINT)
