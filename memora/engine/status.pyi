# Kernels only: nothing here is called from Python; status.pxd is the interface.
