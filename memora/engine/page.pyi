# Kernels only: nothing here is called from Python; page.pxd is the interface.
