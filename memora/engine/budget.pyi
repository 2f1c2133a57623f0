# Kernels only: nothing here is called from Python; budget.pxd is the interface.
