# Kernels only: nothing here is called from Python; replay.pxd is the interface.
