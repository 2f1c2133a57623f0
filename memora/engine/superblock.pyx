"""The superblock: the first 4 KiB of a region, which say what it is. Written once, judged before anything else is believed.

LAYOUT      mm_super, csrc/layout.h. geometry() gives the places of the parts for a cap, and an attaching process recomputes them.
INVARIANTS  (1) Nothing in it changes after the region has its name, but `clean`.
VERSIONS    Another major version is refused. A bit of feature_incompat that is not known is refused, one of feature_ro_compat refuses
            whoever would write; the minor version tells what is there and refuses nobody.
"""
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset
from memora.engine.btree cimport Path, locate, put_at
from memora.engine.descriptor cimport begin, roll_forward, seal
from memora.engine.frames cimport finish
from memora.engine.layout cimport *
from memora.engine.sync cimport *

import struct

from memora import errors

INCOMPAT_KNOWN = 0
RO_COMPAT_KNOWN = 0
SLOTS_MAGIC = b"MEMSLOTS"
SNAPSHOT_SHARE = 4          # the budget for what snapshots keep is this part of the cap, if nothing is said
MOST_SNAPS = 1 << 20        # as many as a ticket can name (MM_TICKET_ENTRY)


def boot_id() -> bytes:
    """The kernel's random id of this boot, 16 bytes."""
    with open("/proc/sys/kernel/random/boot_id") as f:
        return bytes.fromhex(f.read().strip().replace("-", ""))


def _round(n, to):
    return (n + to - 1) // to * to


def geometry(max_bytes, ring_bytes, slots, snaps, snapshot_bytes=None, snapshot_age_s=0.0) -> dict:
    """A region whose data may grow to about max_bytes: a dict of mm_super fields, its offsets and the budget of its snapshots."""
    if not 0 < snaps < MOST_SNAPS:
        raise ValueError(f"snaps must be between 1 and {MOST_SNAPS - 1}, not {snaps}")
    ring = _round(ring_bytes, 4096)
    units = max(64, (max_bytes - 24576 - ring) * 4096 // (4096 + 4 + 8 + 16) // 4096)
    g = {"ring_bytes": ring, "cap_units": units, "cap_pages": units, "n_slots": slots, "n_snaps": snaps}
    g["snapshot_bytes"] = units * 4096 // SNAPSHOT_SHARE if snapshot_bytes is None else snapshot_bytes
    g["snapshot_age_ns"] = int(snapshot_age_s * 1e9)
    g["off_ring"] = _round(8192 + MM_DESC_BYTES, 4096)
    g["off_pt"] = g["off_ring"] + ring
    g["off_vis"] = g["off_pt"] + _round(units * 4, 4096)
    g["off_xmap"] = g["off_vis"] + _round(units * 8, 4096)
    g["off_data"] = g["off_xmap"] + _round(units * 4 * 4, 4096)
    g["map_bytes"] = g["off_data"] + units * 4096
    return g


def slots_bytes(slots, snaps) -> int:
    """The size of a slots file."""
    return MM_SLOTS_BYTES(slots, snaps)


cdef void write_super(mm_super *s, dict g, bytes uuid, uint64_t incarnation, file_id):
    cdef bytes boot = boot_id()
    memset(s, 0, sizeof(mm_super))
    memcpy(s.magic, MM_MAGIC, 8)
    s.major = MM_FORMAT_MAJOR
    s.minor = MM_FORMAT_MINOR
    s.unit_bytes = MM_UNIT
    s.granule_bytes = MM_GRANULE
    memcpy(s.uuid, <const uint8_t *>uuid, 16)
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
    s.n_slots = g["n_slots"]
    s.n_snaps = g["n_snaps"]
    s.snapshot_bytes = g["snapshot_bytes"]
    s.snapshot_age_ns = g["snapshot_age_ns"]
    s.crc = mm_crc32c(0, s, <size_t>(<char *>&s.crc - <char *>s))


def slots_head(uuid, slots, snaps) -> bytes:
    """The beginning of a slots file: of which region it is."""
    return SLOTS_MAGIC + uuid + struct.pack("<II", slots, snaps)


cdef int read_super(mm_super *s, bytes data, uint64_t size, path, bint read_only, file_id) except -1:
    """Judge the first bytes of a region of `size` bytes, and take them over. RegionError names what was found."""
    cdef bytes boot = boot_id()
    if <size_t>len(data) < sizeof(mm_super):
        raise errors.RegionError(f"{path!r} is no region: {len(data)} bytes, a header has {sizeof(mm_super)}")
    memcpy(s, <const char *>data, sizeof(mm_super))
    if memcmp(s.magic, MM_MAGIC, 8):
        raise errors.RegionError(f"{path!r} is no region: it begins with {data[:8]!r}")
    if s.major != MM_FORMAT_MAJOR:
        age = "too new" if s.major > MM_FORMAT_MAJOR else "too old"
        raise errors.RegionError(f"{path!r} has region format {s.major}.{s.minor}; this Memora reads {MM_FORMAT_MAJOR}.x: it is {age}")
    if s.crc != mm_crc32c(0, s, <size_t>(<char *>&s.crc - <char *>s)):
        raise errors.RegionError(f"{path!r}: the header's checksum is wrong; it is damaged")
    if s.feature_incompat & ~<uint32_t>INCOMPAT_KNOWN:
        raise errors.RegionError(f"{path!r} uses features {s.feature_incompat & ~<uint32_t>INCOMPAT_KNOWN:#x} that this Memora does not know")
    if s.feature_ro_compat & ~<uint32_t>RO_COMPAT_KNOWN and not read_only:
        raise errors.RegionError(f"{path!r} uses features {s.feature_ro_compat & ~<uint32_t>RO_COMPAT_KNOWN:#x} that this Memora can read, but not "
                                 "write: open it with read_only=True")
    if memcmp(s.boot_id, <const uint8_t *>boot, 16):
        raise errors.RegionError(f"{path!r} was made before the last boot")
    g = geometry(0, s.ring_bytes, s.n_slots, s.n_snaps)
    units = s.cap_units
    expect = (g["off_ring"], g["off_pt"], s.off_pt + _round(units * 4, 4096), s.off_vis + _round(units * 8, 4096),
              s.off_xmap + _round(units * 16, 4096), s.off_data + units * 4096)
    if (s.off_ring, s.off_pt, s.off_vis, s.off_xmap, s.off_data, s.map_bytes) != expect or units > 0x3fffffff:
        raise errors.RegionError(f"{path!r}: the header's offsets do not fit together; it is damaged")
    if s.unit_bytes != MM_UNIT or s.granule_bytes != MM_GRANULE or s.cap_pages != units:
        raise errors.RegionError(f"{path!r} has units of {s.unit_bytes} bytes; this Memora reads {MM_UNIT}")
    if size < s.map_bytes:
        raise errors.RegionError(f"{path!r} is truncated: {size} bytes of {s.map_bytes}")
    if file_id is not None and (s.file_dev, s.file_ino) != tuple(file_id):
        raise errors.RegionError(f"{path!r} belongs to another database file")
    return 0


cdef int judge_slots(mm_super *s, bytes head, uint64_t size, path) except -1:
    """Is this the beginning of the slots file, which has `size` bytes, of this region?"""
    if head[:32] != slots_head((<char *>s.uuid)[:16], s.n_slots, s.n_snaps):
        raise errors.RegionError(f"{path!r}: the slots file is not of this region")
    if size < <uint64_t>slots_bytes(s.n_slots, s.n_snaps) or not 0 < s.n_slots < 8191:
        raise errors.RegionError(f"{path!r}: the slots file is truncated: {size} of {slots_bytes(s.n_slots, s.n_snaps)} bytes")
    return 0


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
