# Kernels only: nothing here is called from Python; room.pxd is the interface.
