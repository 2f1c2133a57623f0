"""When a transaction that did not come through runs again, and how: the one rule of statements, Store.run and Database.run."""
import random

from memora import errors

TRIES = 1000
LOST_TRIES = 3              # conflicts after which the next try takes the ticket
PAUSE_S = 0.0001            # half of what the first may last, at most


class Retries:
    """The tries of one transaction. immediate: the next one takes the ticket first.

    After a conflict it runs again, at most `tries` times in all, with jittered backoff; from the fourth time on with the ticket, which has a queue
    of its own. After SnapshotTooOld it runs again once, with the ticket at once: while that stands nobody commits, so nothing is replaced, and
    no snapshot is in the way of anything. A try that had the ticket and was overtaken all the same (it was lost at its deadline) is the last.
    """

    __slots__ = ("left", "conflicts", "immediate")

    def __init__(self, tries: int = TRIES):
        if tries < 1:
            raise ValueError(f"tries must be at least 1, not {tries}")
        self.left, self.conflicts, self.immediate = tries, 0, False

    def after(self, error: errors.Error) -> float:
        """Seconds to wait before the next try, after a SerializationError or SnapshotTooOld; raises that if there is none."""
        self.left -= 1
        if self.left == 0:
            raise error
        if isinstance(error, errors.SnapshotTooOld):
            if self.immediate:
                raise error
            self.immediate = True
            return 0.0
        self.conflicts += 1
        self.immediate = self.immediate or self.conflicts >= LOST_TRIES
        return 0.0 if self.immediate else random.random() * PAUSE_S * 2 ** self.conflicts
