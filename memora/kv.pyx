"""Key spaces: a mapping over one tree, for single keys, scans and batches.

Keys are int, str and bytes, kept apart and ordered int < str < bytes; values are what the value codec takes (codec.pyx), pickles only
in a space opened with pickle=True. A space bound to a transaction reads its snapshot and writes into it; an unbound one
makes each call a commit of its own.

READERS     A point read announces nothing: it copies the value out at S = commit_seq, then checks that nothing was recycled
            meanwhile (frames.pyx, unregistered_ok); else it starts again with a newer S, after some tries with an announced one.
"""
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint32_t, uint64_t, int64_t
from libc.string cimport memcpy
from memora.engine.btree cimport find, value_bytes
from memora.engine.codec cimport (Buf, buf_free, buf_init, buf_put, decode_key_object, decode_value_object, encode_key_object, encode_value_object,
                                  buf_reserve, bytes_head, key_prefix_end, whole_bytes)
from memora.engine.commit cimport TreeRef, commit_delta, commit_large, commit_one, read_roots
from memora.engine.delta cimport DELTA_NUMBER, NUMBER_BYTES, number_argument
from memora.engine.frames cimport Look, still_there, unregistered_ok
from memora.engine.layout cimport *
from memora.engine.many cimport expect_entry, expect_way
from memora.engine.overlay cimport Delta
from memora.engine.page cimport Entry, value_at
from memora.engine.procs cimport fork_epoch
from memora.engine.region cimport Region
from memora.engine.status cimport error
from memora.engine.sync cimport *
from memora.engine.cursor cimport Cursor
from memora.engine.tree cimport tree_find
from memora.engine.transaction cimport Transaction
from memora.engine.views cimport Held, Views
from memora.scans cimport Scan

import random
import time
from collections.abc import MutableMapping

from memora import errors
from memora.engine import codec

cdef enum:
    AHEAD = 32          # keys of get_many whose pages are asked for together
    LARGE = 32 << 10    # bytes objects this long are copied from the object to their place, and nowhere else
    TRIES = 16          # reads without an announced snapshot, before one is announced

_ABSENT = object()

cdef struct Addition:
    Delta delta
    uint8_t argument[NUMBER_BYTES]


cdef class Space:
    """The fast half of a key space or cache: point reads and writes. Made by KeySpace and Cache."""

    def __cinit__(self, store, str name, row, bint pickle=False, Transaction transaction=None):
        self.store = store
        self.region = store.region
        self.name = name
        self.row = row
        self.pickle = pickle
        self.transaction = transaction
        self.timeout_ns = <uint64_t>(store.timeout_s * 1e9)
        self.t.tree = row["tree"]
        buf_init(&self.key)
        buf_init(&self.value)
        if transaction is None:
            self.resolve()

    def __dealloc__(self):
        buf_free(&self.key)
        buf_free(&self.value)

    cdef int resolve(self) except -1:
        cdef mm_map *m = &self.region.m
        cdef uint32_t tree = self.t.tree
        cdef int st = MM_MOVED, i
        self.region.use()
        for i in range(100000):
            st = read_roots(m, mm_ld64(&m.hot.commit_seq), tree, &self.t)
            if st != MM_MOVED:
                break
        if st:
            raise error(m, st, f"{self.name!r}")
        return 0

    # ---- reading

    cdef object read(self, const uint8_t *k, size_t kn, object default):
        """The decoded value of an encoded key, at the newest commit."""
        cdef mm_map *m = &self.region.m
        cdef uint8_t copy[1040]
        cdef Look look
        cdef Entry e
        cdef const uint8_t *p
        cdef const uint8_t *q = NULL
        cdef uint64_t s, n
        cdef int64_t length
        cdef uint32_t slot
        cdef int st, i
        for i in range(TRIES):
            s = mm_ld64(&m.hot.commit_seq)
            st = tree_find(m, s, &self.t, k, kn, &look, &slot)
            if st == MM_FOUND:
                if value_at(look.page, slot, &e):
                    continue
                if e.vinfo & MM_V_EXT:
                    if value_bytes(m, &e, &p, &n):
                        continue
                    length = whole_bytes(p, n, &q)
                    data = PyBytes_FromStringAndSize(<const char *>(q if length >= 0 else p), length if length >= 0 else n)
                    if not still_there(&look) or not unregistered_ok(m, s, &look):
                        continue
                    if e.expiry and e.expiry <= mm_wall_ns():
                        return default
                    self.visit(&look, slot)
                    return data if length >= 0 else decode_value_object(<const uint8_t *><char *>data, n, self.pickle)
                n = e.vn if e.vn <= sizeof(copy) else sizeof(copy)
                memcpy(copy, e.val, n)
                if not still_there(&look) or (look.hopped and not unregistered_ok(m, s, &look)):
                    continue
                if e.expiry and e.expiry <= mm_wall_ns():
                    return default
                self.visit(&look, slot)
                return decode_value_object(copy, n, self.pickle)
            if st == MM_ABSENT:
                if not still_there(&look) or (look.hopped and not unregistered_ok(m, s, &look)):
                    continue
                return default
            if st == MM_NO_TREE:
                raise error(m, st, f"{self.name!r}")
        return self._registered(PyBytes_FromStringAndSize(<const char *>k, kn), default)

    cdef void visit(self, const Look *look, uint32_t slot) noexcept:
        """Mark an entry of a bounded tree as used: one relaxed bit, written only when it is not set."""
        cdef mm_map *m = &self.region.m
        cdef uint64_t bit
        if self.t.kind == MM_ROOT_BOUNDED and not m.read_only:
            bit = <uint64_t>1 << (slot & 63)
            if not mm_ld64r(&m.vis[look.pgno]) & bit:
                mm_or64r(&m.vis[look.pgno], bit)

    def _registered(self, bytes key, default):
        """The same in a transaction: for a key whose page changes all the time."""
        def work(Transaction t):
            cdef const uint8_t *v
            cdef size_t n
            if t.c_get(self.t.tree, <const uint8_t *><char *>key, len(key), &v, &n):
                return decode_value_object(v, n, self.pickle)
            return default
        return self.store.reading(work)

    def get(self, key, default=None):
        """The value of a key, or default."""
        cdef Buf b
        cdef const uint8_t *v
        cdef size_t n
        if self.region.closed or self.region.epoch != fork_epoch():
            self.region.use()
        b = self.key                    # taken out, so that a thread switch finds another one
        buf_init(&self.key)
        b.n = 0
        try:
            encode_key_object(key, &b)
            if self.transaction is None:
                return self.read(b.p, b.n, default)
            if self.transaction.c_get(self.t.tree, b.p, b.n, &v, &n):
                return decode_value_object(v, n, self.pickle)
            return default
        finally:
            buf_free(&self.key)
            self.key = b

    def view(self, key) -> memoryview:
        """The bytes of a key's value as a read-only memoryview, which shows them for as long as it is held, whatever happens to the key.

        Values over about 1 KB are not copied: the view pins them in the region, and the database cannot be closed before it is released
        (ViewsOut). Smaller ones are a private copy. KeyError: no such key; DataError: its value is not bytes; PinLimit: views hold
        a quarter of the region already.
        """
        cdef Buf b
        if self.region.closed or self.region.epoch != fork_epoch():
            self.region.use()
        b = self.key
        buf_init(&self.key)
        b.n = 0
        try:
            encode_key_object(key, &b)
            return self.view_bytes(b.p, b.n, key)
        finally:
            buf_free(&self.key)
            self.key = b

    cdef object view_bytes(self, const uint8_t *k, size_t kn, object key):
        cdef mm_map *m = &self.region.m
        cdef Look look
        cdef Entry e
        cdef mm_valref ref
        cdef const uint8_t *p
        cdef const uint8_t *q
        cdef uint64_t s, n
        cdef int64_t length
        cdef uint32_t slot
        cdef int st, i
        cdef Held h
        cdef Transaction t = self.transaction
        if t is not None:
            return t.c_view(self.t.tree, k, kn, key)
        for i in range(TRIES):
            s = mm_ld64(&m.hot.commit_seq)
            st = tree_find(m, s, &self.t, k, kn, &look, &slot)
            if st == MM_NO_TREE:
                raise error(m, st, f"{self.name!r}")
            if st == MM_ABSENT and still_there(&look) and (not look.hopped or unregistered_ok(m, s, &look)):
                raise KeyError(key)
            if st != MM_FOUND or value_at(look.page, slot, &e):
                continue
            if not e.vinfo & MM_V_EXT or self.region.unregistered:     # who may not write the slots file can pin nothing
                break
            memcpy(&ref, e.val, sizeof(ref))
            if value_bytes(m, &e, &p, &n) or not still_there(&look):
                continue
            if e.expiry and e.expiry <= mm_wall_ns():
                raise KeyError(key)
            h = self.region.views.hold(self.region, ref.granule, n, key)
            if not unregistered_ok(m, s, &look):
                self.region.views.drop(h)
                continue
            self.visit(&look, slot)
            return self.region.views.shown(h, p, n)
        else:                               # as read(): with an announced snapshot
            t = Transaction(self.region, read_only=True)
            try:
                return t.c_view(self.t.tree, k, kn, key)
            finally:
                t.rollback()
        value = self.read(k, kn, _ABSENT)
        if value is _ABSENT:
            raise KeyError(key)
        if type(value) is not bytes:
            raise errors.DataError(f"view of {key!r}: its value is not bytes")
        return memoryview(value)

    def __getitem__(self, key):
        value = self.get(key, _ABSENT)
        if value is _ABSENT:
            raise KeyError(key)
        return value

    def __contains__(self, key) -> bool:
        return self.get(key, _ABSENT) is not _ABSENT

    # ---- writing

    cdef int write(self, int op, object key, object value, uint64_t expiry) except -1:
        """MM_FOUND, MM_ABSENT or MM_EXISTS, as commit_one."""
        cdef Buf k, v
        cdef uint8_t head[16]
        cdef uint64_t commit = 0
        cdef int st
        if self.region.closed or self.region.epoch != fork_epoch():
            self.region.use()
        k = self.key
        v = self.value
        buf_init(&self.key)
        buf_init(&self.value)
        k.n = 0
        v.n = 0
        try:
            encode_key_object(key, &k)
            if k.n > MM_KEY_MAX:
                raise errors.DataError(f"a key of {k.n} bytes; the limit is {MM_KEY_MAX}")
            if op != MM_OP_DELETE and self.transaction is None and type(value) is bytes and LARGE <= PyBytes_GET_SIZE(value) < 0x7ffffff0:
                st = commit_large(self.region, &self.t, <uint8_t>op, k.p, k.n, head, bytes_head(PyBytes_GET_SIZE(value), head),
                                  <const uint8_t *>PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value), expiry, self.timeout_ns, &commit)
                if self.region.after_commit is not None and st != MM_EXISTS:
                    self.region.after_commit(commit)
                return st
            if op != MM_OP_DELETE:
                encode_value_object(value, &v, self.pickle)
                if v.n > 0x7fffffff:
                    raise errors.DataError(f"a value of {v.n} bytes; the limit is {0x7fffffff}")
            if self.transaction is not None:
                if op == MM_OP_DELETE:
                    return MM_FOUND if self.transaction.c_delete(self.t.tree, k.p, k.n) else MM_ABSENT
                if op == MM_OP_INSERT:
                    return MM_ABSENT if self.transaction.c_insert_until(self.t.tree, k.p, k.n, v.p, v.n, expiry) else MM_EXISTS
                self.transaction.c_write(self.t.tree, MM_OP_PUT, k.p, k.n, v.p, v.n, expiry)
                return MM_OK
            st = commit_one(self.region, &self.t, <uint8_t>op, k.p, k.n, v.p, v.n, expiry, self.timeout_ns, &commit)
            if self.region.after_commit is not None and st != MM_EXISTS:
                self.region.after_commit(commit)
            return st
        finally:
            buf_free(&self.key)
            buf_free(&self.value)
            self.key = k
            self.value = v

    def put(self, key, value, uint64_t expiry_ns=0):
        """Set a key. expiry_ns: wall clock at which it is gone, in ns; 0 = never."""
        self.write(MM_OP_PUT, key, value, expiry_ns)

    def __setitem__(self, key, value):
        self.write(MM_OP_PUT, key, value, 0)

    def add(self, key, value, uint64_t expiry_ns=0) -> bool:
        """Set a key only if it is absent. False: it was there, nothing changed."""
        return self.write(MM_OP_INSERT, key, value, expiry_ns) != MM_EXISTS

    def delete(self, key) -> bool:
        """Remove a key. False: it was absent."""
        return self.write(MM_OP_DELETE, key, None, 0) == MM_FOUND

    def __delitem__(self, key):
        if not self.delete(key):
            raise KeyError(key)

    # ---- many at once

    def bound(self, Transaction transaction):
        """The same space inside a transaction."""
        return type(self)(self.store, self.name, self.row, self.pickle, transaction)

    def atomically(self, work):
        """work(space bound to a transaction), as one commit; run again on a conflict. In a bound space: just work(self)."""
        if self.transaction is not None:
            return work(self)
        return self.store.run(lambda txn: work(self.bound(txn)))

    def get_many(self, keys) -> dict:
        """The keys that are there, with their values, all at one commit."""
        cdef list wanted = list(keys)
        if self.transaction is None:
            return self.store.reading(lambda t: self._get_many(t, wanted))
        return self._get_many(self.transaction, wanted)

    def _get_many(self, Transaction t, list wanted):
        cdef Buf b
        cdef Py_ssize_t at
        cdef dict out = {}
        buf_init(&b)
        try:
            for at in range(0, len(wanted), AHEAD):
                self.get_some(t, wanted, at, min(at + AHEAD, len(wanted)), &b, out)
        finally:
            buf_free(&b)
        return out

    cdef int get_some(self, Transaction t, list keys, Py_ssize_t at, Py_ssize_t end, Buf *b, dict out) except -1:
        """keys[at:end], at most AHEAD; their pages are asked for before the first is read (many.pyx)."""
        cdef const uint8_t *k[AHEAD]
        cdef size_t ends[AHEAD]
        cdef uint32_t leaf[AHEAD]
        cdef uint32_t i, slot, n = <uint32_t>(end - at), tree = self.t.tree, root
        cdef bint plain
        cdef const uint8_t *v
        cdef size_t vn, kn
        cdef Look look
        cdef Entry e
        cdef int st, last
        t.check()
        root = t.ref(tree).root
        plain = t.read_only and not t.has_overlay and not t.ref(tree).hashed and t.entry >= 0
        b.n = 0
        for i in range(n):
            encode_key_object(keys[at + i], b)
            ends[i] = b.n
        for i in range(n):
            k[i] = b.p + (ends[i - 1] if i else 0)
            leaf[i] = expect_way(t.m, t.s, root, tree, k[i], b.p + ends[i] - k[i], &last) if plain else 0
        for i in range(n):
            expect_entry(t.m, t.s, leaf[i], k[i], b.p + ends[i] - k[i])
        for i in range(n):
            kn = b.p + ends[i] - k[i]
            st = MM_MOVED
            if leaf[i]:
                st = find(t.m, t.s, leaf[i], tree, k[i], kn, &look, &slot)
                if st == MM_FOUND:
                    if value_at(look.page, slot, &e) or e.vinfo & (MM_V_EXT | MM_V_EXPIRY):
                        st = MM_MOVED
                    else:
                        t.keep(e.val, e.vn)
                if not still_there(&look):
                    st = MM_MOVED
            if st == MM_FOUND:
                out[keys[at + i]] = decode_value_object(t.scratch, e.vn, self.pickle)
            elif st != MM_ABSENT and t.c_get(tree, k[i], kn, &v, &vn):
                out[keys[at + i]] = decode_value_object(v, vn, self.pickle)
        if t.entry >= 0:
            t.alive()                   # before any of it is handed out
        return 0

    def put_many(self, pairs, uint64_t expiry_ns=0):
        """Set all keys of a mapping, or of (key, value) pairs, in one commit."""
        items = list(pairs.items() if hasattr(pairs, "items") else pairs)
        self.atomically(lambda s: _put_all(s, items, expiry_ns))

    def delete_many(self, keys) -> int:
        """Remove keys in one commit; how many were there."""
        keys = list(keys)
        return self.atomically(lambda s: sum([s.delete(k) for k in keys]))

    def incr(self, key, by=1, initial=0):
        """Add to a number and return the new value; an absent key counts as initial. TypeError: the value is no number.

        Outside a transaction it never conflicts. Inside one the number is read, so a commit that changes it meanwhile is a conflict;
        bump() has none. An entry that expires keeps its time.
        """
        return self._incr(key, by, initial, 0)

    def bump(self, key, by=1, initial=0):
        """Add to a number without looking at it: in a transaction it is never in conflict with others that do the same. Returns None.

        The commit adds, to what is there by then. An absent key counts as initial. TypeError: the value is no number.
        """
        self._bump(key, by, initial, 0)

    def _incr(self, key, by, initial, uint64_t until):
        """until: wall clock in ns at which an entry that this makes is gone, 0 = never."""
        if self.transaction is None:
            value = self.count(key, by, initial, until)
            if value is not None:
                return value

        def work(space):
            value, expiry_ns = space._found(key) or (initial, until)
            if type(value) not in (int, float):
                raise TypeError(f"{key!r} holds {type(value).__name__}, not a number")
            value += by
            space.put(key, value, expiry_ns)
            return value
        return self.atomically(work)

    def _bump(self, key, by, initial, uint64_t until):
        if self.transaction is None or self.count(key, by, initial, until) is None:
            self._incr(key, by, initial, until)

    def _found(self, key):
        """(value, expiry in ns) in this transaction; None: absent."""
        found = self.transaction.get_until(self.t.tree, codec.encode_key(key))
        return (codec.decode_value(found[0], self.pickle), found[1]) if found else None

    cdef object count(self, object key, object by, object initial, uint64_t until):
        """Add by a delta; the new value, or True in a transaction. None: that cannot be done by a delta, and nothing was changed."""
        cdef Addition a
        cdef Buf k, v
        cdef uint64_t commit = 0
        if self.region.closed or self.region.epoch != fork_epoch():
            self.region.use()
        if not number_argument(by, initial, a.argument):
            return None
        k = self.key
        v = self.value
        buf_init(&self.key)
        buf_init(&self.value)
        k.n = 0
        v.n = 0
        try:
            encode_key_object(key, &k)
            if k.n > MM_KEY_MAX:
                raise errors.DataError(f"a key of {k.n} bytes; the limit is {MM_KEY_MAX}")
            if self.transaction is not None:
                if self.transaction.c_delta(self.t.tree, k.p, k.n, DELTA_NUMBER, a.argument, NUMBER_BYTES, until):
                    return None
                return True
            a.delta.before = NULL
            a.delta.until = until
            a.delta.kind = DELTA_NUMBER
            a.delta.n = NUMBER_BYTES
            if buf_reserve(&v, 16) < 0:
                raise MemoryError("no private memory")
            if commit_delta(self.region, &self.t, k.p, k.n, &a.delta, self.timeout_ns, &v, &commit):
                return None
            if self.region.after_commit is not None:
                self.region.after_commit(commit)
            return decode_value_object(v.p, v.n, False)
        finally:
            buf_free(&self.key)
            buf_free(&self.value)
            self.key = k
            self.value = v

    # ---- scans

    def scan(self, start=None, stop=None, *, prefix=None, bint reverse=False, limit=None):
        """Pairs (key, value) in key order, at one commit: start <= key < stop, or keys with a str or bytes prefix.

        A space with index="hash" has no order: there it takes no start, stop, prefix and reverse (NotSupportedError), and gives all pairs
        in any order.

        reverse: from the end. limit: at most so many. The snapshot is held until the iterator is exhausted or closed.
        """
        return self._scan(start, stop, prefix, reverse, limit, True)

    def _scan(self, start, stop, prefix, bint reverse, limit, bint values):
        cdef bytes low = b"", high = None
        if prefix is not None:
            if start is not None or stop is not None:
                raise ValueError("prefix goes without start and stop")
            low = codec.encode_key_prefix(prefix)
            high = _prefix_end(low)
        else:
            if start is not None:
                low = codec.encode_key(start)
            if stop is not None:
                high = codec.encode_key(stop)
        if self.row.get("index") == "hash" and (low or high is not None or reverse):
            raise errors.NotSupportedError(f"{self.name!r} was created with index='hash' and has no order: no start, stop, prefix, reverse; "
                                           "a space with index='btree' has one")
        return Scan(self.store, self.region, self.transaction, self.t.tree, self.pickle, low, high, reverse, limit, values)

    def __iter__(self):
        return self._scan(None, None, None, False, None, False)

    def __reversed__(self):
        return self._scan(None, None, None, True, None, False)

    def __len__(self) -> int:
        """Exact, by counting: takes time in proportion to the space."""
        def work(Transaction t):
            cdef Cursor c = Cursor(t, self.t.tree)
            cdef int more = c.c_first()
            cdef int64_t n = 0
            while more:
                n += 1
                more = c.c_next()
            return n
        return work(self.transaction) if self.transaction is not None else self.store.reading(work)

    def clear(self):
        """Remove every key, in commits of at most 1000."""
        while True:
            keys = [k for k in self._scan(None, None, None, False, 1000, False)]
            if not keys:
                return
            self.delete_many(keys)


def _put_all(space, items, expiry_ns):
    for key, value in items:
        space.put(key, value, expiry_ns)


def _prefix_end(bytes low):
    cdef Buf b
    buf_init(&b)
    try:
        if buf_put(&b, <const char *>low, len(low)):
            raise MemoryError("no private memory")
        if key_prefix_end(&b, 0) < 0:
            return None
        return PyBytes_FromStringAndSize(<const char *>b.p, b.n)
    finally:
        buf_free(&b)


class KeySpace(Space, MutableMapping):
    """A mapping that every process of the region shares. Made by Database.kv(name) and Tx.kv(name).

    `kv[key]`, `kv.get`, `kv.put`, `kv.delete`, `kv.incr` are each one atomic step; iteration and scan() see one commit.
    pop, popitem and setdefault are single commits, too.
    """

    def pop(self, key, default=_ABSENT):
        """Remove a key and return its value."""
        def work(space):
            value = space.get(key, _ABSENT)
            if value is not _ABSENT:
                space.delete(key)
            return value
        value = self.atomically(work)
        if value is not _ABSENT:
            return value
        if default is _ABSENT:
            raise KeyError(key)
        return default

    def popitem(self):
        """Remove the first key and return it with its value."""
        def work(space):
            for key, value in space.scan(limit=1):
                space.delete(key)
                return key, value
        found = self.atomically(work)
        if found is None:
            raise KeyError(f"key space {self.name!r} is empty")
        return found

    def setdefault(self, key, default=None):
        """The value of a key, which is set to default if it was absent."""
        if self.add(key, default):
            return default
        return self.get(key, default)

    def update(self, other=(), /, **more):
        """Set all given keys in one commit."""
        items = list(other.items() if hasattr(other, "items") else other) + list(more.items())
        self.put_many(items)

    clear = Space.clear

    def __eq__(self, other):
        return self is other

    __hash__ = object.__hash__

    def __repr__(self):
        return f"<memora.KeySpace {self.name!r}>"
