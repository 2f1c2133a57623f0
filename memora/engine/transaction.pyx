"""Transactions: one snapshot, private writes over it, one commit.

A transaction announces its snapshot S at the start and reads nothing newer. What it writes goes into its overlay. A read-write
transaction remembers what it read (readset.pyx); commit() validates that and raises SerializationError if it no longer holds.
Nothing is locked between two calls, unless it holds the ticket (immediate): then no other commit comes before its own. After fork() it
belongs to the parent only.

READERS     Every read goes through page_at at S and copies what it returns; the announced word is compared with the one stored
            before anything read is handed out: another value means that the snapshot was revoked (SnapshotTooOld).
            An unregistered reader (region.pyx) announces nothing. Each page that it used, and each page whose extents it copied, must
            still have been the version at S afterwards: it is the page's newest, or gc_floor has not passed S (stands). Else
            SnapshotTooOld: Store.reading and the faces begin again at a newer S while no row was handed out.
"""
cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t, int32_t, int64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcmp, memcpy, memset
from memora.engine.btree cimport entries_about, value_bytes
from memora.engine.codec cimport buf_free, whole_bytes
from memora.engine.commit cimport commit_all, read_roots
from memora.engine.delta cimport DELTA_RECORD, delta_once
from memora.engine.extents cimport extent_bytes
from memora.engine.frames cimport Look, page_at, still_there, unregistered_ok
from memora.engine.layout cimport *
from memora.engine.overlay cimport (FINGERS, Node, Overlay, overlay_act, overlay_below, overlay_ceil, overlay_delta, overlay_find, overlay_free, overlay_init,
                                    overlay_set, overlay_top, overlay_undo)
from memora.engine.many cimport expect_way
from memora.engine.page cimport Entry, child_at, entry_at, search, value_at
from memora.engine.procs cimport announce, announced, fork_epoch, lock_release, ticket_release, withdraw
from memora.engine.readset cimport Intent, ReadMark, TreeRef, read_absent, read_back, read_entry, read_free, read_mark
from memora.engine.region cimport Region
from memora.engine.status cimport error
from memora.engine.sync cimport *
from memora.engine.views cimport Held, Views
from memora.engine.tree cimport tree_find
from memora.engine.turns cimport enter

from memora import errors

cdef enum:
    TRIES = 100000
    WHAT = 199                  # bytes of mm_slot.what before its zero


@cython.no_gc_clear              # __dealloc__ needs the region: the collector must not take it away before
cdef class Transaction:
    """A transaction of the engine. Made by Store.begin()."""

    def __cinit__(self, Region region not None, *, bint read_only=False, bint snapshot=False, double timeout_s=5.0, bint immediate=False,
                  bint checkpoint=False, bint wait=True):
        self.closed = True              # until there is a snapshot that __dealloc__ must withdraw
        self.region = region
        self.m = &region.m
        region.use()
        self.read_only = read_only or self.m.read_only
        self.snapshot_isolation = snapshot
        self.timeout_ns = <uint64_t>(timeout_s * 1e9)
        self.epoch = region.epoch
        if self.m.unregistered:
            self.entry = -1
            self.s = mm_ld64(&self.m.hot.commit_seq)
            self.closed = False
            return
        self.entry = region.snapshot_entry()
        if immediate:
            try:
                self.ticket = enter(region, <uint32_t>self.entry, self.timeout_ns if wait else 0, self.timeout_ns // 2)
            except BaseException:
                if not region.closed:
                    region.give_back(<uint32_t>self.entry)
                raise
        self.log = mm_ld64(&self.m.hot.ring_head)
        self.s = announce(self.m, <uint32_t>self.entry, MM_SINCE_CHECKPOINT if checkpoint else 0)
        if immediate:
            lock_release(self.m)        # S is the newest commit, and stays it while the ticket stands
            if self.s == ~<uint64_t>0:
                ticket_release(self.m, self.ticket)
        if self.s == ~<uint64_t>0:
            region.give_back(<uint32_t>self.entry)
            raise errors.CorruptionError(f"region {region.name!r}: versions before commit {self.m.hot.gc_floor} may be gone, "
                                         f"but the newest is {self.m.hot.commit_seq}")
        self.word = announced(self.m, <uint32_t>self.entry)
        self.closed = False

    def __dealloc__(self):
        if self.m != NULL and not self.closed and not self.region.closed and self.epoch == fork_epoch():
            self.let_go()
        if self.has_overlay:
            overlay_free(&self.o)
        read_free(&self.reads)
        free(self.refs)
        free(self.ranges)
        free(self.scratch)
        buf_free(&self.work)

    # ---- state

    cdef int check(self) except -1:
        if self.closed:
            raise errors.ProgrammingError("the transaction is closed")
        if self.epoch != fork_epoch():
            raise errors.ProgrammingError("the transaction was begun before fork(); it stays with the parent process")
        if self.region.closed:
            raise errors.ProgrammingError(f"region {self.region.name!r} is closed")
        return 0

    cdef int alive(self) except -1:
        """The snapshot still stands: asked after reading, before the result is handed out."""
        mm_fence_acq()
        if self.entry >= 0:
            if announced(self.m, <uint32_t>self.entry) != self.word:
                raise error(self.m, MM_TOO_OLD, f"transaction at commit {self.s}")
        elif mm_ld64(&self.m.hot.gc_floor) > self.s:
            self.overtaken()
        return 0

    cdef int stands(self, const Look *look) except -1:
        """As alive(), after the bytes of this page, or extents that it names, were used: an unregistered reader asks for no more."""
        if self.entry >= 0:
            return self.alive()
        if not unregistered_ok(self.m, self.s, look):
            self.overtaken()
        return 0

    cdef int overtaken(self) except -1:
        raise errors.SnapshotTooOld(f"a reader at commit {self.s} that cannot announce its snapshots was overtaken by commit "
                                    f"{self.m.hot.commit_seq}: begin again")

    cdef int writable(self) except -1:
        self.check()
        if self.m.read_only:
            raise error(self.m, MM_READ_ONLY, f"region {self.region.name!r}")
        if self.read_only:
            raise errors.OperationalError("attempt to write in a read-only transaction")
        if not self.has_overlay:
            if overlay_init(&self.o):
                raise MemoryError("transaction: no private memory")
            self.has_overlay = True
        return 0

    cdef uint64_t wall(self) noexcept:
        if self.now == 0:
            self.now = mm_wall_ns()
        return self.now

    cdef int expired(self, uint64_t expiry) noexcept:
        return expiry != 0 and expiry <= self.wall()

    cdef TreeRef *ref(self, uint32_t tree) except NULL:
        """Where a tree is, looked up once a transaction."""
        cdef uint32_t i, tries
        cdef int st = MM_MOVED
        cdef void *p
        if self.last_ref < self.n_refs and self.refs[self.last_ref].tree == tree:
            return &self.refs[self.last_ref]
        for i in range(self.n_refs):
            if self.refs[i].tree == tree:
                self.last_ref = i
                return &self.refs[i]
        if self.n_refs == self.cap_refs:
            p = realloc(self.refs, (self.cap_refs * 2 + 4) * sizeof(TreeRef))
            if p == NULL:
                raise MemoryError("transaction: no private memory")
            self.refs = <TreeRef *>p
            self.cap_refs = self.cap_refs * 2 + 4
        for tries in range(TRIES):
            st = read_roots(self.m, self.s, tree, &self.refs[self.n_refs])
            if st != MM_MOVED:
                break
            self.alive()
        if st:
            self.alive()
            raise error(self.m, st, f"tree {tree}")
        self.last_ref = self.n_refs
        self.n_refs += 1
        return &self.refs[self.last_ref]

    cdef int keep(self, const uint8_t *p, uint64_t n) except -1:
        """Copy bytes to the scratch buffer."""
        cdef void *q
        if n > self.cap_scratch:
            q = realloc(self.scratch, n + n // 4 + 256)
            if q == NULL:
                raise MemoryError(f"transaction: no private memory for a value of {n} bytes")
            self.scratch = <uint8_t *>q
            self.cap_scratch = n + n // 4 + 256
        if n:
            memcpy(self.scratch, p, n)
        return 0

    # ---- reading

    cdef int c_get_expiry(self, uint32_t tree, const uint8_t *k, size_t kn, const uint8_t **v, size_t *vn, uint64_t *expiry) except -1:
        """1: found, *v valid until the next call on this transaction; 0: absent (or expired)."""
        cdef Node *n
        cdef TreeRef *t
        cdef Look look
        cdef Entry e
        cdef const uint8_t *p
        cdef uint64_t size = 0
        cdef uint32_t slot, tries
        cdef int st
        self.check()
        if self.has_overlay:
            n = overlay_find(&self.o, tree, k, kn)
            if n != NULL and n.op:
                if n.op == MM_OP_DELETE or self.expired(n.expiry):
                    return 0
                if n.op == MM_OP_DELTA:
                    looked_at(self, n)
                v[0] = n.val
                vn[0] = n.vn
                expiry[0] = n.expiry
                return 1
        t = self.ref(tree)
        if t.root == 0:
            return 0
        for tries in range(TRIES):
            st = tree_find(self.m, self.s, t, k, kn, &look, &slot)
            if st == MM_FOUND:
                if value_at(look.page, slot, &e) == MM_OK and value_bytes(self.m, &e, &p, &size) == MM_OK and still_there(&look):
                    self.keep(p, size)
                else:
                    st = MM_MOVED
            elif st == MM_NO_TREE:
                self.alive()
                raise error(self.m, st, f"tree {tree}")
            if st != MM_MOVED and still_there(&look):
                break
            st = MM_MOVED
            self.alive()
        if st == MM_MOVED:
            raise error(self.m, st, "reading")
        self.stands(&look)
        if not self.read_only:
            self.saw(st, &look, slot, k, kn)
        if st == MM_ABSENT or self.expired(e.expiry):
            return 0
        v[0] = self.scratch
        vn[0] = size
        expiry[0] = e.expiry
        return 1

    cdef int saw(self, int st, const Look *look, uint32_t slot, const uint8_t *k, size_t kn) except -1:
        """Put a key of the tree last asked for (ref) into the read set: found in a slot, or absent."""
        if (read_entry(&self.reads, self.last_ref, look.pgno, slot) if st == MM_FOUND else
                read_absent(&self.reads, self.last_ref, look.seen, k, kn)):
            raise MemoryError("transaction: no private memory")
        return 0

    cdef int c_get(self, uint32_t tree, const uint8_t *k, size_t kn, const uint8_t **v, size_t *vn) except -1:
        cdef uint64_t expiry
        return self.c_get_expiry(tree, k, kn, v, vn, &expiry)

    cdef object c_view(self, uint32_t tree, const uint8_t *k, size_t kn, object key):
        """The bytes object at an encoded key as a memoryview: of the region, if it lies in an extent; else of a private copy.

        KeyError(key), DataError (no bytes), PinLimit. The pin is made while the snapshot stands, and counts only if that still stood after.
        """
        cdef Views views = self.region.views
        cdef const uint8_t *p
        cdef const uint8_t *q = NULL
        cdef uint64_t expiry = 0, n = 0
        cdef size_t vn = 0
        cdef int64_t length
        cdef Look look
        cdef Entry e
        cdef mm_valref ref
        cdef TreeRef *t
        cdef Node *node = NULL
        cdef Held h
        cdef uint32_t slot, tries
        self.check()
        t = self.ref(tree)
        if self.has_overlay:
            node = overlay_find(&self.o, tree, k, kn)
        if t.root and (node == NULL or not node.op):
            for tries in range(TRIES):
                if tree_find(self.m, self.s, t, k, kn, &look, &slot) != MM_FOUND or value_at(look.page, slot, &e):
                    break                       # c_get says what is the matter
                if not e.vinfo & MM_V_EXT or self.region.unregistered:
                    break
                memcpy(&ref, e.val, sizeof(ref))
                if value_bytes(self.m, &e, &p, &n) or not still_there(&look):
                    self.alive()
                    continue
                if self.expired(e.expiry):
                    break
                h = views.hold(self.region, ref.granule, n, key)
                try:
                    self.alive()
                    if not self.read_only:
                        self.saw(MM_FOUND, &look, slot, k, kn)
                except BaseException:
                    views.drop(h)
                    raise
                return views.shown(h, p, n)
        if not self.c_get_expiry(tree, k, kn, &p, &vn, &expiry):
            raise KeyError(key)
        length = whole_bytes(p, vn, &q)
        if length < 0:
            raise errors.DataError(f"view of {key!r}: its value is not bytes")
        return memoryview(PyBytes_FromStringAndSize(<const char *>q, length))

    # ---- writing

    cdef int c_write(self, uint32_t tree, uint8_t op, const uint8_t *k, size_t kn, const uint8_t *v, size_t vn, uint64_t expiry) except -1:
        self.writable()
        if kn > MM_KEY_MAX:
            raise errors.DataError(f"a key of {kn} bytes; the limit is {MM_KEY_MAX}")
        if vn > 0x7fffffff:
            raise errors.DataError(f"a value of {vn} bytes; the limit is {0x7fffffff}")
        self.ref(tree)
        if overlay_set(&self.o, tree, k, kn, op, v, vn, expiry):
            raise MemoryError("transaction: no private memory")
        if self.n_ranges:
            wrote(self, tree, op, k, kn)
        self.writes += 1
        return 0

    cdef int c_put(self, uint32_t tree, const uint8_t *k, size_t kn, const uint8_t *v, size_t vn) except -1:
        """Insert or replace, blind: nothing is read."""
        cdef Node *n
        self.writable()
        n = overlay_find(&self.o, tree, k, kn)
        return self.c_write(tree, MM_OP_INSERT if n != NULL and n.op == MM_OP_INSERT else MM_OP_PUT, k, kn, v, vn, 0)

    cdef int c_insert(self, uint32_t tree, const uint8_t *k, size_t kn, const uint8_t *v, size_t vn) except -1:
        """1: inserted; 0: the key is there, nothing changed. Absence is checked again at commit."""
        return self.c_insert_until(tree, k, kn, v, vn, 0)

    cdef int beyond(self, uint32_t tree, const uint8_t *k, size_t kn) noexcept:
        """1: at S the tree ends before k. Found out for who goes on behind the last key that the transaction itself put into the tree."""
        cdef const Node *n
        cdef const TreeRef *t
        cdef Look look
        cdef uint32_t leaf, i
        cdef int last, found, c
        if self.edge_n and self.edge_tree == tree:
            c = memcmp(self.edge, k, self.edge_n if self.edge_n < kn else kn)
            return c < 0 or c == 0 and self.edge_n <= kn
        n = self.o.finger[tree % FINGERS].node
        if n == NULL or n.tree != tree or kn > sizeof(self.edge) or overlay_below(&self.o, tree, k, kn) != n or (
                n.next[0] != NULL and n.next[0].tree == tree):
            return 0
        t = &self.refs[self.last_ref]
        if t.tree != tree or t.hashed or not t.root:
            return 0
        leaf = expect_way(self.m, self.s, t.root, tree, k, kn, &last)
        if not leaf or not last or page_at(self.m, self.s, leaf, &look):
            return 0
        i = search(self.m, look.page, k, kn, &found)
        if found or i != look.page.count or look.page.level or look.page.tree != tree or not still_there(&look):
            return 0
        memcpy(self.edge, k, kn)
        self.edge_n = <uint32_t>kn
        self.edge_tree = tree
        return 1

    cdef int c_insert_until(self, uint32_t tree, const uint8_t *k, size_t kn, const uint8_t *v, size_t vn, uint64_t expiry) except -1:
        """c_insert of an entry that expires at a wall clock in ns; 0 = never."""
        cdef Node *n
        cdef const uint8_t *old
        cdef size_t oldn
        cdef ReadMark before = read_mark(&self.reads)
        self.writable()
        n = overlay_find(&self.o, tree, k, kn)
        if n != NULL and n.op:
            if n.op != MM_OP_DELETE and not self.expired(n.expiry):
                if n.op == MM_OP_DELTA:
                    looked_at(self, n)
                return 0
            self.c_write(tree, MM_OP_PUT, k, kn, v, vn, expiry)
            return 1
        if not self.beyond(tree, k, kn) and self.c_get(tree, k, kn, &old, &oldn):
            return 0
        read_back(&self.reads, before)      # the commit itself checks that the key is absent: the leaf may change
        self.c_write(tree, MM_OP_INSERT, k, kn, v, vn, expiry)
        return 1

    cdef int c_delta(self, uint32_t tree, const uint8_t *k, size_t kn, uint8_t kind, const uint8_t *argument, uint32_t n, uint64_t until) except -1:
        """Change a value by a delta, which the commit evaluates: the value at S is not in the read set. until: expiry of a new entry.

        MM_OK; MM_CONFLICT: the kernel does not know this value, nothing was changed: read and write it.
        """
        cdef Node *node
        cdef const uint8_t *v = NULL
        cdef size_t vn = 0
        cdef uint64_t expiry = until
        cdef int found, st
        cdef uint8_t op = 0
        cdef ReadMark before = read_mark(&self.reads)
        self.writable()
        node = overlay_find(&self.o, tree, k, kn)
        if node != NULL and node.op:
            op = node.op
            found = op != MM_OP_DELETE and not self.expired(node.expiry)
            if op == MM_OP_DELTA and (node.delta.kind != kind or not found):
                return MM_CONFLICT
            if found:
                v = node.val
                vn = node.vn
                expiry = node.expiry
        else:
            found = self.c_get_expiry(tree, k, kn, &v, &vn, &expiry)
            read_back(&self.reads, before)          # the kernel looks at the value again when the commit is applied
            if not found:
                expiry = until
        st = delta_once(kind, v, vn, found, argument, n, &self.work)
        if st == MM_NOMEM:
            raise MemoryError("transaction: no private memory")
        if st:
            return st
        if op and op != MM_OP_DELTA:
            self.c_write(tree, MM_OP_INSERT if op == MM_OP_INSERT else MM_OP_PUT, k, kn, self.work.p, self.work.n, expiry)
            return MM_OK
        if kn > MM_KEY_MAX:
            raise errors.DataError(f"a key of {kn} bytes; the limit is {MM_KEY_MAX}")
        self.ref(tree)
        if overlay_delta(&self.o, tree, k, kn, self.work.p, self.work.n, expiry, until, kind, argument, n):
            raise MemoryError("transaction: no private memory")
        self.writes += 1
        return MM_OK

    cdef int c_delete(self, uint32_t tree, const uint8_t *k, size_t kn) except -1:
        """1: removed; 0: it was absent."""
        cdef Node *n
        cdef const uint8_t *old
        cdef size_t oldn
        self.writable()
        if not self.c_get(tree, k, kn, &old, &oldn):
            return 0
        n = overlay_find(&self.o, tree, k, kn)
        if n != NULL and n.op == MM_OP_INSERT and not self.snapshot_isolation:
            observe(self, tree, k, kn)      # the commit will no longer check that the key is absent, but the caller was told so
            self.c_write(tree, 0, k, kn, NULL, 0, 0)
        else:
            self.c_write(tree, MM_OP_DELETE, k, kn, NULL, 0, 0)
        return 1

    # ---- trees

    cdef uint32_t create(self, uint32_t kind, const uint8_t *control, size_t n) except 0:
        cdef uint32_t tree
        cdef TreeRef *t
        cdef void *p
        self.writable()
        # a number for good: trees that are rolled back leave a hole, and no two transactions get the same
        tree = self.region.tree_number()
        if overlay_act(&self.o, MM_OP_CREATE, tree, kind, control, n):
            raise MemoryError("transaction: no private memory")
        if self.n_refs == self.cap_refs:
            p = realloc(self.refs, (self.cap_refs * 2 + 4) * sizeof(TreeRef))
            if p == NULL:
                raise MemoryError("transaction: no private memory")
            self.refs = <TreeRef *>p
            self.cap_refs = self.cap_refs * 2 + 4
        t = &self.refs[self.n_refs]
        memset(t, 0, sizeof(TreeRef))
        t.tree = tree
        t.kind = kind & MM_MADE_KIND
        t.hashed = kind >> MM_MADE_SHIFT & MM_ROOTF_HASH
        self.n_refs += 1
        return tree

    cpdef uint32_t create_tree(self) except 0:
        """Create an empty tree in this transaction; its number is never used again."""
        return self.create(MM_ROOT_TREE, NULL, 0)

    def create_hash(self) -> int:
        """Create an empty hash index: a tree for points only, whose cursors know nothing but first() and next()."""
        return self.create(MM_ROOT_TREE | MM_ROOTF_HASH << MM_MADE_SHIFT, NULL, 0)

    def create_bounded(self, uint64_t max_bytes, bint hashed=False) -> int:
        """Create a tree, or a hash index, whose keys and values (and 32 bytes an entry) never take more than max_bytes: it evicts."""
        cdef mm_control c
        memset(&c, 0, sizeof(c))
        c.max_bytes = max_bytes
        return self.create(MM_ROOT_BOUNDED | (MM_ROOTF_HASH << MM_MADE_SHIFT if hashed else 0), <uint8_t *>&c, sizeof(c))

    def create_topic(self, uint64_t ring_bytes) -> int:
        """Create a tree with a message ring of ring_bytes (rounded up to 1 KiB)."""
        cdef mm_control c
        memset(&c, 0, sizeof(c))
        c.ring_bytes = (ring_bytes + 1023) // 1024 * 1024
        c.head_seq = 1
        c.tail_seq = 1
        return self.create(MM_ROOT_TOPIC, <uint8_t *>&c, sizeof(c))

    cpdef drop_tree(self, uint32_t tree):
        """Drop a tree and everything in it at commit."""
        cdef Node *n
        cdef uint32_t i
        self.writable()
        self.ref(tree)
        n = overlay_ceil(&self.o, tree, <const uint8_t *>b"", 0)
        while n != NULL and n.tree == tree:
            if n.op:
                overlay_set(&self.o, tree, n.key, n.kn, 0, NULL, 0, 0)
            n = n.next[0]
        if overlay_act(&self.o, MM_OP_DROP, tree, 0, NULL, 0):
            raise MemoryError("transaction: no private memory")
        self.writes += 1

    def publish(self, uint32_t tree, bytes payload not None):
        """Append a message to a topic's ring at commit."""
        self.writable()
        self.ref(tree)
        if overlay_act(&self.o, MM_OP_MESSAGE, tree, 0, <const uint8_t *>PyBytes_AS_STRING(payload), PyBytes_GET_SIZE(payload)):
            raise MemoryError("transaction: no private memory")

    def control(self, uint32_t tree) -> dict:
        """The counters of a bounded tree or a topic, as of now (not of the snapshot)."""
        cdef TreeRef *t
        cdef mm_control *c
        self.check()
        t = self.ref(tree)
        if t.control == 0:
            raise errors.ProgrammingError(f"tree {tree} has no counters")
        c = <mm_control *>extent_bytes(self.m, t.control, sizeof(mm_control))
        if c == NULL:
            raise error(self.m, MM_MOVED, f"control of tree {tree}")
        if t.kind == MM_ROOT_BOUNDED:
            return {"bytes": c.bytes, "entries": c.entries, "max_bytes": c.max_bytes, "evicted": c.evicted}
        return {"first": c.tail_seq, "next": c.head_seq, "bytes": c.head - c.tail, "max_bytes": c.ring_bytes}

    # ---- savepoints and the end

    cpdef int savepoint(self) except -1:
        """A mark to roll back to. Marks are numbers from 0 on."""
        self.check()
        if self.marks is None:
            self.marks = []
        self.marks.append((self.o.n_undo if self.has_overlay else 0, self.o.n_action if self.has_overlay else 0))
        return len(self.marks) - 1

    cpdef rollback_to(self, int savepoint):
        """Undo the writes made since the mark, which stays; later marks go."""
        cdef Node *n
        cdef uint32_t i = self.o.n_undo
        self.check()
        if self.marks is None or not 0 <= savepoint < len(self.marks):
            raise errors.ProgrammingError(f"no savepoint {savepoint}")
        del self.marks[savepoint + 1:]
        if self.has_overlay:
            while i > <uint32_t>self.marks[savepoint][0]:       # as in c_delete
                i -= 1
                n = self.o.undo[i].node
                if n.op == MM_OP_INSERT or n.op == MM_OP_DELTA and n.delta.kind == DELTA_RECORD:     # that the row is there was told
                    observe(self, n.tree, n.key, n.kn)
            overlay_undo(&self.o, self.marks[savepoint][0], self.marks[savepoint][1])
            for i in range(self.n_ranges):
                self.ranges[i].dirty = 1
        self.writes += 1

    def release(self, int savepoint):
        """Forget the mark and those after it; the writes stay."""
        self.check()
        if self.marks is None or not 0 <= savepoint < len(self.marks):
            raise errors.ProgrammingError(f"no savepoint {savepoint}")
        del self.marks[savepoint:]

    cdef int let_go(self) except -1:
        """Give back what the region keeps for this transaction: the ticket, the snapshot, the word of what it does."""
        give_up(self)
        if self.ticket:
            ticket_release(self.m, self.ticket)
            if self.region.ticket == self.ticket:
                self.region.ticket = 0
        if self.said and self.m.me < self.m.n_slots:
            self.m.slot[self.m.me].what[0] = 0
        if self.entry < 0:
            return 0
        withdraw(self.m, <uint32_t>self.entry)
        return self.region.give_back(<uint32_t>self.entry)

    cpdef say(self, bytes what):
        """Tell the other processes what this one does (UTF-8, cut to 199 bytes), until the transaction ends. For messages and lists."""
        cdef char *to
        cdef size_t n = PyBytes_GET_SIZE(what)
        if self.m.me < self.m.n_slots and not self.closed:
            to = self.m.slot[self.m.me].what
            n = n if n < WHAT else WHAT
            memcpy(to, PyBytes_AS_STRING(what), n)
            to[n] = 0
            self.said = True

    @property
    def ticket_held(self) -> bool:
        """Does it hold the ticket: no other commit comes before its own? Lost past the deadline, if somebody waits."""
        self.check()
        return self.ticket != 0 and mm_ld64(&self.m.hot.ticket) == self.ticket

    cdef int finish(self) except -1:
        self.closed = True
        self.let_go()
        if self.has_overlay:
            overlay_free(&self.o)
            self.has_overlay = False
        return 0

    cpdef uint64_t commit(self) except? 0:
        """Make the writes one commit and return its number (the snapshot's, if nothing was written). The transaction is closed.

        SerializationError: what it read has changed; LockTimeout; RegionFull; SnapshotTooOld: nothing was written.
        """
        cdef uint64_t number = self.s
        cdef Intent w
        self.check()
        if self.has_overlay and self.has_writes():
            self.alive()
            w.o = &self.o
            w.refs = self.refs
            w.n_refs = self.n_refs
            w.reads = &self.reads
            w.snapshot = self.snapshot_isolation
            w.log = self.log
            w.s = self.s
            w.schema = self.on_schema
            w.now = self.wall()
            w.entry = &self.m.snap[self.entry]
            w.word = self.word
            try:
                commit_all(self.region, &w, self.timeout_ns, &number, self.ticket)
            except BaseException as e:
                lost = self.ticket and not self.region.closed and mm_ld64(&self.m.hot.ticket) != self.ticket
                if not self.region.closed:
                    self.finish()
                self.closed = True
                if lost and isinstance(e, errors.SerializationError):
                    raise errors.SerializationError(f"{e}. Its ticket was lost: {self.timeout_ns / 2e9:g} s (half the timeout) had passed, "
                                                    "and others waited") from None
                raise
            if self.region.after_commit is not None:
                self.finish()
                self.region.after_commit(number)
                return number
        self.finish()
        return number

    def has_writes(self) -> bool:
        """Has anything been written that commit() would publish?"""
        cdef Node *n
        if not self.has_overlay:
            return False
        if self.o.n_action:
            return True
        n = self.o.head.next[0]
        while n != NULL:
            if n.op:
                return True
            n = n.next[0]
        return False

    cpdef rollback(self):
        """Drop the writes. Idempotent."""
        if self.closed:
            return
        if self.region.closed or self.epoch != fork_epoch():
            self.closed = True
            return
        self.finish()

    @property
    def snapshot(self) -> int:
        """The commit this transaction reads."""
        return self.s

    def schema_version(self) -> int:
        """The commit that last changed the catalog, as this transaction sees it; -1 once it changed the catalog itself."""
        return self.c_schema_version()

    cdef int64_t c_schema_version(self) except? -1:
        cdef uint64_t newest = mm_ld64(&self.m.hot.schema_seq)
        cdef const uint8_t *v
        cdef size_t n
        cdef uint64_t expiry, number = 0
        cdef Node *node
        self.check()
        if self.has_overlay:
            node = overlay_ceil(&self.o, MM_TREE_CATALOG, <const uint8_t *>b"", 0)
            if node != NULL:
                return -1 - <int64_t>self.writes
        if newest <= self.s:
            return newest
        # the newest change is not seen here: nothing that is cached by a version may be used
        return -2 - (<int64_t>self.s << 20)

    def rest_on_schema(self):
        """What is written from here on rests on the whole catalog at S: the commit is a conflict if it has changed since."""
        self.on_schema = True

    @property
    def store_now_ns(self) -> int:
        """The wall clock of this snapshot in ns: what expires by it is absent."""
        return self.wall()

    cpdef int64_t entries_about(self, uint32_t tree) except? -2:
        """How many entries a B+tree has at S, guessed from a page of each level; -1: nobody knows. It is no read that a commit has to uphold."""
        cdef TreeRef *t
        cdef uint32_t tries
        cdef int64_t found = -1
        self.check()
        t = self.ref(tree)
        if t.root and not t.hashed:
            for tries in range(4):
                found = entries_about(self.m, self.s, t.root, tree)
                if found >= 0:
                    break
        return found

    # ---- Python twins of the C calls

    def get(self, uint32_t tree, bytes key not None):
        """The value, or None."""
        cdef const uint8_t *v
        cdef size_t n
        if self.c_get(tree, <const uint8_t *>PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key), &v, &n):
            return PyBytes_FromStringAndSize(<const char *>v, n)
        return None

    def get_until(self, uint32_t tree, bytes key not None):
        """(value, wall clock in ns at which it is gone, 0 = never), or None."""
        cdef const uint8_t *v
        cdef size_t n
        cdef uint64_t expiry
        if self.c_get_expiry(tree, <const uint8_t *>PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key), &v, &n, &expiry):
            return PyBytes_FromStringAndSize(<const char *>v, n), expiry
        return None

    def put(self, uint32_t tree, bytes key not None, bytes value not None, uint64_t expiry_ns=0):
        """Insert or replace. expiry_ns: wall clock at which the entry is gone, 0 = never."""
        cdef Node *n
        self.writable()
        n = overlay_find(&self.o, tree, <const uint8_t *>PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key))
        self.c_write(tree, MM_OP_INSERT if n != NULL and n.op == MM_OP_INSERT else MM_OP_PUT, <const uint8_t *>PyBytes_AS_STRING(key),
                     PyBytes_GET_SIZE(key), <const uint8_t *>PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value), expiry_ns)

    def insert(self, uint32_t tree, bytes key not None, bytes value not None) -> bool:
        """Insert; False: the key is there."""
        return bool(self.c_insert(tree, <const uint8_t *>PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key),
                                  <const uint8_t *>PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value)))

    def delete(self, uint32_t tree, bytes key not None) -> bool:
        """Remove; False: it was absent."""
        return bool(self.c_delete(tree, <const uint8_t *>PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key)))


cdef int observe(Transaction t, uint32_t tree, const uint8_t *k, size_t kn) except -1:
    """Put what S has of a key into the read set."""
    cdef TreeRef *r = t.ref(tree)
    cdef Look look
    cdef uint32_t slot, tries
    cdef int st
    if r.root == 0:
        return 0
    for tries in range(TRIES):
        st = tree_find(t.m, t.s, r, k, kn, &look, &slot)
        if st != MM_MOVED and still_there(&look):
            if st == MM_NO_TREE:
                raise error(t.m, st, f"tree {tree}")
            return t.saw(st, &look, slot, k, kn)
        t.alive()
    raise error(t.m, MM_MOVED, "reading")


cdef int looked_at(Transaction t, Node *n) except -1:
    """A key with deltas is read: what it shows is what they make of the value at S, so that has to hold, or else it is a plain write."""
    if not t.snapshot_isolation:
        return observe(t, n.tree, n.key, n.kn)
    if overlay_set(&t.o, n.tree, n.key, n.kn, MM_OP_PUT, n.val, n.vn, n.expiry):
        raise MemoryError("transaction: no private memory")
    return 0


# ---- numbers taken (rowids.pyx)

cdef void wrote(Transaction t, uint32_t tree, uint8_t op, const uint8_t *k, size_t kn) noexcept:
    """Keep a tree's range of numbers right when a key of it is written."""
    cdef Range *r
    cdef uint64_t n = 0
    cdef uint32_t i
    for i in range(t.n_ranges):
        r = &t.ranges[i]
        if r.tree != tree:
            continue
        if op == MM_OP_DELETE or op == 0:
            r.dirty = 1                 # the largest may be gone
        elif kn == 8:
            for i in range(8):
                n = n << 8 | k[i]
            if n >= r.next:
                r.next = n + 1
                r.dirty |= n == ~<uint64_t>0
        return


cdef void give_up(Transaction t) noexcept:
    """Free what was reserved, so that who asks next gets the numbers that were not used. A revoked owner's are dead by themselves."""
    cdef uint32_t i
    if t.n_ranges and announced(t.m, <uint32_t>t.entry) == t.word:
        for i in range(t.n_ranges):
            if t.ranges[i].place >= 0:
                mm_st64(&t.m.reserve[t.ranges[i].place].word, 0)
    t.n_ranges = 0
