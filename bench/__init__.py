"""Measures Memora beside what users would pick instead: `python -m bench` for ratios in one run, `pytest bench` for Memora alone and in detail."""
