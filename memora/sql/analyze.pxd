"""Nothing of it is called from C: see analyze.pyx."""
