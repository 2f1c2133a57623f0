from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t, int32_t
from memora.engine.layout cimport mm_map
from memora.engine.overlay cimport Overlay
from memora.engine.tree cimport TreeRef

# One thing that was read from one leaf of the snapshot. Slots are those of the leaf's version at S, which stands as long as S does.
ctypedef struct Seen:
    uint32_t ref            # of the tree, in the transaction's list
    uint32_t pgno
    int32_t low, high       # SEEN_ENTRY: the slot; SEEN_RANGE: first and last slot
    uint32_t key, kn        # SEEN_ABSENT: the key; SEEN_FROM_KEY: the lower bound; offset in ReadSet.keys, and length
    uint32_t end, en        # SEEN_TO_KEY: the upper bound, the same
    uint16_t kind, flags    # SEEN_*

ctypedef struct ReadSet:
    Seen *seen
    uint32_t n, cap
    uint32_t apart          # entries from here on are not those before, even where they are the same
    uint8_t *keys
    uint32_t n_keys, cap_keys

# A place in a read set to go back to.
ctypedef struct ReadMark:
    uint32_t n, n_keys

# What a commit is asked for: the writes, what they rest on, and the snapshot behind them.
ctypedef struct Intent:
    Overlay *o
    TreeRef *refs
    uint32_t n_refs
    ReadSet *reads
    int snapshot            # isolation "snapshot": no key that is written may have changed, and of what was read only what is SEEN_HELD
    uint64_t log            # position in the log before the record of any commit after S; asked for under `snapshot`
    uint64_t s, now         # the snapshot, and the clock by which it told what has expired
    int schema              # it rests on the whole catalog as it is at S
    const uint64_t *entry   # the snapshot's word, and what it was when it was announced
    uint64_t word

cdef enum:
    SEEN_ENTRY = 1
    SEEN_ABSENT = 2
    SEEN_RANGE = 3
    SEEN_LEAF = 4           # all of it, compared by version only

    SEEN_FROM_FENCE = 1     # a range begins where the leaf does, ...
    SEEN_FROM_KEY = 2       # at a key that may be absent (with both flags: at the later one), or (no flag) at slot `low`
    SEEN_TO_FENCE = 4       # and ends where the leaf does, ...
    SEEN_TO_KEY = 8         # before a key (with both: the earlier one), or (no flag) with slot `high`

    SEEN_HELD = 16          # must hold under snapshot isolation, too

cdef ReadMark read_mark(const ReadSet *r) noexcept nogil
cdef ReadMark read_apart(ReadSet *r) noexcept nogil
cdef void read_hold(ReadSet *r, ReadMark mark) noexcept nogil
cdef void read_back(ReadSet *r, ReadMark mark) noexcept nogil
cdef void read_free(ReadSet *r) noexcept nogil
cdef int read_entry(ReadSet *r, uint32_t ref, uint32_t pgno, uint32_t slot) noexcept nogil
cdef int read_absent(ReadSet *r, uint32_t ref, uint32_t pgno, const uint8_t *k, size_t kn) noexcept nogil
cdef int read_leaf(ReadSet *r, uint32_t ref, uint32_t pgno) noexcept nogil
cdef int read_range(ReadSet *r, uint32_t ref, uint32_t pgno, uint16_t flags, int32_t low, int32_t high) noexcept nogil
cdef int read_bound(ReadSet *r, uint32_t at, uint16_t flag, const uint8_t *k, size_t kn) noexcept nogil
cdef int validate(mm_map *m, const Intent *i) noexcept nogil
