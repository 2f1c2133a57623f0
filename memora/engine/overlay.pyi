# Kernels only: nothing here is called from Python; overlay.pxd is the interface.
