# Kernels only: nothing here is called from Python; extents.pxd is the interface.
