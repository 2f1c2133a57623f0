"""Is a history of transactions serializable? A checker after Elle, small: what was read and written leads to a graph, and a cycle is an anomaly.

HISTORY     Transactions with their reads and writes of *contents*: a tuple whose last element is a token that no other write has, or None for
            "absent". So a content names its writer. A read-modify-write is a read and a write; a blind write is a write alone. A scan is a
            read of a *set* of keys, also of those that it did not find; a count is a scan of which only the number is known.
VERSIONS    of a key are in the order of the commits that wrote it (the engine's numbers, taken from the change feed). That this order is
            the true one is not believed: an order that reads contradict makes cycles, and so does a content, which names the tokens before
            its own (list-append). Absence names no writer: which one was read is told by the snapshot; where a history has none, the first.
            One absence is as good as another: what a transaction found absent may have been there and gone again before its commit; and
            a count depends on no content, only on what is there.
EDGES       ww: wrote the next version. wr: read what the other wrote. rw: read a version that the other replaced (an anti-dependency).
ANOMALIES   G1a a read of what was rolled back; G1b of what a transaction overwrote itself; internal: not what it wrote itself; garbled: of
            what nobody wrote; snapshot: not the version of its snapshot. G0 a cycle of ww; G1c of ww and wr; G-single with one rw (a lost
            update if it is about one key); G-nonadjacent with several, never two in a row; G2 with two in a row (write skew, phantoms), which
            isolation "snapshot" allows. With "-order" behind: the cycle is closed by the order of a process, or of commit and snapshot.
SOURCE      Adya, Weak Consistency (1999); Kingsbury and Alvaro, Elle (VLDB 2020); Tarjan (1972) for the components.
"""
import bisect
from collections import defaultdict, deque
from dataclasses import dataclass, field


@dataclass
class Txn:
    """ops, in their order: ("r", key, content) | ("w", key, content) | ("scan", keys, {key: content}) | ("count", keys, n)."""

    id: object
    ops: list = field(default_factory=list)
    commit: int | None = None           # number of its commit; None: it wrote nothing, or was rolled back
    snapshot: int | None = None
    aborted: bool = False
    process: object = None

    def __hash__(self):
        return hash(self.id)


@dataclass(frozen=True)
class Edge:
    source: object
    target: object
    kind: str                           # ww, wr, rw, order
    key: object
    predicate: bool = False

    def __str__(self):
        return f"{self.source} -{self.kind}{'' if self.key is None else f' {self.key}'}-> "


class History:
    def __init__(self, txns, final=None):
        """final: {key: content} at the end, checked as one more read of every key."""
        self.txns = list(txns)
        self.anomalies = []
        self.edges = []
        keys = {op[1] for t in self.txns for op in t.ops if op[0] in "rw"} | {k for t in self.txns for op in t.ops if op[0] in ("scan", "count") for k in op[1]}
        self.writers = {}               # token -> (transaction, key, content, is its last)
        self.versions = {key: [(None, None, 0)] for key in keys}        # key -> [(content, writer, commit)]
        for t in self.txns:
            own = {}
            for op in t.ops:
                if op[0] == "w":
                    if op[2] is not None:
                        assert op[2][-1] not in self.writers, f"token {op[2][-1]} is written twice"
                        self.writers[op[2][-1]] = (t, op[1], op[2])
                    own[op[1]] = op[2]
            t.final = own
        for t in sorted((t for t in self.txns if t.commit is not None and not t.aborted and t.final), key=lambda t: t.commit):
            for key, content in t.final.items():
                if content is not None or self.versions[key][-1][0] is not None:
                    self.versions[key].append((content, t, t.commit))
        if final is not None:
            last = max((t.commit for t in self.txns if t.commit), default=0)
            self.txns.append(Txn("final", [("scan", sorted(keys, key=repr), {k: c for k, c in final.items() if c is not None})], snapshot=last))
            self.txns[-1].final = {}

    def say(self, name, t, what):
        self.anomalies.append(f"{name}: {t.id} {what}")

    def at(self, key, snapshot):
        """Index of the version of a key at a commit."""
        i = 0
        for i in range(len(self.versions[key]) - 1, -1, -1):
            if self.versions[key][i][2] <= snapshot:
                break
        return i

    def saw(self, t, key, content, predicate=False, counted=False):
        """t read this content, or (counted) only that there is one, and did not write it itself: edges, and what is wrong with it by itself."""
        versions = self.versions[key]
        if content is None:
            i = 0
            if t.snapshot is not None:
                i = self.at(key, t.snapshot)
                if versions[i][0] is not None:
                    return self.say("snapshot", t, f"read {key} as absent at {t.snapshot}; it was {versions[i][0]}")
        else:
            writer, where, written = self.writers.get(content[-1], (None, None, None))
            if writer is None or where != key or written != content:
                return self.say("garbled", t, f"read {key} as {content}, which nobody wrote")
            if writer.aborted:
                return self.say("G1a", t, f"read {key} as {content}, which {writer.id} wrote and took back")
            if writer.final[key] != content:
                return self.say("G1b", t, f"read {key} as {content}, which {writer.id} overwrote itself")
            i = next((i for i, v in enumerate(versions) if v[1] is writer), None)
            if i is None:
                return self.say("G1a", t, f"read {key} as {content} of {writer.id}, whose commit is not known")
            if t.snapshot is not None and i != self.at(key, t.snapshot):
                self.say("snapshot", t, f"read {key} as {content} of commit {versions[i][2]} at {t.snapshot}")
        if versions[i][1] not in (None, t):
            self.edges.append(Edge(versions[i][1].id, t.id, "wr", key, predicate))
        def same(version):
            return (version[0] is None) == (content is None) if counted else version[0] == content
        if t.commit is not None and same(versions[self.at(key, t.commit - 1)]):
            i = max(i, self.at(key, t.commit - 1))
        while i + 1 < len(versions) and same(versions[i + 1]):
            i += 1
        if i + 1 < len(versions) and versions[i + 1][1] is not t:
            self.edges.append(Edge(t.id, versions[i + 1][1].id, "rw", key, predicate))

    def build(self):
        for t in self.txns:
            if t.aborted:
                continue
            own = {}
            for op in t.ops:
                if op[0] == "w":
                    own[op[1]] = op[2]
                    continue
                if op[0] == "count":
                    if t.snapshot is None:
                        self.say("internal", t, "a count needs a snapshot")
                        continue
                    there = {k: own[k] if k in own else self.versions[k][self.at(k, t.snapshot)][0] for k in op[1]}
                    n = sum(c is not None for c in there.values())
                    if n != op[2]:
                        self.say("snapshot", t, f"counted {op[2]} keys where {n} are at {t.snapshot}")
                else:
                    there = {op[1]: op[2]} if op[0] == "r" else {k: op[2].get(k) for k in op[1]}
                for key, content in there.items():
                    if key in own:
                        if content != own[key]:
                            self.say("internal", t, f"read {key} as {content} after it wrote {own[key]}")
                    else:
                        self.saw(t, key, content, op[0] != "r", op[0] == "count")
        for key, versions in self.versions.items():
            for content, t, _ in versions:
                for a, b in zip(content or (), (content or ())[1:]):
                    a, b = self.writers.get(a, [None])[0], self.writers.get(b, [None])[0]
                    if a is not None and b is not None and a is not b:
                        self.edges.append(Edge(a.id, b.id, "ww", key))
            for (_, a, _), (_, b, _) in zip(versions[1:], versions[2:]):
                if a is not b:
                    self.edges.append(Edge(a.id, b.id, "ww", key))

    def ordered(self, level):
        """Edges of the orders that a user relies on without reading anything: of a process; a commit before the snapshots that follow it;
        if serializable, a commit before the next one. ("at", n) stands for commit n and all before it."""
        last = {}
        for t in self.txns:
            if t.process is not None and not t.aborted:
                if t.process in last:
                    yield Edge(last[t.process].id, t.id, "order", None)
                last[t.process] = t
        done = sorted((t for t in self.txns if t.commit is not None and not t.aborted), key=lambda t: t.commit)
        number = [t.commit for t in done]
        for a, b in zip(number, number[1:]):
            yield Edge(("at", a), ("at", b), "order", None)
        for t, before in zip(done, [None, *number]):
            yield Edge(t.id, ("at", t.commit), "order", None)
            if level == "serializable" and before is not None:
                yield Edge(("at", before), t.id, "order", None)
        for t in self.txns:
            i = bisect.bisect_right(number, t.snapshot) if t.snapshot is not None and not t.aborted else 0
            if i and done[i - 1] is not t:
                yield Edge(("at", number[i - 1]), t.id, "order", None)

    def check(self, level="serializable", order=True):
        """What is wrong, as lines that begin with an anomaly's name; the cycles with the shortest way around."""
        self.build()
        cycle = find_cycle(self.edges, level)
        if cycle is not None:
            self.anomalies.append(told(cycle))
        elif order:
            cycle = find_cycle([*self.edges, *self.ordered(level)], level)
            if cycle is not None:
                self.anomalies.append(told(cycle))
        return self.anomalies


def told(cycle):
    name, edges = cycle
    return f"{name}: {''.join(map(str, edges))}{edges[0].source}"


def components(edges):
    """Strongly connected components of more than one node, by Tarjan, without recursion."""
    out = defaultdict(list)
    for e in edges:
        out[e.source].append(e.target)
    index, low, on, stack, found = {}, {}, set(), [], []
    for root in list(out):
        if root in index:
            continue
        work = [(root, iter(out[root]))]
        index[root] = low[root] = len(index)
        stack.append(root)
        on.add(root)
        while work:
            node, rest = work[-1]
            for target in rest:
                if target not in index:
                    index[target] = low[target] = len(index)
                    stack.append(target)
                    on.add(target)
                    work.append((target, iter(out[target])))
                    break
                if target in on:
                    low[node] = min(low[node], index[target])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == index[node]:
                    part = set()
                    while node not in part:
                        part.add(stack.pop())
                    on -= part
                    if len(part) > 1:
                        found.append(part)
    return found


def way(edges, source, target, alternate=False):
    """The shortest way between two nodes as edges, or None. alternate: never two rw in a row, nor at either end."""
    out = defaultdict(list)
    for e in edges:
        out[e.source].append(e)
    start = (source, alternate)             # the edge that this way will close is an rw
    before = {start: None}
    queue = deque([start])
    while queue:
        node, was_rw = state = queue.popleft()
        for e in out[node]:
            if alternate and was_rw and e.kind == "rw":
                continue
            if e.target == target and not (alternate and e.kind == "rw"):
                path = [e]
                while before[state] is not None:
                    edge, state = before[state]
                    path.append(edge)
                return path[::-1]
            after = (e.target, alternate and e.kind == "rw")
            if after not in before:
                before[after] = (e, state)
                queue.append(after)
    return None


def find_cycle(edges, level):
    """(name, edges around) of the worst kind of cycle there is; None if there is none that the level forbids."""
    for name, kinds in (("G0", ("ww",)), ("G1c", ("ww", "wr")), ("G1c", ("ww", "wr", "order"))):
        some = [e for e in edges if e.kind in kinds]
        shortest = None
        for part in components(some):
            inside = [e for e in some if e.source in part and e.target in part]
            for node in part:
                round_ = way(inside, node, node)
                if round_ and (shortest is None or len(round_) < len(shortest)):
                    shortest = round_
        if shortest:
            return name + suffix(shortest), shortest
    found = {}
    for part in components(edges):
        inside = [e for e in edges if e.source in part and e.target in part]
        plain = [e for e in inside if e.kind != "rw"]
        for e in inside:
            if e.kind != "rw":
                continue
            for name, some, alternate in (("G-single", plain, False), ("G-nonadjacent", inside, True), ("G2", inside, False)):
                if name == "G2" and level == "snapshot":
                    continue
                back = way(some, e.target, e.source, alternate)
                if back:
                    round_ = [e, *back]
                    if name not in found or len(round_) < len(found[name]):
                        found[name] = round_
                    break
    for name in ("G-single", "G-nonadjacent", "G2"):
        if name in found:
            round_ = found[name]
            if name == "G-single" and len({e.key for e in round_}) == 1 and any(e.kind == "ww" for e in round_):
                name = "lost update"
            elif any(e.predicate and e.kind == "rw" for e in round_):
                name += " phantom"
            return name + suffix(round_), round_
    return None


def suffix(edges):
    return "-order" if any(e.kind == "order" for e in edges) else ""
