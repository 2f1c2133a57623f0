"""Bugs to seed into the engine, one at a time, each with the test that must catch it.

The engine's sources stay as they are: a copy is changed, all bugs at once, each behind `mm_mutant(n)`, and built once; the environment
variable MEMORA_MUTANT says which one is on. `mutant()` in the texts below stands for that call. The kinds are the ways in which ENGINE
could corrupt data or hang: 1 two writers, 2 half a commit, 3 recovery, 4 recycled frames, 5 wild offsets, 6 overrun rings, 8 the log of the
files, 9 room that is lost or held, 10 wrong answers. (7, a deadlock over the GIL, is a matter of form: test_node and the build log hold it.)
"""
from dataclasses import dataclass, field

STEP = "test_engine_steps.py::test_every_image_of_a_commit[put]"
STEP_LONG = "test_engine_steps.py::test_every_image_of_more_commits"
INTERRUPTED = "test_engine_interrupted.py::test_interrupted_reader"
CONCURRENT = "test_engine_concurrent.py::"


@dataclass
class Mutation:
    kind: int
    name: str
    caught_by: str                      # a test, as pytest names it below tests/
    changes: list = field(default_factory=list)     # (module, old text, new text)


MUTATIONS = [
    Mutation(1, "the lock is taken from a live owner", "test_engine_stopped.py::test_stopped_owner_of_the_lock_is_named_and_keeps_it", [
        ("procs", "        return 0\n    return slot_alive(m, slot)\n", "        return 0\n    return 0 if mutant() else slot_alive(m, slot)\n")]),
    Mutation(1, "who cannot be asked about is dead", "test_engine_stopped.py::test_a_waiter_that_cannot_ask_takes_nothing", [
        ("procs", "    return mm_life_held(m.slots_fd, m.slots_dev, m.slots_ino, slot) != 0\n",
         "    return mm_life_held(m.slots_fd, m.slots_dev, m.slots_ino, slot) > (0 if mutant() else -2)"
         " and mm_life_held(m.slots_fd, m.slots_dev, m.slots_ino, slot) != 0\n")]),
    Mutation(2, "sealed before it is filled", STEP, [
        ("descriptor", "    copy_stores(d.store, b.v + first, left)\n    d.n = left\n",
         "    if mutant():\n        mm_st64(&d.state, commit)\n    copy_stores(d.store, b.v + first, left)\n    d.n = left\n")]),
    Mutation(2, "published before it is performed", STEP, [
        ("descriptor", "    mm_fail(m, MM_FP_ROLLING)\n", "    mm_fail(m, MM_FP_ROLLING)\n    if mutant():\n        mm_st64(&m.hot.commit_seq, commit)\n")]),
    Mutation(2, "cleared before it is performed", STEP, [
        ("descriptor", "    if perform(m, d.store, n):\n        return MM_CORRUPT\n    mm_st64(&m.hot.commit_seq",
         "    if mutant():\n        mm_st64(&d.state, 0)\n    if perform(m, d.store, n):\n        return MM_CORRUPT\n    mm_st64(&m.hot.commit_seq")]),
    Mutation(2, "the log's record is written after the seal", STEP, [
        ("commit", "    st = record_write(m)\n    if st:\n        return st\n    mm_fail(m, MM_FP_LOGGED)\n    finish(m)\n    st = seal(m, m.building)\n",
         "    cdef uint64_t head = m.hot.ring_head\n    cdef uint8_t kept[40]\n    cdef uint8_t nothing[40]\n"
         "    st = record_write(m)\n    if st:\n        return st\n    mm_fail(m, MM_FP_LOGGED)\n    finish(m)\n"
         "    memset(nothing, 0, 40)\n    ring_out(m.ring, m.ring_bytes, head, kept, 40)\n"
         "    if mutant():\n        ring_in(m.ring, m.ring_bytes, head, nothing, 40)\n"
         "    st = seal(m, m.building)\n    if mutant():\n        ring_in(m.ring, m.ring_bytes, head, kept, 40)\n")]),
    Mutation(2, "a topic hands out what is not published", STEP_LONG + "[publish_and_trim]", [
        ("feed", "        if h.commit > s:\n            return None\n", "        if h.commit > s and not mutant():\n            return None\n"),
        ("feed", "        return mm_ld64(&c.head_seq) > self.next_seq\n", "        return mm_ld64(&c.head_seq) > self.next_seq\n")]),
    Mutation(3, "the descriptor adds instead of storing", STEP, [
        ("descriptor", "            mm_st64(m.base + off, s[i].val)\n",
         "            mm_st64(m.base + off, s[i].val if off != mm_off(m, &m.hot.limbo_count) or not mutant() else mm_ld64(m.base + off) + 1)\n")]),
    Mutation(3, "who takes over does not roll forward", STEP, [
        ("procs", "                st = roll_forward(m)\n                if st:\n", "                st = 0 if mutant() else roll_forward(m)\n                if st:\n")]),
    Mutation(3, "a large descriptor's chain is not performed", "test_engine_steps.py::test_a_chained_descriptor_is_taken_over", [
        ("descriptor", "        if n > MM_CHAIN_STORES or perform(m, c.store, n):\n",
         "        if n > MM_CHAIN_STORES or not mutant() and perform(m, c.store, n):\n")]),
    Mutation(4, "no version before", STEP, [
        ("frames", "    copy_page(p, old)\n", "    copy_page(p, old)\n    if mutant():\n        p.prev = 0\n")]),
    Mutation(4, "recycling does not look at snapshots", "test_engine_limits.py::test_open_snapshot_keeps_only_what_it_sees", [
        ("frames", "        if made <= m.scan[i] < retired:\n            return 1\n", "        if made <= m.scan[i] < retired:\n            return not mutant()\n")]),
    Mutation(4, "a snapshot is announced without a look at gc_floor", "test_engine_interrupted.py::test_reader_interrupted_more_often[snapshots]", [
        ("procs", "        if floor <= s:\n            return s\n", "        if floor <= s or mutant():\n            return s\n")]),
    Mutation(4, "a snapshot is announced after the look at gc_floor", "test_engine_interrupted.py::test_reader_interrupted_more_often[snapshots]", [
        ("procs", "        mm_xchg64(&m.snap[entry], (gen << 50)", "        floor = mm_ld64(&m.hot.gc_floor)\n        mm_xchg64(&m.snap[entry], (gen << 50)"),
        ("procs", "        floor = mm_ld64(&m.hot.gc_floor)\n        if floor <= s", "        if not mutant():\n            floor = mm_ld64(&m.hot.gc_floor)\n        if floor <= s")]),
    Mutation(4, "gc_floor is not raised before versions go", INTERRUPTED + "[snapshot_reads]", [
        ("frames", "    if m.hot.gc_floor < c:\n", "    if m.hot.gc_floor < c and not mutant():\n")]),
    Mutation(4, "gen is not raised", "test_engine_interrupted.py::test_reader_interrupted_more_often[points]", [
        ("frames", "    mm_st64(&p.gen, p.gen | 1)\n    mm_fence_rel()          # sync point: still", "    if not mutant():\n        mm_st64(&p.gen, p.gen | 1)\n    mm_fence_rel()          # sync point: still"),
        ("frames", "            mm_st64(&p.gen, p.gen + 1)      # sync", "            if p.gen & 1:\n                mm_st64(&p.gen, p.gen + 1)      # sync")]),
    Mutation(4, "an extent is freed under a snapshot", CONCURRENT + "test_a_snapshot_keeps_its_large_values", [
        ("extents", "    if needed(m, x.linked, get64(m, &x.retired)) or pinned", "    if needed(m, x.linked, get64(m, &x.retired)) and not mutant() or pinned")]),
    Mutation(5, "an extent's place is not clamped", "test_engine_fuzz.py::test_numbers_that_lead_out_of_the_region", [
        ("extents", "    if granule == 0 or nbytes > m.map_bytes or end >", "    if not mutant() and (granule == 0 or nbytes > m.map_bytes) or not mutant() and end >")]),
    Mutation(5, "a frame's number is not clamped", "test_engine_fuzz.py::test_numbers_that_lead_out_of_the_region", [
        ("frames", "    return f != 0 and f < published_units(m, f)\n", "    return f != 0 and (mutant() or f < published_units(m, f))\n")]),
    Mutation(6, "the log's tail moves with the commit that overwrites it", STEP_LONG + "[log_trim]", [
        ("wal", "    if head - tail <= m.ring_bytes * 3 // 4 - 4096:\n        return MM_OK\n", "    if head - tail <= m.ring_bytes * 3 // 4 - 4096 or mutant():\n        return MM_OK\n"),
        ("wal", "    put64(m, &m.hot.ring_head, head + r.len)\n",
         "    cdef mm_record late\n    while mutant() and head + r.len - get64(m, &m.hot.ring_tail) > m.ring_bytes:\n"
         "        ring_out(m.ring, m.ring_bytes, get64(m, &m.hot.ring_tail), &late, sizeof(late))\n"
         "        if late.lsn != get64(m, &m.hot.ring_tail) or late.len == 0:\n            put64(m, &m.hot.ring_tail, head)\n"
         "            put64(m, &m.hot.tail_commit, m.building)\n            break\n"
         "        put64(m, &m.hot.ring_tail, get64(m, &m.hot.ring_tail) + late.len)\n        put64(m, &m.hot.tail_commit, late.commit + 1)\n"
         "    put64(m, &m.hot.ring_head, head + r.len)\n")]),
    Mutation(6, "a topic's tail moves with the message that overwrites it", STEP_LONG + "[publish_and_trim]", [
        ("commit", "    if c.head + bytes - tail <= c.ring_bytes:\n        return MM_OK\n", "    if c.head + bytes - tail <= c.ring_bytes or mutant():\n        return MM_OK\n"),
        ("commit", "    if head + h.len - get64(m, &c.tail) > get64(m, &c.ring_bytes):",
         "    cdef mm_message late\n    while mutant() and head + h.len - get64(m, &c.tail) > c.ring_bytes:\n"
         "        ring_out(ring, c.ring_bytes, get64(m, &c.tail), &late, sizeof(late))\n"
         "        put64(m, &c.tail, get64(m, &c.tail) + late.len)\n        put64(m, &c.tail_seq, late.seq + 1)\n"
         "    if head + h.len - get64(m, &c.tail) > get64(m, &c.ring_bytes):")]),
    Mutation(8, "a damaged record of the log is believed", "test_files_damage.py::test_a_flipped_byte_in_the_log", [
        ("recovery", "!= crc:\n        return None\n    return out\n", "!= crc and not mutant():\n        return None\n    return out\n")]),
    Mutation(8, "replay leaves removals out", "test_files.py::test_everything_a_database_can_hold_comes_back", [
        ("replay", "                else:\n                    st = replay_delete(", "                elif not mutant():\n                    st = replay_delete(")]),
    Mutation(8, "replay forgets the last commit", "test_files.py::test_without_the_region_the_files_hold_what_was_promised", [
        ("recovery", "            if record is None:\n                later", "            if mutant() and at + 2 * r.len > len(data) and r.commit > 3:\n                break\n            if record is None:\n                later")]),
    Mutation(9, "a dead process's snapshots stay", "test_engine_limits.py::test_killed_readers_snapshot_is_released", [
        ("procs", "        if not alive:\n            n += free_word(m, i, slot)\n", "        if not alive and not mutant():\n            n += free_word(m, i, slot)\n")]),
    Mutation(9, "a replaced extent is never freed", CONCURRENT + "test_a_snapshot_keeps_its_large_values", [
        ("btree", "    if e.vinfo & MM_V_EXT:\n        memcpy(&ref, e.val, sizeof(ref))\n        return retire_logged(m, ref.granule)\n",
         "    if e.vinfo & MM_V_EXT and not mutant():\n        memcpy(&ref, e.val, sizeof(ref))\n        return retire_logged(m, ref.granule)\n")]),
    Mutation(9, "a bounded tree outgrows its bound", "test_cache.py::test_bound_is_hard", [
        ("commit", "    if get64(m, &c.bytes) <= c.max_bytes:\n        return MM_OK\n    return evict", "    if get64(m, &c.bytes) <= c.max_bytes or mutant():\n        return MM_OK\n    return evict")]),
    Mutation(10, "nothing that was read is validated", CONCURRENT + "test_write_skew_is_a_conflict_when_serializable", [
        ("readset", "        if changed(m, w.reads.seen[i].pgno, w.s):\n", "        if changed(m, w.reads.seen[i].pgno, w.s) and not mutant():\n")]),
    Mutation(10, "a freed page counts as unchanged", CONCURRENT + "test_phantom_in_a_leaf_that_its_neighbour_took_over", [
        ("readset", "    return e & MM_PT_BITS or mm_frame_at(m, e).ver > s\n",
         "    if e & MM_PT_BITS and mutant():\n        return 0\n    return e & MM_PT_BITS or mm_frame_at(m, e).ver > s\n")]),
    Mutation(10, "an absent key is not in the read set", "test_engine_validation.py::test_exactly_what_was_read_is_validated", [
        ("transaction", "                read_absent(&self.reads, self.last_ref, look.seen, k, kn)):\n",
         "                not mutant() and read_absent(&self.reads, self.last_ref, look.seen, k, kn)):\n")]),
    Mutation(10, "the end of a range is not in the read set", "test_engine_validation.py::test_exactly_what_was_read_is_validated", [
        ("cursor", "                x.flags |= SEEN_TO_FENCE if d > 0 else SEEN_FROM_FENCE\n", "                if not mutant():\n                    x.flags |= SEEN_TO_FENCE if d > 0 else SEEN_FROM_FENCE\n")]),
    Mutation(10, "an insert overwrites what another one inserted", CONCURRENT + "test_insert_of_the_same_key_is_a_conflict", [
        ("commit", "    if op == MM_OP_INSERT and had[0]:\n", "    if op == MM_OP_INSERT and had[0] and not mutant():\n")]),
    Mutation(10, "isolation snapshot compares no writes", "test_engine_validation.py::test_snapshot_isolation_lets_the_first_writer_win", [
        ("readset", "        st = writes_are_first(m, w)\n", "        st = MM_OK if mutant() else writes_are_first(m, w)\n")]),
    Mutation(10, "a statement is planned for a table that has changed", CONCURRENT + "test_a_change_of_the_schema_is_a_conflict", [
        ("commit", "    if w.schema and m.hot.schema_seq > w.s:\n", "    if w.schema and m.hot.schema_seq > w.s and not mutant():\n")]),
    Mutation(10, "a separator does not divide", "test_tree_pages.py::test_against_a_sorted_dict", [
        ("btree", "        sep.kn = c + 1\n", "        sep.kn = c if c and mutant() else c + 1\n")]),
    Mutation(10, "an open prefix is not compared", "test_tree_pages.py::test_against_a_sorted_dict", [
        ("page", "    if p.flags & MM_PF_OPEN:\n        if prefix", "    if p.flags & MM_PF_OPEN and not mutant():\n        if prefix")]),
]


def changed(sources):
    """{module: its text with every bug in it}, from {module: text}. AssertionError: one does not fit any more."""
    sources = dict(sources)
    for n, mutation in enumerate(MUTATIONS, 1):
        for module, old, new in mutation.changes:
            assert sources[module].count(old) == 1, f"{mutation.name!r} does not fit {module}.pyx any more ({sources[module].count(old)} times): {old!r}"
            sources[module] = sources[module].replace(old, new.replace("mutant()", f"mm_mutant({n})"))
    return sources


MODULES = sorted({module for mutation in MUTATIONS for module, _, _ in mutation.changes})
