# Kernels only: nothing here is called from Python; btree.pxd is the interface.
