"""Where regions with names lie, who may get at them, and who tidies up.

LAYOUT      <base>/memora-<uid>/<entry>/, base = /dev/shm or region_dir; entry = NAME for shm:NAME, sysv:NAME for sysv:NAME. In it `region`
            (or `segment`, which names a System V segment) and `slots`.
ACCESS      The user's directory must be a directory of that user, no link, and what lies in it must be the user's, too. It is 0700 and files
            are 0600; a region made with mode= or group= is opened to others by itself: its files get that mode, its directory lets
            those pass who may read, and the user's directory becomes 0711, so that nobody else can list or make anything there. Others
            name the owner when they open; without that only one's own directory is looked at.
CREATION    All files are made in .new-<pid>-<random>, and the directory is then renamed to its entry, which fails if that is taken: nobody ever
            sees half a region. Removing renames to .dead-<pid>-<random> first.
SWEEP       A creator holds a shared flock on the user's directory. Who opens a region and gets it exclusively knows that no creator is
            at work: every .new- and .dead- was left by a dead one. Else only old ones count, whose slot 0 nobody holds.
"""
import contextlib
import errno
import fcntl
import grp
import os
import pwd
import secrets
import shutil
import stat
import struct
import time

from memora import errors
from memora.engine.backing import remove_segment

KINDS = ("shm", "sysv")
PRIVATE = 0o600
YOUNG_S = 10            # leftovers of creators are younger for so long, where one is at work
PATIENCE_S = 1.0        # a sweeper that was stopped keeps creators no longer than this
GETLK, SETLK, SETLKW = 36, 37, 38       # F_OFD_GETLK, F_OFD_SETLK, F_OFD_SETLKW


def lock_byte(fd, kind, byte, wait):
    """An open-file-description lock on one byte."""
    # struct flock: l_type, l_whence, l_start, l_len, l_pid
    fcntl.fcntl(fd, SETLKW if wait else SETLK, struct.pack("hhqqi4x", kind, os.SEEK_SET, byte, 1, 0))


def is_locked(fd, byte) -> bool:
    """Does anybody else hold a lock on the byte? A descriptor that may only be read will do."""
    asked = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, byte, 1, 0)
    return struct.unpack_from("h", fcntl.fcntl(fd, GETLK, asked))[0] != fcntl.F_UNLCK


# ---------------------------------------------------------------------------------------------- names

def split(name: str) -> tuple:
    """("shm", "orders") of "shm:orders". ProgrammingError: it cannot be a region's name."""
    kind, _, short = name.partition(":")
    if kind not in KINDS:
        raise errors.NotSupportedError(f"{name!r}: regions with a name are 'shm:NAME' and 'sysv:NAME'")
    if not short or len(short) > 100 or not all(c.isalnum() or c in "-_." for c in short) or short[0] == "." or not short.isascii():
        raise errors.ProgrammingError(f"{name!r} cannot be the name of a region: 1 to 100 ASCII letters, digits, '-', '_', '.' behind {kind + ':'!r}")
    return kind, short


def entry(kind: str, name: str) -> str:
    """The directory of a region within the user's."""
    return name if kind == "shm" else f"{kind}:{name}"


def user_id(owner) -> int:
    """The number of a user given by name or number; None: one's own."""
    if owner is None or isinstance(owner, int):
        return os.getuid() if owner is None else owner
    try:
        return pwd.getpwnam(owner).pw_uid
    except KeyError:
        raise errors.ProgrammingError(f"owner={owner!r}: there is no such user") from None


def group_id(group):
    """The number of a group given by name or number; None stays None."""
    if group is None or isinstance(group, int):
        return group
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise errors.ProgrammingError(f"group={group!r}: there is no such group") from None


def check_mode(mode: int) -> int:
    """A mode for files that the owner can use: 0o600 with rights to read, or to read and write, for group and others."""
    if not isinstance(mode, int) or mode & ~0o666 or mode & 0o600 != 0o600 or mode & 0o060 == 0o020 or mode & 0o006 == 0o002:
        raise errors.ProgrammingError(f"mode={mode:#o}: a region needs 0o600 for its owner, and may have 4 or 6 for its group and for others")
    return mode


def passing(mode: int) -> int:
    """The mode of a directory whose files have this mode: who may read them may pass, and who may write them may make more."""
    return mode | (0o100 if mode & 0o400 else 0) | (0o010 if mode & 0o040 else 0) | (0o001 if mode & 0o004 else 0)


def give(fd, mode: int, gid):
    """Give an open file or directory its mode and group, whatever the umask says."""
    st = os.fstat(fd)
    if gid is not None and st.st_gid != gid:
        os.fchown(fd, -1, gid)
    if stat.S_IMODE(st.st_mode) & 0o777 != mode:
        os.fchmod(fd, mode)


def access_of(fd) -> tuple:
    """(mode, group) that an open lock file gives to all files of its database, and to its region. Group None: it has no more rights than others."""
    st = os.fstat(fd)
    mode = st.st_mode & 0o666 | 0o600
    mode &= ~(0o020 if not mode & 0o040 else 0) & ~(0o002 if not mode & 0o004 else 0)
    return mode, st.st_gid if mode & 0o070 != (mode & 0o007) << 3 else None


def share_alike(fd, path):
    """Give a new file of the database at `path` the mode and group of its lock file."""
    with contextlib.suppress(FileNotFoundError):        # gone: what follows finds that the files were replaced
        like = os.open(path + "-lock", os.O_RDONLY | os.O_CLOEXEC)
        try:
            give(fd, *access_of(like))
        finally:
            os.close(like)


# ---------------------------------------------------------------------------------------------- directories

def user_directory(region_dir=None, create=False, owner=None) -> str:
    """The directory that holds a user's regions. Refuses one that is a link, belongs to somebody else, or lets others write."""
    uid = user_id(owner)
    path = os.path.join(region_dir or "/dev/shm", f"memora-{uid}")
    if create:
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o700)
    try:
        st = os.lstat(path)
    except FileNotFoundError:
        return path
    except NotADirectoryError:
        raise errors.RegionError(f"{region_dir!r} is not a directory") from None
    if not stat.S_ISDIR(st.st_mode) or st.st_uid != uid:
        raise errors.RegionError(f"{path!r} is not a directory of user {uid}: refused")
    if st.st_mode & 0o022:
        raise errors.RegionError(f"{path!r} has mode {stat.S_IMODE(st.st_mode):#o}: others can write in it: refused")
    return path


def open_directory(path):
    """A descriptor of a region's directory. FileNotFoundError: there is none."""
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except (FileNotFoundError, PermissionError):
        raise
    except OSError as e:
        raise errors.RegionError(f"{path!r} is no region: {e.strerror}") from None


def open_file(directory, path, name, owner, flags):
    """A descriptor of a file in an open directory, which must belong to the owner. FileNotFoundError: the region is being removed."""
    try:
        fd = os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    except FileNotFoundError:
        if not _is_at(path, directory):
            raise
        raise errors.RegionError(f"{path!r} is no region: its file {name!r} is missing") from None
    except PermissionError:
        raise
    except OSError as e:
        raise errors.RegionError(f"{path!r} is no region: its file {name!r}: {e.strerror}") from None
    uid = os.fstat(fd).st_uid
    if uid != owner:
        os.close(fd)
        raise errors.RegionError(f"{path!r}: {name!r} belongs to user {uid}")
    return fd


def _is_at(path, fd):
    """Is the open directory still the one of that name?"""
    try:
        return os.path.samestat(os.lstat(path), os.fstat(fd))
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def creating(region_dir, final, mode=PRIVATE, gid=None):
    """A new directory, empty; call keep() when all is in it, which gives it its name. Else it goes, and all that is in it.

    FileExistsError from keep(): the name is taken.
    """
    for left in range(100, -1, -1):
        user = user_directory(region_dir, create=True)
        path = os.path.join(user, f".new-{os.getpid()}-{secrets.token_hex(6)}")
        try:
            lock = os.open(user, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                _flock_shared(lock)
                os.mkdir(path, 0o700)
                break
            except BaseException:
                os.close(lock)
                raise
        except FileNotFoundError:       # somebody who removed the last region took the empty directory away
            if left == 0:
                raise
    place = os.path.join(user, final)

    def keep():
        if mode != PRIVATE or gid is not None:
            if gid is not None:
                os.chown(path, -1, gid)
            # who may read its files may pass through, nobody else
            os.chmod(path, 0o700 | (0o050 if mode & 0o040 else 0) | (0o005 if mode & 0o004 else 0))
            os.chmod(user, 0o711)
        try:
            os.rename(path, place)
        except OSError as e:
            if e.errno in (errno.ENOTEMPTY, errno.EEXIST):
                raise FileExistsError(place) from None
            raise
        return place
    try:
        yield path, keep
    except BaseException:
        remove_segment(path)
        shutil.rmtree(path, ignore_errors=True)
        with contextlib.suppress(OSError):
            os.rmdir(user)
        raise
    finally:
        os.close(lock)


def _flock_shared(fd):
    until = time.monotonic() + PATIENCE_S
    while True:
        with contextlib.suppress(BlockingIOError):
            return fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        if time.monotonic() > until:
            return None
        time.sleep(0.001)


# ---------------------------------------------------------------------------------------------- looking, removing, tidying up

def names(region_dir=None, kind="shm") -> list:
    """The names of this user's regions of one kind, sorted."""
    user = user_directory(region_dir)
    try:
        entries = os.listdir(user)
    except FileNotFoundError:
        return []
    if kind == "shm":
        return sorted(n for n in entries if not n.startswith(".") and ":" not in n)
    return sorted(n.partition(":")[2] for n in entries if n.startswith(kind + ":"))


def remove(name, region_dir=None, kind="shm"):
    """Take a named region away. Processes that are attached keep it until they leave; nobody can attach any more."""
    user = user_directory(region_dir)
    dead = os.path.join(user, f".dead-{os.getpid()}-{secrets.token_hex(6)}")
    try:
        os.rename(os.path.join(user, entry(kind, name)), dead)
    except FileNotFoundError:
        raise errors.RegionError(f"there is no region {name!r} in {user!r}") from None
    _take_away(user, dead)


def _take_away(user, path):
    remove_segment(path)
    shutil.rmtree(path, ignore_errors=True)
    with contextlib.suppress(OSError):
        os.rmdir(user)


def sweep(region_dir=None):
    """Remove what killed creators and removers left."""
    user = user_directory(region_dir)
    try:
        lock = os.open(user, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        alone = True
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            alone = False
        left = [n for n in os.listdir(lock) if n.startswith((".new-", ".dead-"))]
    finally:
        os.close(lock)                  # a creator that begins now makes a name that is not in the list
    for n in left:
        path = os.path.join(user, n)
        with contextlib.suppress(OSError):
            if not alone and time.time() - os.lstat(path).st_mtime < YOUNG_S:
                continue
            if n.startswith(".new-"):
                with contextlib.suppress(FileNotFoundError):
                    fd = os.open(os.path.join(path, "slots"), os.O_RDWR | os.O_CLOEXEC)
                    try:
                        lock_byte(fd, fcntl.F_WRLCK, 0, False)
                    finally:
                        os.close(fd)
            _take_away(user, path)


# ---------------------------------------------------------------------------------------------- how large

def default_cap(room: int) -> int:
    """How large a region may grow if nobody says: half of its file system, or of this container's memory if that is less."""
    limit = memory_limit()
    return max(min(room, limit or room) // 2, 1 << 20)


def memory_limit(proc="/proc/self/cgroup", mount="/sys/fs/cgroup"):
    """The memory limit of this process's control group and those above it, in bytes; None: there is none."""
    found = []
    try:
        with open(proc) as f:
            groups = [line.rstrip("\n").split(":", 2) for line in f]
    except OSError:
        return None
    for _, controllers, path in groups:
        if controllers in ("", "memory"):
            base, name = (mount, "memory.max") if controllers == "" else (os.path.join(mount, "memory"), "memory.limit_in_bytes")
            parts = [p for p in path.split("/") if p]
            for n in range(len(parts), -1, -1):
                with contextlib.suppress(OSError, ValueError), open(os.path.join(base, *parts[:n], name)) as f:
                    found.append(int(f.read()))
    found = [n for n in found if 0 < n < 1 << 60]       # version 1 says "none" by a huge number
    return min(found, default=None)
