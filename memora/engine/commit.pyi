# Kernels only: nothing here is called from Python; commit.pxd is the interface.
