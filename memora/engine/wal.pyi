# Kernels only: nothing here is called from Python; wal.pxd is the interface.
