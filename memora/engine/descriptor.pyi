# Kernels only: nothing here is called from Python; descriptor.pxd is the interface.
