# Kernels only: nothing here is called from Python; delta.pxd is the interface.
