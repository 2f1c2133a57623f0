# Kernels only: nothing here is called from Python; readset.pxd is the interface.
