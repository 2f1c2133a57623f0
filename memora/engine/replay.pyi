# Rebuilding a region from files: C functions only, nothing to call from Python.
