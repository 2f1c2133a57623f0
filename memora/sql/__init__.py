"""Part of Memora."""
