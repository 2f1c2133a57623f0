/* Every struct that lies in a region or in its slots file, with its size and the offsets other code relies on.
 *
 * Little-endian, fixed width, offsets and numbers, never pointers: each process maps the region elsewhere.
 * Enum values that are stored (MM_KIND_*, MM_OP_*, MM_STATE_*) are never renumbered.
 *
 * REGION FILE
 *   0        mm_super     what the region is; written once before it gets its name, but for `clean`
 *   4096     mm_hot       the words that change; everything in it moves only in roll_forward(), except where it says so
 *   8192     mm_desc      the commit descriptor
 *   off_ring              the WAL ring, ring_bytes
 *   off_pt                u32 a page: where it lies (see MM_PT_*)
 *   off_vis               u64 a page: visited bits of caches, lossy
 *   off_xmap              u32 a granule: MM_X_FREE | order at the first granule of a free block, else 0
 *   off_data              units of 4096 bytes; unit 0 is never used. A unit is a frame (holds one version of one page) or
 *                         four granules of extent space; it never changes from one to the other.
 * SLOTS FILE (writable also for read-only clients; byte n of the file is locked while the process of slot n lives)
 *   0        mm_slots_head
 *   4096     mm_slot[n_slots], 256 bytes each
 *   ..       u64 snapshot words[n_snaps] (MM_SNAP_*), then u64 owners[n_snaps] = slot << 32 | slot generation,
 *            then u64 since[n_snaps] = monotonic clock when it was announced (coarse), MM_SINCE_CHECKPOINT
 *   ..       mm_reserve[n_snaps]
 *   ..       u64 pins[n_snaps] (MM_PIN_*): extents that views of their owners need
 */
#ifndef MEMORA_LAYOUT_H
#define MEMORA_LAYOUT_H
#include <signal.h>
#include <stddef.h>
#include <stdint.h>

#define MM_MAGIC "MEMORA\r\n"
#define MM_FORMAT_MAJOR 2
#define MM_FORMAT_MINOR 0
#define MM_UNIT 4096u
#define MM_GRANULE 1024u
#define MM_PER_UNIT 4u          /* granules in a unit */
#define MM_HEAD 64u             /* header of a frame */
#define MM_MAX_SLOTS 504u       /* (MM_UNIT - MM_HEAD) / 8 */
#define MM_KEY_INLINE 384u      /* bytes of a key in its page; the rest lies in an extent */
#define MM_CELL_INLINE 1024u    /* key and value together, above which the value lies in an extent */
#define MM_KEY_MAX (1u << 20)
#define MM_MAX_DEPTH 16
#define MM_MAX_HOPS 8192
#define MM_X_ORDERS 32
#define MM_X_FREE 0x80000000u

/* pt[pgno]: frame number, or one of the marks in the two top bits. */
#define MM_PT_MASK 0x3fffffffu
#define MM_PT_FREED 0x80000000u /* the page was freed in commit frame.retired; older versions start at this frame */
#define MM_PT_LINK 0xc0000000u  /* the number is free; the low bits are the next free page number */
#define MM_PT_BITS 0xc0000000u

#define MM_PG_ROOTS 1u          /* tree 0: tree id -> mm_root */
#define MM_PG_CATALOG 2u        /* tree 1 */
#define MM_TREE_ROOTS 0u
#define MM_TREE_CATALOG 1u
#define MM_TREE_FIRST 16u

enum { MM_KIND_FREE = 0, MM_KIND_LEAF = 1, MM_KIND_BRANCH = 2, MM_KIND_BUCKET = 3, MM_KIND_DIRECTORY = 4 };
#define MM_DIR_FAN 1004u        /* page numbers in a page of a hash index's directory; the 16 bytes behind them are its key */
#define MM_PF_OPEN 1u           /* flags of a page: its keys share the prefix, but its separators do not promise that new ones will */

typedef struct {
    uint8_t magic[8];
    uint16_t major, minor;
    uint32_t feature_incompat, feature_ro_compat;
    uint32_t unit_bytes, granule_bytes;
    uint8_t uuid[16];           /* of the database; a copy gets a new one */
    uint8_t boot_id[16];
    uint64_t incarnation;       /* raised each time a region is built from the files */
    uint64_t map_bytes;         /* address space of the whole region */
    uint64_t ring_bytes, off_ring, off_pt, off_vis, off_xmap, off_data;
    uint32_t cap_units, cap_pages;
    uint64_t file_dev, file_ino;/* of the -lock file of a file database, else 0 */
    uint64_t created_ns;        /* wall clock */
    uint32_t n_slots, n_snaps;
    uint64_t snapshot_bytes;    /* old versions that snapshots may keep from being recycled, before the oldest is revoked */
    uint64_t snapshot_age_ns;   /* how long a snapshot may stand while others commit, 0 = no limit */
    uint32_t crc;               /* crc32c of the bytes before it */
    uint32_t clean;             /* 1: closed cleanly after a checkpoint. Changes under the commit lock. */
} mm_super;
_Static_assert(sizeof(mm_super) == 192, "mm_super");
_Static_assert(offsetof(mm_super, crc) == 184, "mm_super.crc");

#define MM_DOING_TREES 4
typedef struct {
    _Alignas(128) uint64_t commit_seq;      /* newest published commit */
    _Alignas(128) uint32_t lock;            /* 0, or MM_LOCK_*: changed by compare-and-swap */
    uint32_t lock_doing;                    /* loose, for messages: MM_OP_* or MM_DOING_*, tree or number of changes << 8; 0 = not said */
    uint64_t lock_since_ns;                 /* loose, for messages: monotonic clock when a waiter first missed this owner's release, 0 = none did */
    uint64_t ticket;                        /* loose: 0, or number << 20 | snapshot entry of the holder. Set under the lock, else by compare-and-swap */
    uint64_t ticket_last;                   /* loose: newest number given; under the lock */
    uint64_t ticket_since_ns;               /* loose: monotonic clock, under the lock, as the next */
    uint64_t ticket_deadline_ns;            /* loose */
    uint64_t ticket_want_ns;                /* loose: when somebody last went to sleep for it */
    uint32_t ticket_event;                  /* loose: futex, raised when a ticket is given back if somebody sleeps */
    uint32_t ticket_sleepers;               /* loose */
    uint32_t lock_trees[MM_DOING_TREES];    /* loose, for messages: what the owner's transaction writes, 0 = no more */
    _Alignas(128) uint64_t gc_floor;        /* loose: >= the retirement of every frame and extent ever unlinked */
    _Alignas(128) uint64_t ring_head, ring_tail;     /* byte positions in the log since the beginning; [tail, head) is whole */
    uint64_t tail_commit;                   /* first commit in [tail, head) */
    _Alignas(128) uint32_t feed_event;      /* loose: futex, raised after a commit if somebody sleeps */
    uint32_t feed_sleepers;                 /* loose */
    _Alignas(128) uint64_t written_lsn;     /* loose, raised by compare-and-swap: log bytes written to the file */
    uint64_t synced_lsn;                    /* loose, the same: log bytes that survive a power cut */
    uint64_t durable_seq;                   /* loose, the same: newest commit that survives a power cut */
    uint64_t written_seq;                   /* loose, the same */
    uint64_t flush_lease;                   /* loose: slot+1 << 48 | deadline in ms of the boot clock */
    uint64_t segment_lsn;                   /* loose: where the newest segment file begins */
    uint64_t checkpoint_seq, checkpoint_lsn;/* loose: newest checkpoint on disk */
    uint64_t io_failed;                     /* loose: errno of a failed sync; cleared by a checkpoint that succeeds */
    uint32_t durable_event;                 /* loose: futex */
    uint32_t durable_sleepers;              /* loose */
    _Alignas(128) uint64_t free_head;       /* frames: list through mm_frame.link */
    uint64_t free_count;
    uint64_t limbo_head, limbo_tail, limbo_count;    /* retired frames, oldest first, through link */
    uint64_t pinned_head, pinned_tail, pinned_count; /* retired frames that a snapshot still needed when looked at */
    uint64_t page_free_head;                /* page numbers: list through pt, MM_PT_LINK */
    uint64_t page_free_count;
    uint64_t page_high;                     /* page numbers ever used are below */
    uint64_t n_units;                       /* units published: allocated and formatted */
    uint64_t n_frames, n_granules;          /* of them frames, and granules of extent space */
    uint64_t x_free;                        /* free granules */
    uint64_t xlimbo_head, xlimbo_tail, xlimbo_count; /* retired extents, oldest first, through mm_extent.link */
    uint64_t next_tree;
    uint64_t commit_ns;                     /* wall clock of the newest commit; never goes back */
    uint64_t schema_seq;                    /* newest commit that changed the catalog */
    uint64_t n_trees;
    uint64_t pinned_floor;                  /* oldest snapshot when the pinned list was last looked at */
    uint64_t evictions, expirations;
    uint64_t xfree[MM_X_ORDERS];            /* first granule of a free block of 2^i granules, 0 = none */
    uint64_t pinned_todo;                   /* frames at the head of the pinned list that were not looked at since the oldest snapshot changed */
    uint64_t xlimbo_granules;               /* granules of the retired extents */
    uint64_t revoked;                       /* loose, under the lock: snapshots revoked so far */
    uint64_t xlog_head, xlog_tail, xlog_count;      /* retired values that records in the ring may name, oldest first, through mm_extent.link */
    uint64_t xres_head, xres_count;         /* reserved extents: list through mm_extent.link and back */
} mm_hot;
_Static_assert(sizeof(mm_hot) <= 4096, "mm_hot");

/* One absolute store: what roll_forward() writes. off is a byte offset in the region, its bit 0 set for 8 bytes, clear for 4. */
typedef struct { uint64_t off; uint64_t val; } mm_store;
#define MM_DESC_STORES 1000u
#define MM_CHAIN_STORES 251u
typedef struct {
    uint64_t state;             /* 0 = nothing to do; else sealed */
    uint32_t n;                 /* stores here */
    uint32_t chain;             /* frame with more (mm_chain), 0 = none */
    mm_store store[MM_DESC_STORES];
} mm_desc;
_Static_assert(sizeof(mm_desc) <= 16384, "mm_desc");
#define MM_DESC_BYTES 16384u

/* A frame. 0..39 belong to the frame, 40..63 and the rest to the version of the page in it (copied by copy-on-write).
 * `link` changes only in roll_forward(): the free, limbo and pinned lists run through it. */
typedef struct {
    uint64_t gen;               /* recycle seqlock: odd while the frame is being filled; never goes back */
    uint64_t ver;               /* the commit that made this version */
    uint32_t pgno;
    uint32_t prev;              /* frame of the version before, 0 = none kept */
    uint32_t next;              /* frame of the version after, 0 = current */
    uint32_t link;
    uint64_t retired;           /* the commit that replaced or freed it, 0 = current */
    uint32_t tree;
    uint8_t kind, layout, level, flags;     /* flags: MM_PF_*; of a bucket's page its place in the chain, modulo 256 */
    uint16_t count;             /* slots */
    uint16_t heap;              /* lowest byte of the heap; cells grow down from the prefix at the page's end */
    uint16_t frag;              /* bytes of deleted cells inside the heap */
    uint16_t prefix;            /* bytes that all keys of the page share, stored at the page's end */
    uint64_t extra;             /* leaf: smallest expiry of its cells in ns, 0 = none. branch: leftmost child.
                                 * bucket: its number << 32 | next page of its chain. root of a directory: number of buckets */
} mm_frame;
_Static_assert(sizeof(mm_frame) == 64, "mm_frame");
_Static_assert(offsetof(mm_frame, tree) == 40, "mm_frame.tree");
_Static_assert(offsetof(mm_frame, count) == 48, "mm_frame.count");

typedef struct { mm_frame head; uint32_t n, next; uint64_t pad; mm_store store[MM_CHAIN_STORES]; } mm_chain;
_Static_assert(sizeof(mm_chain) == 4096, "mm_chain");

/* A slot of a page, sorted by key. head = the first four bytes behind the prefix, big-endian, zero padded.
 * Of a bucket's page: in any order; head = the key's hash. */
typedef struct { uint32_t head; uint16_t off; uint16_t klen; } mm_slotent;
#define MM_SLOT_LONG 0x8000u    /* in klen: the key goes on in an extent (mm_longref behind the inline part) */
#define MM_SLOT_KLEN 0x0fffu
/* cells. leaf:   u16 vinfo | u64 expiry if MM_V_EXPIRY | key behind the prefix | mm_longref if MM_SLOT_LONG | value or mm_valref
 *        branch: u32 child | key behind the prefix | mm_longref if MM_SLOT_LONG; keys >= it go to child */
#define MM_V_EXT 0x8000u
#define MM_V_EXPIRY 0x4000u
#define MM_V_LEN 0x0fffu
typedef struct { uint32_t granule; uint32_t klen; } mm_longref;     /* klen: of the whole key */
typedef struct { uint32_t granule; uint32_t pad; uint64_t nbytes; } mm_valref;
_Static_assert(sizeof(mm_longref) == 8 && sizeof(mm_valref) == 16 && sizeof(mm_slotent) == 8, "cells");

/* First 64 bytes of an extent in use; its bytes follow. */
typedef struct {
    uint64_t linked, retired;   /* commits: who sees it is in [linked, retired) */
    uint64_t nbytes;
    uint32_t granules;
    uint32_t link;              /* of the list it is in: xlimbo, xlog, reserved */
    uint32_t tree;
    uint32_t back;              /* reserved: the one before in the list */
    uint32_t owner;             /* reserved: by whom, as the commit lock names processes; else 0 */
    uint32_t pad[5];
} mm_extent;
_Static_assert(sizeof(mm_extent) == 64, "mm_extent");

/* First bytes of a free block of extent space: doubly linked list of its order. */
typedef struct { uint32_t next, prev; } mm_xblock;

/* Value in the roots tree; key = tree id, 4 bytes big-endian. */
typedef struct {
    uint32_t root;              /* page number, fixed for the tree's life */
    uint32_t control;           /* granule of the control extent (mm_control), 0 = none */
    uint32_t flags;             /* MM_ROOTF_* */
    uint32_t kind;              /* MM_ROOT_* */
} mm_root;
_Static_assert(sizeof(mm_root) == 16, "mm_root");
enum { MM_ROOT_TREE = 0, MM_ROOT_BOUNDED = 1, MM_ROOT_TOPIC = 2 };
#define MM_ROOTF_HASH 1u        /* a hash index; root is its directory */
/* Kind and flags in one word, as CREATE operations and checkpoints have them: kind | flags << 8. */
#define MM_MADE_KIND 0xffu
#define MM_MADE_SHIFT 8

/* Control extent of a bounded tree (cache) or a topic, behind its mm_extent. */
typedef struct {
    uint64_t bytes, entries;    /* bounded: what lies in the tree; bytes = keys + values + 32 an entry */
    uint64_t max_bytes;
    uint64_t hand_len; uint8_t hand[64];    /* eviction hand: the next leaf starts at this key */
    uint64_t evicted, refused;
    uint64_t head, tail;        /* topic: byte positions; [tail, head) is whole */
    uint64_t head_seq, tail_seq;/* number of the next message; number of the first one kept */
    uint64_t ring_granule, ring_bytes;
    uint32_t event, sleepers;   /* loose: futex of subscribers */
    uint64_t pad[3];
} mm_control;
_Static_assert(sizeof(mm_control) == 192, "mm_control");
_Static_assert(offsetof(mm_control, event) == 160, "mm_control.event");

/* A record of the log: one commit. Ops follow, each mm_op + key + new + old, padded to 8. */
typedef struct {
    uint32_t len;               /* whole record, multiple of 8 */
    uint32_t crc;               /* in the file: crc32c of the record with crc = 0, seeded by incarnation and lsn. In the ring 0 */
    uint64_t lsn;               /* byte position of this record */
    uint64_t commit;
    uint64_t time_ns;           /* wall clock */
    uint32_t n_ops;
    uint32_t flags;             /* MM_REC_* */
} mm_record;
_Static_assert(sizeof(mm_record) == 40, "mm_record");
#define MM_REC_BIG 1u           /* the ops lie in an extent: mm_bigref follows */
#define MM_REC_REFS 2u          /* only in the ring: some ops name values in extents. mm_bigref follows, and (granule 0) nbytes of short ops;
                                 * the rest of the record's length is what the values take in the file */
typedef struct { uint32_t granule; uint32_t crc; uint64_t nbytes; } mm_bigref;

typedef struct {
    uint32_t tree;
    uint8_t op;                 /* MM_OP_* */
    uint8_t flags;              /* MM_OPF_* */
    uint16_t pad;
    uint32_t klen, nlen, olen;
    uint32_t size;              /* of the op, padded to 8 */
    uint64_t expiry_ns;         /* of the new value, 0 = never */
} mm_op;
_Static_assert(sizeof(mm_op) == 32, "mm_op");
enum { MM_OP_PUT = 1, MM_OP_DELETE = 2, MM_OP_CREATE = 3, MM_OP_DROP = 4, MM_OP_MESSAGE = 5, MM_OP_EVICT = 6, MM_OP_EXPIRE = 7,
       MM_OP_INSERT = 8, MM_OP_DELTA = 9 /* only in overlays: logged as MM_OP_PUT */ };
#define MM_OPF_OLD 1u           /* there was an old value */
#define MM_OPF_NEW_REF 2u       /* only in the ring: a mm_valref stands for the new value; nlen is the value's length */
#define MM_OPF_OLD_REF 4u       /* a mm_valref stands for the old value, olen = 16; in a file it names nothing any more */

/* A message in a topic's ring, padded to 8. */
typedef struct { uint32_t len, pad; uint64_t seq, commit, time_ns; } mm_message;
_Static_assert(sizeof(mm_message) == 32, "mm_message");

/* The commit lock: slot + 1 in bits 0..12, slot generation in bits 13..30, waiters in bit 31. */
#define MM_LOCK_WAITERS 0x80000000u
#define MM_LOCK_SLOT 0x1fffu

typedef struct {
    uint8_t magic[8];
    uint8_t uuid[16];
    uint32_t n_slots, n_snaps;
    uint32_t snaps_high;        /* snapshot words ever claimed are below */
    uint32_t slots_high;
    uint32_t reserves_high;     /* reservations that may be live are below; moves under the commit lock */
    uint32_t pins_high;         /* pins ever claimed are below */
} mm_slots_head;

/* State and generation change only under the attach lock; the rest is written by the owner. */
typedef struct {
    uint32_t state;             /* MM_SLOT_FREE, MM_SLOT_LIVE */
    uint32_t gen;               /* raised at each claim */
    uint32_t pid;               /* as its own namespace numbers it: for messages, never for identity */
    uint32_t read_only;
    uint64_t start_ns;          /* wall clock */
    uint64_t commits, conflicts;
    char what[200];             /* what it is doing, for messages: zero-terminated, may be torn */
    uint64_t pad[2];
} mm_slot;
_Static_assert(sizeof(mm_slot) == 256, "mm_slot");
enum { MM_SLOT_FREE = 0, MM_SLOT_LIVE = 1 };

/* A range of numbers that an open transaction took (rowids.pyx). Live while the snapshot word `entry` is exactly `word`.
 * Written under the commit lock; its owner frees it (word = 0) without. */
typedef struct {
    uint64_t word;              /* the owner's announced snapshot word, 0 = free */
    uint32_t entry;             /* number of that snapshot word */
    uint32_t tree;
    uint64_t last;              /* largest number taken, as its key reads big-endian */
    uint64_t pad;
} mm_reserve;
_Static_assert(sizeof(mm_reserve) == 32, "mm_reserve");

/* Snapshot word: S in bits 0..47, state in 48..49, claim generation in 50..63. */
#define MM_SNAP_S 0x0000ffffffffffffull
#define MM_SNAP_SHIFT 48
#define MM_SNAP_FREE 0ull
#define MM_SNAP_IDLE 1ull       /* owned, no snapshot announced */
#define MM_SNAP_ACTIVE 2ull
#define MM_SNAP_REVOKED 3ull
#define MM_SINCE_CHECKPOINT 0x8000000000000000ull   /* in since: a checkpoint's, revoked only when nothing else is left */
#define MM_SLOTS_BYTES(n_slots, n_snaps) (4096 + (uint64_t)(n_slots) * sizeof(mm_slot) + (uint64_t)(n_snaps) * (32 + sizeof(mm_reserve)))

/* hot.ticket */
#define MM_TICKET_ENTRY 0xfffffull
#define MM_TICKET_SHIFT 20

/* hot.lock_doing beside MM_OP_*: what is no change of one key. */
enum { MM_DOING_TRANSACTION = 64, MM_DOING_GROW = 65, MM_DOING_COLLECT = 66, MM_DOING_TICKET = 67 };

/* Pin: granule of the extent in bits 0..31, 0 = owned and idle; its owner in bits 32..61 as the commit lock names it. 0 = free. */
#define MM_PIN_SHIFT 32

/* What kernels return; faces turn it into exceptions (status.pyx). */
enum { MM_OK = 0, MM_FOUND = 1, MM_ABSENT = 2, MM_EXISTS = 3, MM_MOVED = 4, MM_TOO_OLD = 5, MM_CONFLICT = 6, MM_NEED_FRAMES = 7,
       MM_NEED_EXTENT = 8, MM_NEED_PAGES = 9, MM_NEED_LOG = 10, MM_NOMEM = 11, MM_CORRUPT = 12, MM_NO_TREE = 13, MM_TIMEOUT = 14,
       MM_REFUSED = 15, MM_INTERRUPTED = 16, MM_TOO_BIG = 17, MM_READ_ONLY = 18, MM_IO = 19, MM_DEAD_FORK = 20, MM_LAGGED = 21,
       MM_EMPTY = 22 };

/* Private to a process: where the region is mapped, who we are. Never stored in the region. */
typedef struct mm_buf {         /* stores of the commit being built, and where each word's newest value is */
    mm_store *v;
    uint32_t n, cap;
    uint64_t *hash;             /* stamp << 32 | index */
    uint32_t mask, stamp;
    uint32_t failed;            /* memory ran out while it grew: the commit is dropped */
} mm_buf;
typedef struct mm_dirty { uint32_t pgno, frame, old; } mm_dirty;

typedef struct mm_bytes { uint8_t *p; size_t n, cap; } mm_bytes;   /* codec.pxd's Buf */

typedef struct mm_map {
    uint8_t *base, *slots;
    mm_super *super;
    mm_hot *hot;
    mm_desc *desc;
    uint8_t *ring, *data;
    uint32_t *pt, *xmap;
    uint64_t *vis;
    uint64_t ring_bytes, map_bytes, slots_bytes;
    uint32_t cap_units, cap_pages;
    uint32_t n_slots, n_snaps;
    mm_slot *slot;              /* table */
    uint64_t *snap, *owner, *since, *pin;
    mm_reserve *reserve;
    uint32_t me, me_gen;        /* my slot, its generation; me = UINT32_MAX: none */
    uint32_t fork_epoch;
    int32_t slots_fd;
    uint64_t slots_dev, slots_ino;
    int32_t read_only, durable; /* durable: 0 off, 1 normal, 2 full; -1 no files */
    uint32_t unregistered;      /* read-only, and the slots file cannot be written: no slot, no announced snapshots */
    uint32_t failpoint;         /* armed failpoint, 0 = none */
    int32_t failaction;         /* signal to raise there */
    uint32_t corrupt_page;      /* what a kernel found: for the message */
    const char *corrupt_what;
    uint64_t need;              /* what a kernel lacked: frames, granules, bytes */
    uint64_t seen_pages, seen_units;    /* published counts as last loaded; re-loaded before calling a number too large */
    uint32_t hash_ignore;       /* bits of a hash that do not count: none, but in tests that want collisions */
    /* the commit being built; touched only under the commit lock */
    mm_buf buf;
    mm_dirty *dirty; uint32_t n_dirty, cap_dirty;
    uint32_t taken;             /* frames taken */
    uint32_t only_removes;      /* may use the reserve */
    uint32_t changes, fit;      /* of a transaction that found no room: how many it has, how many there was room for; else changes = 0 */
    uint64_t building;          /* number of the commit being built */
    uint64_t now_ns;            /* its wall clock */
    uint8_t *rec; uint64_t rec_n, rec_cap; uint32_t rec_ops;
    uint64_t rec_full; uint32_t rec_refs;       /* its length with all new values in it; ops that name values */
    uint32_t ready;             /* extent that holds the value to be put next, 0 = none */
    uint64_t viewed_granules;   /* what only views kept in the last collection of extents */
    uint64_t *scan; uint32_t n_scan, cap_scan;  /* active snapshots seen by the collector */
    mm_bytes work[2];           /* results of deltas */
    uint32_t *pinned; uint32_t n_pinned, cap_pinned;    /* extents that pins name, sorted, as the collector saw them */
} mm_map;

static inline mm_frame *mm_frame_at(const mm_map *m, uint32_t f) { return (mm_frame *)(m->data + (uint64_t)f * MM_UNIT); }
static inline mm_extent *mm_extent_at(const mm_map *m, uint32_t g) { return (mm_extent *)(m->data + (uint64_t)g * MM_GRANULE); }
static inline uint64_t mm_off(const mm_map *m, const void *p) { return (uint64_t)((const uint8_t *)p - m->base); }

/* A named point of a commit where tests stop or kill this process. */
static inline void mm_fail(const mm_map *m, uint32_t id) {
    if (__builtin_expect(m->failpoint == id, 0)) raise(m->failaction);
}
enum { MM_FP_LOCKED = 1, MM_FP_VALIDATED, MM_FP_APPLIED, MM_FP_LOGGED, MM_FP_FILLED, MM_FP_SEALED, MM_FP_ROLLING, MM_FP_ROLLED,
       MM_FP_UNLOCKED, MM_FP_COLLECTING, MM_FP_GROWING, MM_FP_RESERVED, MM_FP_STORED, MM_FP_COUNT };
#endif
