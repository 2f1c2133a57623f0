# Kernels only: nothing here is called from Python; growth.pxd is the interface.
