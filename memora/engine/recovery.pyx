"""Recovery: the log segments beside a checkpoint, and how they are replayed.

LAYOUT      Segment: 64-byte header, then records as in the ring, crc filled in; the record at lsn L of a segment that begins at lsn B
            lies at byte 64 + L - B. Behind the header's fixed part stands a mark, rewritten after each sync: the log before
            that lsn was synced. A lower bound: it is itself only synced with the next.
            <incarnation>-<lsn>.big: the operations of a record over a quarter of the ring, with their crc in the record.
INVARIANTS  (1) One life's log counts: that of the newest incarnation, and only if no later life has written the checkpoint.
            (2) Replay goes on from record to record without a hole, from the checkpoint's lsn to the first record that is not whole.
            (3) A record that is not whole ends the log if nothing good follows, or if it lies behind the mark: it was never
                synced, and a power cut writes pages in any order. Else it is damage, and named.
            (4) A later segment counts only if the one before it is whole: it was synced before the later one was begun.
"""
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy
from memora.engine.checkpoint cimport grow_or_raise
from memora.engine.layout cimport *
from memora.engine.procs cimport lock_release
from memora.engine.region cimport Region, take_lock
from memora.engine.replay cimport replay
from memora.engine.sync cimport *

import os
import struct

from memora import errors
from memora.engine.checkpoint import crc32c

# segment header: magic, format, uuid, incarnation, first lsn, crc32c of all that; then the mark: synced lsn, its crc32c
SEGMENT_FIXED = struct.Struct("<8sI4x16sQQI")
MARK = struct.Struct("<QI")
SEGMENT_HEAD = SEGMENT_FIXED.size + MARK.size
SEGMENT_MAGIC = b"MEMOWAL\0"
FORMAT = 1
SYNCED_AT = SEGMENT_FIXED.size


cdef uint32_t record_crc(uint64_t incarnation, uint64_t lsn, const uint8_t *p, uint64_t n) noexcept nogil:
    """Of a record whose crc field is 0. Seeded, so that bytes of another life or place never verify."""
    cdef uint64_t seed[2]
    seed[0] = incarnation
    seed[1] = lsn
    return mm_crc32c(mm_crc32c(0, seed, 16), p, n)


def segment_name(incarnation, lsn, kind="wal") -> str:
    return f"{incarnation:08x}-{lsn:016x}.{kind}"


def mark(synced) -> bytes:
    """The header's mark: the log before this lsn was synced."""
    body = synced.to_bytes(8, "little")
    return body + crc32c(body).to_bytes(4, "little")


def segment_head(uuid, incarnation, lsn) -> bytes:
    head = SEGMENT_FIXED.pack(SEGMENT_MAGIC, FORMAT, uuid, incarnation, lsn, 0)[:SEGMENT_FIXED.size - 4]
    return head + crc32c(head).to_bytes(4, "little") + mark(lsn)


def segments(path) -> list:
    """The segments beside a database, by incarnation and lsn: dicts of path, incarnation, lsn, uuid (None: no header yet, or operations), synced."""
    found = []
    folder = path + "-wal"
    if not os.path.isdir(folder):
        return found
    for n in os.listdir(folder):
        if not n.endswith((".wal", ".big")):
            continue
        full = os.path.join(folder, n)
        found.append({"path": full, "incarnation": 0, "lsn": 0, "uuid": None, "synced": 0})
        if n.endswith(".big"):
            continue
        with open(full, "rb") as f:
            data = f.read(SEGMENT_HEAD)
        if len(data) < SEGMENT_HEAD or not any(data):       # made, and then the power went
            continue
        magic, fmt, uuid, incarnation, lsn, crc = SEGMENT_FIXED.unpack_from(data)
        synced, mark_crc = MARK.unpack_from(data, SYNCED_AT)
        if magic != SEGMENT_MAGIC or crc != crc32c(data[:SEGMENT_FIXED.size - 4]) or mark_crc != crc32c(data[SYNCED_AT:SYNCED_AT + 8]):
            raise errors.CorruptionError(f"{full!r}: the segment's header is damaged at byte 0")
        if fmt != FORMAT:
            raise errors.RegionError(f"{full!r} has log format {fmt}; this Memora reads {FORMAT}")
        found[len(found) - 1].update(incarnation=incarnation, lsn=lsn, uuid=uuid, synced=synced)
    found.sort(key=lambda s: (s["incarnation"], s["lsn"]))
    return found


def replay_all(Region region, head, uuid, found) -> int:
    """Replay the log behind the checkpoint `head` (None: there is none); returns the number of commits.

    A torn tail ends it; CorruptionError names file and byte of damage.
    """
    cdef mm_map *m = &region.m
    cdef mm_record r
    cdef bytes record
    cdef int st
    mine = [s for s in found if s["uuid"] is not None and s["uuid"] == uuid and (head is None or s["incarnation"] >= head["incarnation"])]
    if mine and mine[0]["incarnation"] != mine[len(mine) - 1]["incarnation"]:
        raise errors.CorruptionError(f"{mine[0]['path']!r} and {mine[len(mine) - 1]['path']!r} are of two lives of the database, and the checkpoint of neither")
    count = 0
    position = head["lsn"] if head else 0
    for i, s in enumerate(mine):
        last = i + 1 == len(mine)
        if s["lsn"] > position:
            raise errors.CorruptionError(f"{s['path']!r} begins at log position {s['lsn']}; the log before it ends at {position}: "
                                         "a segment is missing or cut off")
        with open(s["path"], "rb") as f:
            data = f.read()
        at = SEGMENT_HEAD + position - s["lsn"]
        while at < len(data):
            lsn = s["lsn"] + at - SEGMENT_HEAD
            record = record_at(data, at, lsn, s["incarnation"])
            what = f"{s['path']!r}: the record at byte {at} is damaged"
            if record is not None:
                memcpy(&r, <const char *>record, sizeof(r))
                if r.flags & MM_REC_BIG:
                    record, what = with_operations(record, s, lsn)
            if record is None:
                later = later_record(data, at, s)
                if not last:
                    raise errors.CorruptionError(f"{what}; more segments follow")
                if later and lsn < s["synced"]:
                    raise errors.CorruptionError(f"{what}, though a good one follows at byte {later}")
                break
            if r.commit != m.hot.commit_seq + 1:
                raise errors.CorruptionError(f"{s['path']!r}: commit {r.commit} at byte {at} follows commit {m.hot.commit_seq}")
            while True:
                take_lock(region, 60000000000)
                st = replay(m, <const uint8_t *><char *>record, len(record))
                lock_release(m)
                if st == MM_OK:
                    break
                grow_or_raise(region, st)
            count += 1
            at += r.len
            position = lsn + r.len
    return count


def with_operations(bytes record, s, lsn) -> tuple:
    """A large record with its operations in place of the reference to them; (None, why) if they are not whole."""
    cdef mm_bigref big
    memcpy(&big, <const char *>record + sizeof(mm_record), sizeof(big))
    name = os.path.join(os.path.dirname(s["path"]), segment_name(s["incarnation"], lsn, "big"))
    ops = b""
    if os.path.exists(name):
        with open(name, "rb") as f:
            ops = f.read()
    if len(ops) != big.nbytes or crc32c(ops) != big.crc:
        return None, f"{name!r}: {len(ops)} bytes of {big.nbytes}, or a wrong checksum"
    return record[:sizeof(mm_record)] + ops, None


def record_at(data, at, lsn, incarnation):
    """The record at this place of a segment, if it is whole; its crc field cleared."""
    cdef mm_record r
    cdef bytes out
    if at + sizeof(r) > len(data):
        return None
    head = bytes(data[at:at + sizeof(r)])
    memcpy(&r, <const char *>head, sizeof(r))
    if r.len < sizeof(r) or r.len & 7 or at + r.len > len(data) or r.lsn != lsn:
        return None
    if r.flags & MM_REC_BIG and r.len < sizeof(r) + sizeof(mm_bigref):
        return None
    crc = r.crc
    r.crc = 0
    out = (<char *>&r)[:sizeof(r)] + data[at + sizeof(r):at + r.len]
    if record_crc(incarnation, lsn, <const uint8_t *><char *>out, len(out)) != crc:
        return None
    return out


def later_record(data, at, s):
    """The place of a good record behind a bad one, or None."""
    for place in range(at + 8, len(data) - sizeof(mm_record) + 1, 8):
        lsn = s["lsn"] + place - SEGMENT_HEAD
        if data[place + 8:place + 16] == lsn.to_bytes(8, "little") and record_at(data, place, lsn, s["incarnation"]) is not None:
            return place
    return None
