# Kernels only: nothing here is called from Python; tree.pxd is the interface.
