from libc.stdint cimport uint8_t, uint32_t, uint64_t, int64_t
from memora.engine.backing cimport Backing, File
from memora.engine.layout cimport mm_map, mm_super
from memora.engine.views cimport Views

cdef int64_t ATTACH_BYTE, GROW_BYTE     # of the slots file

cdef class Region:
    cdef mm_map m
    cdef void *life
    cdef bint mapped
    cdef int busy               # threads inside without the GIL
    cdef readonly bint closed
    cdef readonly str name, kind    # kind: "shm", "sysv", "memory"
    cdef readonly bint unregistered     # read-only, and without the right to write the slots file
    cdef readonly Backing backing
    cdef readonly File slots_file
    cdef list entries           # owned, idle snapshot words
    cdef public object after_commit     # callable(commit number), after each commit; None: nothing waits
    cdef public object tree_name        # callable(region, tree): the name of a table or space, for messages; None where there is none
    cdef public object flush    # callable that writes the log to the file; None without one
    cdef uint32_t epoch
    cdef readonly Views views           # what this process pins
    cdef void *child_life               # a slot made for a child that is about to be forked
    cdef uint32_t child_slot, child_gen
    cdef int as_child(self) except -1
    cdef uint64_t ticket        # the one that a transaction of this process took last
    cdef unsigned long ticket_thread    # and the thread that took it, which must not wait for it
    cdef int _map(self, Backing backing, File slots_file, mm_super *s, bint writable) except -1
    cdef int slots_open(self) except -1
    cdef int use(self) except -1
    cdef int64_t snapshot_entry(self) except -1
    cdef int give_back(self, uint32_t entry) except -1
    cdef uint32_t tree_number(self) except 0


cdef int take_lock(Region r, uint64_t timeout_ns) except -1
