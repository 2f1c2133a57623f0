# Cython view of csrc/layout.h, which documents every field. Structs of the region are read by other processes
# while they change: shared fields go through the functions of sync.pxd.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t, int32_t, int64_t

cdef extern from "csrc/layout.h" nogil:
    const uint32_t MM_FORMAT_MAJOR
    const uint32_t MM_FORMAT_MINOR
    const uint32_t MM_UNIT
    const uint32_t MM_GRANULE
    const uint32_t MM_PER_UNIT
    const uint32_t MM_HEAD
    const uint32_t MM_MAX_SLOTS
    const uint32_t MM_KEY_INLINE
    const uint32_t MM_CELL_INLINE
    const uint32_t MM_KEY_MAX
    const uint32_t MM_MAX_DEPTH
    const uint32_t MM_MAX_HOPS
    const uint32_t MM_X_ORDERS
    const uint32_t MM_X_FREE
    const uint32_t MM_PT_MASK
    const uint32_t MM_PT_FREED
    const uint32_t MM_PT_LINK
    const uint32_t MM_PT_BITS
    const uint32_t MM_PG_ROOTS
    const uint32_t MM_PG_CATALOG
    const uint32_t MM_TREE_ROOTS
    const uint32_t MM_TREE_CATALOG
    const uint32_t MM_TREE_FIRST
    const uint32_t MM_DESC_STORES
    const uint32_t MM_CHAIN_STORES
    const uint32_t MM_DESC_BYTES
    const uint32_t MM_DIR_FAN
    const uint32_t MM_ROOTF_HASH
    const uint32_t MM_MADE_KIND
    const uint32_t MM_MADE_SHIFT
    const uint32_t MM_SLOT_LONG
    const uint32_t MM_SLOT_KLEN
    const uint32_t MM_V_EXT
    const uint32_t MM_V_EXPIRY
    const uint32_t MM_V_LEN
    const uint32_t MM_REC_BIG
    const uint32_t MM_REC_REFS
    const uint32_t MM_OPF_OLD
    const uint32_t MM_OPF_NEW_REF
    const uint32_t MM_OPF_OLD_REF
    const uint32_t MM_LOCK_WAITERS
    const uint32_t MM_LOCK_SLOT
    const uint32_t MM_PIN_SHIFT
    const uint64_t MM_SNAP_S
    const uint32_t MM_SNAP_SHIFT
    const uint64_t MM_SNAP_FREE
    const uint64_t MM_SNAP_IDLE
    const uint64_t MM_SNAP_ACTIVE
    const uint64_t MM_SNAP_REVOKED
    const uint64_t MM_SINCE_CHECKPOINT
    const uint64_t MM_TICKET_ENTRY
    const uint32_t MM_TICKET_SHIFT
    uint64_t MM_SLOTS_BYTES(uint64_t n_slots, uint64_t n_snaps) noexcept
    const char *MM_MAGIC
    enum:
        MM_KIND_FREE
        MM_KIND_LEAF
        MM_KIND_BRANCH
        MM_KIND_BUCKET
        MM_KIND_DIRECTORY
        MM_PF_OPEN
    enum:
        MM_ROOT_TREE
        MM_ROOT_BOUNDED
        MM_ROOT_TOPIC
    enum:
        MM_OP_PUT
        MM_OP_DELETE
        MM_OP_CREATE
        MM_OP_DROP
        MM_OP_MESSAGE
        MM_OP_EVICT
        MM_OP_EXPIRE
        MM_OP_INSERT
        MM_OP_DELTA
    enum:
        MM_DOING_TRANSACTION
        MM_DOING_GROW
        MM_DOING_COLLECT
        MM_DOING_TICKET
        MM_DOING_TREES
    enum:
        MM_SLOT_FREE
        MM_SLOT_LIVE
    enum:
        MM_OK
        MM_FOUND
        MM_ABSENT
        MM_EXISTS
        MM_MOVED
        MM_TOO_OLD
        MM_CONFLICT
        MM_NEED_FRAMES
        MM_NEED_EXTENT
        MM_NEED_PAGES
        MM_NEED_LOG
        MM_NOMEM
        MM_CORRUPT
        MM_NO_TREE
        MM_TIMEOUT
        MM_REFUSED
        MM_INTERRUPTED
        MM_TOO_BIG
        MM_READ_ONLY
        MM_IO
        MM_DEAD_FORK
        MM_LAGGED
        MM_EMPTY
    enum:
        MM_FP_LOCKED
        MM_FP_VALIDATED
        MM_FP_APPLIED
        MM_FP_LOGGED
        MM_FP_FILLED
        MM_FP_SEALED
        MM_FP_ROLLING
        MM_FP_ROLLED
        MM_FP_UNLOCKED
        MM_FP_COLLECTING
        MM_FP_GROWING
        MM_FP_RESERVED
        MM_FP_STORED
        MM_FP_COUNT
    ctypedef struct mm_super:
        uint8_t magic[8]
        uint16_t major, minor
        uint32_t feature_incompat, feature_ro_compat
        uint32_t unit_bytes, granule_bytes
        uint8_t uuid[16]
        uint8_t boot_id[16]
        uint64_t incarnation
        uint64_t map_bytes
        uint64_t ring_bytes, off_ring, off_pt, off_vis, off_xmap, off_data
        uint32_t cap_units, cap_pages
        uint64_t file_dev, file_ino
        uint64_t created_ns
        uint32_t n_slots, n_snaps
        uint64_t snapshot_bytes
        uint64_t snapshot_age_ns
        uint32_t crc
        uint32_t clean
    ctypedef struct mm_hot:
        uint64_t commit_seq
        uint32_t lock
        uint32_t lock_doing
        uint64_t lock_since_ns
        uint64_t ticket
        uint64_t ticket_last
        uint64_t ticket_since_ns
        uint64_t ticket_deadline_ns
        uint64_t ticket_want_ns
        uint32_t ticket_event
        uint32_t ticket_sleepers
        uint32_t lock_trees[4]
        uint64_t gc_floor
        uint64_t ring_head, ring_tail
        uint64_t tail_commit
        uint32_t feed_event
        uint32_t feed_sleepers
        uint64_t written_lsn
        uint64_t synced_lsn
        uint64_t durable_seq
        uint64_t written_seq
        uint64_t flush_lease
        uint64_t segment_lsn
        uint64_t checkpoint_seq, checkpoint_lsn
        uint64_t io_failed
        uint32_t durable_event
        uint32_t durable_sleepers
        uint64_t free_head
        uint64_t free_count
        uint64_t limbo_head, limbo_tail, limbo_count
        uint64_t pinned_head, pinned_tail, pinned_count
        uint64_t page_free_head
        uint64_t page_free_count
        uint64_t page_high
        uint64_t n_units
        uint64_t n_frames, n_granules
        uint64_t x_free
        uint64_t xlimbo_head, xlimbo_tail, xlimbo_count
        uint64_t next_tree
        uint64_t commit_ns
        uint64_t schema_seq
        uint64_t n_trees
        uint64_t pinned_floor
        uint64_t evictions, expirations
        uint64_t xfree[32]
        uint64_t pinned_todo
        uint64_t xlimbo_granules
        uint64_t revoked
        uint64_t xlog_head, xlog_tail, xlog_count
        uint64_t xres_head, xres_count
    ctypedef struct mm_store:
        uint64_t off
        uint64_t val
    ctypedef struct mm_desc:
        uint64_t state
        uint32_t n
        uint32_t chain
        mm_store store[1000]
    ctypedef struct mm_frame:
        uint64_t gen
        uint64_t ver
        uint32_t pgno
        uint32_t prev
        uint32_t next
        uint32_t link
        uint64_t retired
        uint32_t tree
        uint8_t kind, layout, level, flags
        uint16_t count
        uint16_t heap
        uint16_t frag
        uint16_t prefix
        uint64_t extra
    ctypedef struct mm_chain:
        mm_frame head
        uint32_t n, next
        uint64_t pad
        mm_store store[251]
    ctypedef struct mm_slotent:
        uint32_t head
        uint16_t off
        uint16_t klen
    ctypedef struct mm_longref:
        uint32_t granule
        uint32_t klen
    ctypedef struct mm_valref:
        uint32_t granule
        uint32_t pad
        uint64_t nbytes
    ctypedef struct mm_extent:
        uint64_t linked, retired
        uint64_t nbytes
        uint32_t granules
        uint32_t link
        uint32_t tree
        uint32_t back
        uint32_t owner
    ctypedef struct mm_xblock:
        uint32_t next, prev
    ctypedef struct mm_root:
        uint32_t root
        uint32_t control
        uint32_t flags
        uint32_t kind
    ctypedef struct mm_control:
        uint64_t bytes, entries
        uint64_t max_bytes
        uint64_t hand_len
        uint8_t hand[64]
        uint64_t evicted, refused
        uint64_t head, tail
        uint64_t head_seq, tail_seq
        uint64_t ring_granule, ring_bytes
        uint32_t event, sleepers
        uint64_t pad[3]
    ctypedef struct mm_record:
        uint32_t len
        uint32_t crc
        uint64_t lsn
        uint64_t commit
        uint64_t time_ns
        uint32_t n_ops
        uint32_t flags
    ctypedef struct mm_bigref:
        uint32_t granule
        uint32_t crc
        uint64_t nbytes
    ctypedef struct mm_op:
        uint32_t tree
        uint8_t op
        uint8_t flags
        uint16_t pad
        uint32_t klen, nlen, olen
        uint32_t size
        uint64_t expiry_ns
    ctypedef struct mm_message:
        uint32_t len, pad
        uint64_t seq, commit, time_ns
    ctypedef struct mm_slots_head:
        uint8_t magic[8]
        uint8_t uuid[16]
        uint32_t n_slots, n_snaps
        uint32_t snaps_high
        uint32_t slots_high
        uint32_t reserves_high
        uint32_t pins_high
    ctypedef struct mm_slot:
        uint32_t state
        uint32_t gen
        uint32_t pid
        uint32_t read_only
        uint64_t start_ns
        uint64_t commits, conflicts
        char what[200]
        uint64_t pad[2]
    ctypedef struct mm_reserve:
        uint64_t word
        uint32_t entry
        uint32_t tree
        uint64_t last
        uint64_t pad
    ctypedef struct mm_buf:
        mm_store *v
        uint32_t n, cap
        uint64_t *hash
        uint32_t mask, stamp
        uint32_t failed
    ctypedef struct mm_dirty:
        uint32_t pgno, frame, old
    ctypedef struct mm_bytes:
        uint8_t *p
        size_t n, cap
    ctypedef struct mm_map:
        uint8_t *base
        uint8_t *slots
        mm_super *super
        mm_hot *hot
        mm_desc *desc
        uint8_t *ring
        uint8_t *data
        uint32_t *pt
        uint32_t *xmap
        uint64_t *vis
        uint64_t ring_bytes, map_bytes, slots_bytes
        uint32_t cap_units, cap_pages
        uint32_t n_slots, n_snaps
        mm_slot *slot
        uint64_t *snap
        uint64_t *owner
        uint64_t *since
        uint64_t *pin
        mm_reserve *reserve
        uint32_t me, me_gen
        uint32_t fork_epoch
        int32_t slots_fd
        uint64_t slots_dev, slots_ino
        int32_t read_only, durable
        uint32_t unregistered
        uint32_t failpoint
        int32_t failaction
        uint32_t corrupt_page
        const char *corrupt_what
        uint64_t need
        uint64_t seen_pages, seen_units
        uint32_t hash_ignore
        mm_buf buf
        mm_dirty *dirty
        uint32_t n_dirty, cap_dirty
        uint32_t taken
        uint32_t only_removes
        uint32_t changes, fit
        uint64_t building
        uint64_t now_ns
        uint8_t *rec
        uint64_t rec_n, rec_cap
        uint32_t rec_ops
        uint64_t rec_full
        uint32_t rec_refs
        uint32_t ready
        uint64_t viewed_granules
        uint64_t *scan
        uint32_t n_scan, cap_scan
        mm_bytes work[2]
        uint32_t *pinned
        uint32_t n_pinned, cap_pinned
    mm_frame *mm_frame_at(const mm_map *, uint32_t) noexcept
    mm_extent *mm_extent_at(const mm_map *, uint32_t) noexcept
    uint64_t mm_off(const mm_map *, const void *) noexcept
    void mm_fail(const mm_map *, uint32_t) noexcept
