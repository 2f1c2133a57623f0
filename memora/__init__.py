"""Memora: an embedded SQL and key-value database, a cache and messaging in one shared memory region."""
