"""The SQL session of transactions: one after the other, so that statements are parsed and planned once and not once a transaction."""
from __future__ import annotations

from memora.sql.session import Session


class TransactionSession(Session):
    """A session that works in a transaction somebody else ends, and then in the next one. Kept by Database between transactions."""

    def join(self, transaction):
        """Work in this engine transaction from now on."""
        self._transaction = transaction
        self._savepoints.clear()
        self.watch.forget()
        self.refresh()

    def refresh(self):
        """Look at the catalog anew: it was changed beside this session, or a change of it was rolled back."""
        if self._dirty:
            self._dirty, self._version = False, None
