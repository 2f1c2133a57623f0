"""Scans of key spaces: iterators over keys, or pairs, of one commit.

READERS     The snapshot is announced at the first step and withdrawn with the last one, or by close(). Where nobody can write in between,
            the entries of a leaf are taken from the cursor's private copy of it; the cursor itself goes on to the next leaf, and to
            whatever is not a plain cell: extents, expiry, long keys.
"""
from libc.stdint cimport uint8_t, uint32_t, int64_t
from memora.engine.codec cimport decode_key_object, decode_value_object
from memora.engine.cursor cimport Cursor
from memora.engine.layout cimport *
from memora.engine.page cimport Entry, plain_at
from memora.engine.region cimport Region
from memora.engine.transaction cimport Transaction
cimport cython

from memora import errors
from memora.engine import codec


@cython.final
cdef class Scan:
    """Made by KeySpace.scan(). An iterator; close() gives its snapshot back before its end."""

    def __cinit__(self, store, Region region not None, Transaction transaction, uint32_t tree, bint pickle, bytes low not None, bytes high,
                  bint reverse, limit, bint values):
        self.store = store
        self.region = region
        self.transaction = transaction
        self.own = transaction is None
        self.tree = tree
        self.pickle = pickle
        self.low = low
        self.high = high
        self.reverse = reverse
        self.left = -1 if limit is None else limit
        self.values = values

    def __iter__(self):
        return self

    def __next__(self):
        if self.left and (self.plain and self.cursor is not None and self.plain_step() or self.any_step()):
            self.left -= 1
            key = decode_key_object(self.kp, self.kn)
            if not self.plain:
                self.last = key
            return (key, decode_value_object(self.vp, self.vn, self.pickle)) if self.values else key
        if self.transaction is not None:
            self.close()
        raise StopIteration

    cdef int any_step(self) except -1:
        """Go on by one entry, whatever it is; begin if need be. 0: there is none. After an error nothing comes any more."""
        try:
            return self.begin() if self.cursor is None else self.step()
        except BaseException:
            self.close()
            raise

    cdef int plain_step(self) except -1:
        """Go on by one entry inside the cursor's leaf, where it is a plain cell: 1."""
        cdef Cursor c = self.cursor
        cdef int at
        cdef Entry e
        self.transaction.check()
        if self.reverse:
            at = c.at - 1
            if at < (c.edge if c.bounded else 0):
                return 0
        else:
            at = c.at + 1
            if at >= (c.edge if c.bounded else <int>(<mm_frame *>c.page).count):
                return 0
        if not plain_at(<mm_frame *>c.page, at, self.keybuf, &e):
            return 0
        c.at = at
        c.ask()
        self.kp = e.key
        self.kn = e.kn
        self.vp = e.val
        self.vn = e.vn
        return 1

    cdef int begin(self) except -1:
        cdef int tries
        if not self.own:
            return self.first()
        for tries in range(self.store.patience - 1 if self.region.m.unregistered else 0, -1, -1):
            self.transaction = Transaction(self.region, read_only=True)
            try:
                return self.first()
            except errors.SnapshotTooOld:       # nothing was handed out yet
                if not tries:
                    raise
                self.transaction.rollback()

    cdef int first(self) except -1:
        cdef Cursor c
        cdef int more
        c = self.cursor = Cursor(self.transaction, self.tree)
        self.plain = self.transaction.read_only
        if c.of_hash():
            return self.stand(c.c_first())
        if self.reverse:
            c.c_limit(<const uint8_t *><char *>self.low, len(self.low))
        elif self.high is not None:
            c.c_limit(<const uint8_t *><char *>self.high, len(self.high))
        if not self.reverse:
            more = c.c_seek(<const uint8_t *><char *>self.low, len(self.low))
            if self.left > 8 or self.left < 0:
                c.expect(1)
            return self.stand(more)
        if self.high is None:
            return self.stand(c.c_last())
        return self.stand(c.c_seek_before(<const uint8_t *><char *>self.high, len(self.high)))

    cdef inline int stand(self, int more) except -1:
        """The entry is the cursor's."""
        self.kp = self.cursor.kp
        self.kn = self.cursor.kn
        self.vp = self.cursor.vp
        self.vn = self.cursor.vn
        return more

    cdef int step(self) except -1:
        """Go on by one entry, by the cursor: 1, or 0 at the end of the tree."""
        cdef Cursor c = self.cursor
        if not self.plain and c.writes != self.transaction.writes and not c.hashed:
            return self.again()
        return self.stand(c.c_prev() if self.reverse else c.c_next())

    cdef int again(self) except -1:
        """The caller wrote in the same transaction: seek, from the key that was given last."""
        cdef bytes key = codec.encode_key(self.last)
        if self.reverse:
            return self.stand(self.cursor.c_seek_before(<const uint8_t *><char *>key, len(key)))
        key += b"\0"
        return self.stand(self.cursor.c_seek(<const uint8_t *><char *>key, len(key)))

    cpdef close(self):
        """Withdraw the snapshot; nothing comes any more. Again: nothing happens."""
        cdef Transaction t = self.transaction
        self.left = 0
        self.cursor = None
        self.transaction = None
        if self.own and t is not None:
            t.rollback()
