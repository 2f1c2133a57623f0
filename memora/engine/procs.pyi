# Kernels only: nothing here is called from Python; procs.pxd is the interface.
