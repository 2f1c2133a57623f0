"""One interface to both indexes: a TreeRef says which it is, and these functions go to btree.pyx or to hashindex.pyx.

READERS     tree_find, at one S; what must be checked after it is told in frames.pyx. `look.seen` is the page to remember: whatever changes
            the answer gives it a new version.
WRITERS     tree_locate, then at most one of tree_put and tree_delete on that path, in the state a commit is building.
"""
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from memora.engine.btree cimport Path, delete_at, drop_pages, find, locate, put_at
from memora.engine.frames cimport Look
from memora.engine.hashindex cimport hash_delete, hash_drop, hash_find, hash_locate, hash_put
from memora.engine.layout cimport *


cdef int tree_find(mm_map *m, uint64_t s, const TreeRef *t, const uint8_t *k, size_t kn, Look *look, uint32_t *slot) noexcept nogil:
    """Where k is at commit s (MM_FOUND), or where it would be (MM_ABSENT). To be validated by the caller. MM_NO_TREE, MM_MOVED."""
    if t.hashed:
        return hash_find(m, s, t, k, kn, look, slot)
    return find(m, s, t.root, t.tree, k, kn, look, slot)


cdef int tree_locate(mm_map *m, const TreeRef *t, const uint8_t *k, size_t kn, Path *path) noexcept nogil:
    """The way to k; path.found tells whether it is there, at slot path.idx[path.depth] of page path.pgno[path.depth]."""
    if t.hashed:
        return hash_locate(m, t, k, kn, path)
    return locate(m, t.root, t.tree, k, kn, path)


cdef int tree_put(mm_map *m, const TreeRef *t, Path *path, const uint8_t *k, size_t kn, const uint8_t *v, uint64_t vn, uint64_t expiry) noexcept nogil:
    """Insert the key that was located, or replace its value."""
    if t.hashed:
        return hash_put(m, t, path, k, kn, v, vn, expiry)
    return put_at(m, path, k, kn, v, vn, expiry)


cdef int tree_delete(mm_map *m, const TreeRef *t, Path *path) noexcept nogil:
    """Remove the entry that was located."""
    if t.hashed:
        return hash_delete(m, t, path)
    return delete_at(m, path)


cdef int tree_drop(mm_map *m, const TreeRef *t) noexcept nogil:
    """Free every page and extent of a tree, the root included."""
    if t.hashed:
        return hash_drop(m, t)
    return drop_pages(m, t.root, t.tree)
